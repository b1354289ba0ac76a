"""AWS Signature Version 4. Pure.

Written after the description in the documentation of Amazon S3, "Authenticating Requests: Using
the Authorization Header"; its examples are the tests.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class AccessKey:
    """Who asks."""

    id: str
    secret: str = field(repr=False)
    region: str
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Asked:
    """What a request does, and the sha256 of its body."""

    method: str = "GET"
    payload_sha256: str = _EMPTY


_GET = Asked()


def signed(
    url: str,
    headers: Mapping[str, str],
    key: AccessKey,
    now: datetime,
    service: str = "s3",
    asked: Asked = _GET,
) -> dict[str, str]:
    """Return the headers of a request with its signature.

    Args:
        url: the address, its path percent-encoded as it will be sent.
        headers: headers of the request that are signed as well.
        key: who asks.
        now: the time in UTC, as the server's clock has it.
        service: name of the service.
        asked: the request; a GET unless it says another thing.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-content-sha256": asked.payload_sha256, "x-amz-date": stamp}
    if key.session_token:
        added["x-amz-security-token"] = key.session_token
    parts = urlsplit(url)
    lines = {"host": parts.netloc, **{k.lower(): v.strip() for k, v in headers.items()}, **added}
    names = ";".join(sorted(lines))
    canonical = "\n".join(
        [
            asked.method,
            parts.path or "/",
            _query(parts.query),
            *(f"{name}:{lines[name]}" for name in sorted(lines)),
            "",
            names,
            asked.payload_sha256,
        ]
    )
    scope = f"{stamp[:8]}/{key.region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([_ALGORITHM, stamp, scope, digest])
    signature = hmac.new(_signing_key(key, scope), text.encode(), hashlib.sha256).hexdigest()
    authorization = (
        f"{_ALGORITHM} Credential={key.id}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return {**headers, **added, "Authorization": authorization}


def encoded(path: str) -> str:
    """Percent-encode the path of an object: all but what is unreserved, and the slashes."""
    return quote(path, safe="/-_.~")


def _query(query: str) -> str:
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in _pairs(query))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def _signing_key(key: AccessKey, scope: str) -> bytes:
    found = f"AWS4{key.secret}".encode()
    for part in scope.split("/"):
        found = hmac.new(found, part.encode(), hashlib.sha256).digest()
    return found
