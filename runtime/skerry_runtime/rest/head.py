"""The head of an HTTP request, by httptools; heads come here whole."""

from __future__ import annotations

from dataclasses import dataclass, field

import httptools

from skerry_runtime.rest.statuses import HttpError

KEPT, KEPT_BYTES = 64, 1024
"""How many heads are kept, and of what length at most."""

END_OF_HEAD = b"\r\n\r\n"

_MAX_LENGTH_DIGITS = 19  # int() itself gives up at 4300 digits, and with another error


@dataclass(slots=True)
class Listening:
    """Takes the parser's callbacks."""

    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunks: bytearray = field(default_factory=bytearray)
    is_complete: bool = False
    is_crowded: bool = False
    """Another message began in the piece that ended this one: where, the parser does not tell."""

    def on_message_begin(self) -> None:
        """Note a second message."""
        self.is_crowded = self.is_complete

    def on_url(self, url: bytes) -> None:
        """Take the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer replaces none."""
        self.headers.setdefault(name.lower(), value)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of a chunked body."""
        if not self.is_crowded:
            self.chunks += piece

    def on_message_complete(self) -> None:
        """Note the end."""
        self.is_complete = True


@dataclass(frozen=True, slots=True)
class Head:
    """A parsed head; the same text always gives the same."""

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    keep_alive: bool
    length: int
    """Declared length of the body; the parser has checked that it is a number."""
    is_chunked: bool
    is_old: bool
    """HTTP/1.0."""

    @property
    def has_body(self) -> bool:
        """Tell whether a body follows."""
        return self.length > 0 or self.is_chunked

    @property
    def expects_continue(self) -> bool:
        """Tell whether the client waits for a word before it sends the body."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue"


class Heads:
    """Parses heads. Clients repeat theirs, so the last few are kept by their text."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Head] = {}

    def parse(self, text: bytes) -> Head:
        """Return a whole head.

        Raises:
            HttpError: it is not one, or announces a body in an encoding besides chunks.
        """
        head = self._kept.get(text)
        if head is None:
            head = _head(text)
            if len(text) <= KEPT_BYTES:
                if len(self._kept) >= KEPT:
                    self._kept.clear()
                self._kept[text] = head
        return head


class Chunks:
    """A chunked body: the parser is told the head again, and then whatever comes."""

    def __init__(self, head: bytes) -> None:
        self._listening = Listening()
        self._parser = httptools.HttpRequestParser(self._listening)
        self._parser.feed_data(head)

    @property
    def body(self) -> bytearray:
        """What has come so far."""
        return self._listening.chunks

    @property
    def is_complete(self) -> bool:
        """Whether the body has ended."""
        return self._listening.is_complete

    @property
    def is_crowded(self) -> bool:
        """Whether something came behind the end, which cannot be told from the body."""
        return self._listening.is_crowded

    def feed(self, data: memoryview) -> int:
        """Take a piece; return by how much the body grew.

        Raises:
            HttpError: it is not chunked as it should be.
        """
        before = len(self.body)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.is_complete:
                raise HttpError(400, "not a valid chunked body") from error
            self._listening.is_crowded = True
        return len(self.body) - before


def _head(text: bytes) -> Head:
    listening = Listening()
    parser = httptools.HttpRequestParser(listening)
    try:
        parser.feed_data(text)
    except httptools.HttpParserUpgrade:
        pass  # an offer of another protocol, which a server may ignore
    except httptools.HttpParserError as error:
        raise HttpError(400, "not a valid HTTP request") from error
    headers = listening.headers
    encoding = headers.get(b"transfer-encoding")
    if encoding is not None and encoding.lower() != b"chunked":
        raise HttpError(501, "transfer-encoding must be chunked")
    version = parser.get_http_version()
    return Head(
        method=parser.get_method().decode(),
        target=listening.target,
        headers=headers,
        keep_alive=_keeps_alive(version, headers),
        length=int(headers.get(b"content-length", b"0")),
        is_chunked=encoding is not None,
        is_old=version == "1.0",
    )


def _keeps_alive(version: str, headers: dict[bytes, bytes]) -> bool:
    """Tell whether the client wants to go on; the parser forgets it with the message's end."""
    wish = headers.get(b"connection")
    if wish is None:
        return version != "1.0"
    return b"keep-alive" in wish.lower() if version == "1.0" else b"close" not in wish.lower()


def number(text: bytes | None) -> int | None:
    """Return a header's value as a length, or None when it is none."""
    if text is None or not text.isdigit() or len(text) > _MAX_LENGTH_DIGITS:
        return None
    return int(text)
