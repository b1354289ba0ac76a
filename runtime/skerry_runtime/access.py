"""Who may ask, and how it is kept from others: tokens and certificates of mounted secrets.

The kubelet replaces a secret's files by swapping one link. Files are therefore read from the
folder behind that link, so that a certificate and its key always belong together. What cannot be
read leaves in force what was read before.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

CERTIFICATE, KEY = "tls.crt", "tls.key"
"""Keys of a secret of type kubernetes.io/tls."""

MAX_TOKENS = 64
MAX_FILE_BYTES = 64 * 1024
_MIN_TOKEN_CHARS = 16
_LINK = "..data"
_SCHEME = b"bearer "

_log = logging.getLogger(__name__)


class BadSecret(ValueError):  # noqa: N818 (says what the secret is)
    """The folder does not hold what it should; the text shows nothing of its content."""


class Tokens:
    """The bearer tokens of a folder: one a line, any number of files, so that they can rotate.

    Only digests are kept, and each comparison takes the same time.
    """

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            BadSecret: it holds no token, or one that is easily guessed.
        """
        self.folder = folder
        self._digests: tuple[bytes, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the tokens again.

        Raises:
            BadSecret: as above; the tokens of before stay.
        """
        files = _files(self.folder)
        lines = {line.strip() for body in files.values() for line in body.splitlines()}
        tokens = lines - {b""}
        if not 0 < len(tokens) <= MAX_TOKENS:
            text = f"{self.folder} holds {len(tokens)} tokens: give 1 to {MAX_TOKENS}, one a line"
            raise BadSecret(text)
        if any(len(token.split()) != 1 for token in tokens):
            raise BadSecret(f"a token in {self.folder} has a space in it: no header can carry that")
        if min(map(len, tokens)) < _MIN_TOKEN_CHARS:
            text = f"a token in {self.folder} has fewer than {_MIN_TOKEN_CHARS} characters"
            raise BadSecret(text)
        self._digests = tuple(sorted(map(_digest, tokens)))

    def admits(self, authorization: bytes | None) -> bool:
        """Tell whether the value of an Authorization header carries one of the tokens."""
        if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        given = _digest(authorization[len(_SCHEME) :].strip())
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        return any(matches)


@dataclass(frozen=True)
class KeyPair:
    """A certificate chain and its key, PEM."""

    certificate: bytes
    key: bytes


class Tls:
    """The certificate of a folder, for both servers."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            BadSecret: it holds no certificate with its key.
        """
        self.folder = folder
        self.context = _server_context("http/1.1")
        """For new connections; those that stand keep what they began with."""
        self.http2_context = _server_context("h2")
        """The same for gRPC on our own HTTP/2."""
        self.pair = KeyPair(b"", b"")
        self.refresh()

    def refresh(self) -> None:
        """Read certificate and key again.

        Raises:
            BadSecret: as above; what was read before stays in force.
        """
        place = _place(self.folder)
        pair = KeyPair(_read(place / CERTIFICATE), _read(place / KEY))
        if pair == self.pair:
            return
        first = _server_context("h2")  # only tries
        for context in (first, self.context, self.http2_context):
            _load(context, place)
        self.pair = pair


def _server_context(protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    return context


def _load(context: ssl.SSLContext, place: Path) -> None:
    try:
        context.load_cert_chain(place / CERTIFICATE, place / KEY, password=_no_password)
    except OSError as err:  # also what OpenSSL says
        raise BadSecret(f"{CERTIFICATE} and {KEY} are no certificate with its key") from err


def _no_password() -> str:
    """Refuse an encrypted key: OpenSSL would otherwise ask a terminal."""
    return ""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _place(folder: Path) -> Path:
    """Return the folder that the files are in at this moment.

    Raises:
        BadSecret: there is no telling.
    """
    try:
        return (folder / _LINK if (folder / _LINK).exists() else folder).resolve()
    except (OSError, RuntimeError) as err:  # RuntimeError: links in a circle
        raise BadSecret(f"{folder} cannot be read: its links lead nowhere") from err


def _files(folder: Path) -> dict[str, bytes]:
    """Return the visible files of a folder by name."""
    try:
        paths = [p for p in _place(folder).iterdir() if not p.name.startswith(".")]
        return {path.name: _read(path) for path in sorted(paths) if path.is_file()}
    except OSError as err:
        raise BadSecret(f"{folder} cannot be read: {err.strerror}") from err


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise BadSecret(f"{path.name} cannot be read: {err.strerror}") from err
    if len(body) > MAX_FILE_BYTES:
        raise BadSecret(f"{path.name} has more than {MAX_FILE_BYTES} bytes")
    return body


@dataclass(frozen=True)
class Reads:
    """How reading the secrets went: for /metrics."""

    failures: int = 0
    """Times that one could not be read, or cannot be used."""
    is_stale: bool = False
    """Whether what is in force is older than what is mounted."""


@dataclass
class Credentials:
    """What a process was told of secrets; None where there is none."""

    tokens: Tokens | None = None
    tls: Tls | None = None
    _reads: Reads = Reads()

    @classmethod
    def of(cls, token_dir: Path | None, tls_dir: Path | None) -> Credentials:
        """Read the mounted secrets.

        Raises:
            BadSecret: one cannot be used; a server must not start more open than it was told to.
        """
        return cls(Tokens(token_dir) if token_dir else None, Tls(tls_dir) if tls_dir else None)

    def reads(self) -> Reads | None:
        """Tell how reading went; None where there is nothing to read."""
        return self._reads if self._secrets() else None

    async def keep_fresh(self, poll_s: float) -> None:
        """Read the secrets again and again, until cancelled; do nothing where there are none.

        Whatever goes wrong with one of them, the other is read and what was read before stays in
        force: a pod with yesterday's certificate serves, one that ends would not start again.
        """
        complaint = ""
        while self._secrets():
            await asyncio.sleep(poll_s)
            found = self.refresh()
            if found and found != complaint:
                _log.error("%s; what was read before stays in force", found)
            if complaint and not found:
                _log.info("the mounted secrets are in force again")
            complaint = found

    def refresh(self) -> str:
        """Read the secrets once; return what is wrong with them, empty when nothing is."""
        found = [text for secret in self._secrets() if (text := _complaint(secret))]
        self._reads = Reads(self._reads.failures + len(found), is_stale=bool(found))
        return "; ".join(found)

    def _secrets(self) -> list[Tokens | Tls]:
        return [secret for secret in (self.tokens, self.tls) if secret is not None]


def _complaint(secret: Tokens | Tls) -> str:
    try:
        secret.refresh()
    except BadSecret as err:
        return str(err)
    except Exception as err:  # noqa: BLE001 a folder that nobody foresaw must not end the watch
        _log.debug("a secret could not be read", exc_info=err)
        return f"{secret.folder} cannot be read: {type(err).__name__}"
    return ""
