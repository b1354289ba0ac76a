"""A registry as `skerry push` and `skerry resolve` ask it, with the user's own docker login.

After the OCI distribution specification. The user's machine asks, never the operator.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

from typing_extensions import override

from skerry_operator.ctl.answer import Declined

TIMEOUT_S = 60.0
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""As much as the specification wants registries to take of a manifest."""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_ACCEPT = ", ".join(
    (
        MANIFEST,
        INDEX,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_HUB_NAMES = frozenset({*_DOCKER_HUB, *_DOCKER_HUB.values(), "auth.docker.io"})
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_FORM = re.compile(
    r"oci://(?P<registry>[A-Za-z0-9.-]+(?::\d{1,5})?)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?(?:#(?P<path>[!-~]+))?",
    re.ASCII,
)
_FIELD = re.compile(r'([a-z_]+)="([^"]*)"', re.IGNORECASE)


@dataclass(frozen=True)
class OciReference:
    """What an address of a registry names."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None
    path: str | None

    @property
    def name(self) -> str:
        """The address without tag, digest and file."""
        return f"oci://{self.registry}/{self.repository}"

    @property
    def version(self) -> str:
        """What the manifest is asked for by."""
        return self.digest or self.tag or "latest"


def reference_of(uri: str) -> OciReference:
    """Return the parts of an address.

    Raises:
        Declined: it is none.
    """
    found = _FORM.fullmatch(uri)
    if found is None:
        raise Declined(f"{uri}: write oci://REGISTRY/REPOSITORY:TAG, or @sha256:DIGEST after it")
    return OciReference(**found.groupdict())


@dataclass(frozen=True)
class RegistryWish:
    """Which registry to ask, and how."""

    uri: str
    config: str | None = None
    """File of docker login; None: the usual one, if it is there."""
    plain_http: bool = False


class _NoWeaker(urllib.request.HTTPRedirectHandler):
    """Follows no redirect from https to http; credentials follow none at all."""

    @override
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise Declined(f"{req.full_url}: redirects from https to {newurl}: refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass
class RegistryClient:
    """One repository of one registry."""

    reference: OciReference
    is_plain: bool = False
    user: str | None = field(default=None, repr=False)
    """The header of docker login for it."""
    actions: str = "pull"
    _shown: str | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, wish: RegistryWish, actions: str = "pull") -> RegistryClient:
        """Return the client for an address.

        Raises:
            Declined: no address, or a file of docker login that cannot be used.
        """
        reference = reference_of(wish.uri)
        return cls(reference, wish.plain_http, user_of(wish.config, reference.registry), actions)

    @property
    def base(self) -> str:
        """Where the repository is asked."""
        host = _DOCKER_HUB.get(self.reference.registry, self.reference.registry)
        return f"http{'' if self.is_plain else 's'}://{host}/v2/{self.reference.repository}"

    def manifest(self, version: str) -> bytes:
        """Return a manifest, as it is.

        Raises:
            Declined: there is none, or it is another one than its digest says.
        """
        headers = {"Accept": _ACCEPT}
        with self._asked("GET", f"{self.base}/manifests/{version}", headers) as answer:
            body = answer.read(MAX_DOCUMENT_BYTES + 1)
        if len(body) > MAX_DOCUMENT_BYTES:
            raise Declined(f"{self.reference.name}: a manifest of more than 4 MiB: refused")
        if version.startswith("sha256:") and digest_of(body) != version:
            raise Declined(f"{self.reference.name}: the registry sent another manifest: {version}")
        return body

    @contextmanager
    def blob(self, digest: str) -> Iterator[HTTPResponse]:
        """Open a blob."""
        with self._asked("GET", f"{self.base}/blobs/{digest}", {}) as answer:
            yield answer

    def has_blob(self, digest: str) -> bool:
        """Tell whether the repository has a blob already."""
        try:
            with self._asked("HEAD", f"{self.base}/blobs/{digest}", {}):
                return True
        except _Missing:
            return False

    def put_blob(self, digest: str, size: int, body: IO[bytes] | bytes) -> None:
        """Upload a blob in one piece."""
        with self._asked("POST", f"{self.base}/blobs/uploads/", {}, b"") as answer:
            place = urljoin(self.base, answer.headers.get("Location", ""))
        joint = "&" if "?" in place else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._asked("PUT", f"{place}{joint}digest={digest}", headers, body):
            pass

    def put_manifest(self, version: str, body: bytes, kind: str = MANIFEST) -> bool:
        """Upload a manifest under a tag, or its digest; tell whether its subject was noted."""
        headers = {"Content-Type": kind}
        with self._asked("PUT", f"{self.base}/manifests/{version}", headers, body) as answer:
            return bool(answer.headers.get("OCI-Subject"))

    def index_at(self, tag: str) -> list[Any]:
        """Return the entries of an index under a tag; none where there is no such tag."""
        try:
            found = json.loads(self.manifest(tag))["manifests"]
        except _Missing:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise Declined(f"{self.reference.name}:{tag} is no index of signatures") from error
        return list(found)

    @contextmanager
    def _asked(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: IO[bytes] | bytes | None = None,
    ) -> Iterator[HTTPResponse]:
        """Ask, after a login if the registry wants one; what was read of a file is sent again."""
        try:
            answer = self._open(method, url, headers, body)
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "") if error.code == 401 else ""
            if not challenge:
                raise self._declined(method, url, error) from error
            self._shown = self._login(challenge)
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            answer = self._again(method, url, headers, body)
        with answer:
            yield answer

    def _again(
        self, method: str, url: str, headers: Mapping[str, str], body: IO[bytes] | bytes | None
    ) -> HTTPResponse:
        try:
            return self._open(method, url, headers, body)
        except urllib.error.HTTPError as error:
            raise self._declined(method, url, error) from error

    def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: IO[bytes] | bytes | None
    ) -> HTTPResponse:
        asked = urllib.request.Request(url, data=body, method=method, headers=dict(headers))  # noqa: S310 (made of a checked name)
        if self._shown and urlsplit(url).netloc == urlsplit(self.base).netloc:
            asked.add_unredirected_header("Authorization", self._shown)
        return _opened(asked)

    def _login(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            if self.user is None:
                raise Declined(f"{self.reference.name}: HTTP 401: `docker login` there first")
            return self.user
        fields = dict(_FIELD.findall(rest))
        realm = fields.get("realm", "")
        self._check_realm(realm)
        scope = {"scope": f"repository:{self.reference.repository}:{self.actions}"}
        service = {"service": fields["service"]} if "service" in fields else {}
        joint = "&" if "?" in realm else "?"
        asked = urllib.request.Request(f"{realm}{joint}{urlencode({**service, **scope})}")  # noqa: S310 (checked)
        if self.user:
            asked.add_unredirected_header("Authorization", self.user)
        try:
            with _opened(asked) as answer:
                told = json.loads(answer.read(MAX_DOCUMENT_BYTES))
            token = told.get("token") or told["access_token"]
        except urllib.error.HTTPError as error:
            raise self._declined("GET", realm, error) from error
        except (ValueError, KeyError, AttributeError) as error:
            raise Declined(f"{realm}: no token in the answer") from error
        return f"Bearer {token}"

    def _check_realm(self, realm: str) -> None:
        """Show a password only over https, and to no host that is not known to be the registry's.

        Docker's own client shows it wherever a registry says; so a realm elsewhere is named.
        """
        parts, own = urlsplit(realm), urlsplit(self.base)
        if parts.scheme not in {"https", own.scheme}:
            raise Declined(f"{self.reference.name}: gives tokens at {realm!r}: refused")
        is_hub = {parts.hostname, own.hostname} <= _HUB_NAMES
        if self.user and parts.hostname != own.hostname and not is_hub and not _kin(parts, own):
            raise Declined(
                f"{self.reference.name} gives tokens at {parts.netloc}, which is no host of its "
                "own domain: log in there with another tool, or leave --config out"
            )

    def _declined(self, method: str, url: str, error: urllib.error.HTTPError) -> Declined:
        text = f"{method} {urlsplit(url)._replace(query='').geturl()}: HTTP {error.code}"
        if error.code == 404:
            return _Missing(f"{text}: is the name right?")
        remedy = {401: ": `docker login` there first", 403: ": may you do that there?"}
        return Declined(f"{text}{remedy.get(error.code, '')}")


class _Missing(Declined):
    """There is no such thing."""


def _kin(one: Any, other: Any) -> bool:
    """Tell whether two hosts have the last two parts of their names in common."""
    names = [(parts.hostname or "").split(".")[-2:] for parts in (one, other)]
    return names[0] == names[1] and len(names[0]) == 2


def _opened(asked: urllib.request.Request) -> HTTPResponse:
    try:
        answer: HTTPResponse = urllib.request.build_opener(_NoWeaker()).open(
            asked, timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError:
        raise
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        host = urlsplit(asked.full_url).netloc
        text = f"{host}: {reason}: is it up? One that speaks plain HTTP needs --plain-http"
        raise Declined(text) from error
    return answer


def user_of(config: str | None, registry: str) -> str | None:
    """Return the header that `docker login` left for a registry; None: it left none.

    Raises:
        Declined: the file cannot be used.
    """
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    path = Path(config) if config else Path(folder) / "config.json"
    if config is None and not path.exists():
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
        entries = dict(document.get("auths") or {})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise Declined(f"{path}: no file of docker login") from error
    for name, entry in entries.items():
        host = urlsplit(name if "://" in name else f"https://{name}").netloc
        if host == registry or {host, registry} <= _HUB_NAMES:
            return _header_of(entry, path)
    if document.get("credsStore") or document.get("credHelpers"):
        raise Declined(
            f"{path} keeps its passwords in a helper, which is not asked: name another file with "
            "--config, as `docker --config FOLDER login` makes it without one"
        )
    return None


def _header_of(entry: object, path: Path) -> str:
    fields = entry if isinstance(entry, dict) else {}
    both = fields.get("auth")
    if not both and fields.get("username"):
        text = f"{fields['username']}:{fields.get('password', '')}"
        both = base64.b64encode(text.encode()).decode()
    try:
        is_pair = isinstance(both, str) and b":" in base64.b64decode(both, validate=True)
    except (binascii.Error, ValueError):
        is_pair = False
    if not is_pair:
        raise Declined(f"{path}: an entry has no user and password: `docker login` again")
    return f"Basic {both}"


def digest_of(body: bytes) -> str:
    """Return the digest of a document."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
