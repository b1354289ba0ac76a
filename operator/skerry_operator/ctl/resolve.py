"""`skerry resolve`: a file of a Hugging Face repository -> the finished source, pinned for ever."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from typing_extensions import override

from skerry_operator.ctl.answer import Answer, Declined
from skerry_operator.ctl.files import read_text
from skerry_operator.ctl.table import as_json

HUB = "https://huggingface.co"
TIMEOUT_S = 30.0
MAX_HOPS = 5
_CHUNK = 1 << 20
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_FORM = re.compile(rf"hf://({_NAME})/({_NAME})/([^@?#\s]+)(?:@([^@?#\s]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ResolveWish:
    """What is to be resolved, and whom to ask."""

    uri: str
    endpoint: str = HUB
    token_file: str | None = None


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: what is asked for stands in the first answer."""

    @override
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def resolve(wish: ResolveWish, *, json: bool) -> Answer:
    """Print the source with its commit and sha256.

    Raises:
        Declined: no such file, or the hub does not say what it is.
    """
    found = _FORM.fullmatch(wish.uri)
    if found is None:
        raise Declined(
            f"{wish.uri}: write hf://ORG/REPO/FILE, or with @BRANCH, @TAG or @COMMIT; or "
            "oci://REGISTRY/REPOSITORY:TAG"
        )
    org, repo, path, revision = found.groups()
    token = _token(wish.token_file)
    base = f"{wish.endpoint.rstrip('/')}/{org}/{repo}/resolve"
    head = _head(f"{base}/{quote(revision or 'main', safe='')}/{path}", token)
    commit = head.get("X-Repo-Commit", "")
    if not _COMMIT.fullmatch(commit):
        raise Declined(f"{wish.uri}: {wish.endpoint} names no commit: is it a Hugging Face hub?")
    sha256 = head.get("X-Linked-ETag", "").strip('"')
    if not _SHA256.fullmatch(sha256):  # a small file, which Git itself keeps
        sha256 = _hashed(f"{base}/{commit}/{path}", token)
    source = {"uri": f"hf://{org}/{repo}/{path}@{commit}", "sha256": sha256}
    lines = ("source:", *(f"  {name}: {value}" for name, value in source.items()))
    return Answer(as_json({"source": source}) if json else "\n".join(lines))


def _token(file: str | None) -> str | None:
    if file is None:
        return None
    words = read_text(file).split()
    if len(words) != 1:
        raise Declined(f"{file}: {len(words)} words, a token is one")  # never the words themselves
    return words[0]


def _request(url: str, token: str | None, method: str) -> urllib.request.Request:
    if urlsplit(url).scheme not in ("http", "https"):
        raise Declined(f"{url}: no http or https address: correct --endpoint")
    asked = urllib.request.Request(url, method=method)  # noqa: S310 (checked above)
    if token:
        asked.add_unredirected_header("Authorization", f"Bearer {token}")
    return asked


def _head(url: str, token: str | None) -> Message:
    """Return the head of the answer that tells; a repository may have been renamed meanwhile."""
    opener = urllib.request.build_opener(_Stays())
    place = url
    for _ in range(MAX_HOPS):
        try:
            with opener.open(_request(place, token, "HEAD"), timeout=TIMEOUT_S) as answer:
                head: Message = answer.headers
                return head
        except urllib.error.HTTPError as error:
            target = urljoin(place, error.headers.get("Location", ""))
            if error.code in (301, 302, 303, 307, 308):
                if "X-Linked-ETag" in error.headers or _host(target) != _host(url):
                    return error.headers
                place = target
                continue
            raise Declined(f"{url}: HTTP {error.code}{_remedy(error.code)}") from error
        except (OSError, HTTPException) as error:
            raise _unreached(url, error) from error
    raise Declined(f"{url}: more than {MAX_HOPS} redirects")


def _host(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _remedy(code: int) -> str:
    if code in (401, 403):
        return ": a gated or private repository needs --token-file"
    return ": is the name right?" if code == 404 else ""


def _hashed(url: str, token: str | None) -> str:
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(  # noqa: S310 (checked where it is made)
            _request(url, token, "GET"), timeout=TIMEOUT_S
        ) as answer:
            while chunk := answer.read(_CHUNK):
                digest.update(chunk)
    except (OSError, HTTPException) as error:
        raise _unreached(url, error) from error
    return digest.hexdigest()


def _unreached(url: str, error: Exception) -> Declined:
    reason = getattr(error, "reason", error)
    return Declined(f"{url}: {reason}: does --endpoint name the hub, and is it up?")
