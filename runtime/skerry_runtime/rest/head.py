"""The head of an HTTP request, by httptools; heads come here whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httptools

from skerry_runtime.rest.http import Request
from skerry_runtime.rest.statuses import HttpError

END = b"\r\n\r\n"

_MAX_LENGTH_DIGITS = 19  # int() itself gives up at 4300 digits, and with another error


@dataclass(slots=True)
class Listening:
    """Takes the parser's callbacks for one message."""

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


@dataclass(slots=True)
class Head:
    """A parsed head."""

    request: Request
    parser: Any
    listening: Listening
    """With `parser`, for a chunked body."""
    keep_alive: bool

    @property
    def is_chunked(self) -> bool:
        """Tell whether the body comes in chunks.

        Raises:
            HttpError: it comes in a transfer encoding besides.
        """
        encoding = self.request.headers.get(b"transfer-encoding")
        if encoding is not None and encoding.lower() != b"chunked":
            raise HttpError(501, "transfer-encoding must be chunked")
        return encoding is not None

    @property
    def has_body(self) -> bool:
        """Tell whether a body follows."""
        return b"transfer-encoding" in self.request.headers or self.length > 0

    @property
    def length(self) -> int:
        """Declared length of the body; the parser has checked that it is a number."""
        return int(self.request.headers.get(b"content-length", b"0"))

    @property
    def expects_continue(self) -> bool:
        """Tell whether the client waits for a word before it sends the body."""
        expected = self.request.headers.get(b"expect")
        return expected is not None and expected.lower() == b"100-continue"


def parse(data: bytes | bytearray | memoryview) -> Head:
    """Parse a whole head.

    Raises:
        HttpError: it is not one.
    """
    listening = Listening()
    parser = httptools.HttpRequestParser(listening)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an offer of another protocol, which a server may ignore
    except httptools.HttpParserError as error:
        raise HttpError(400, "not a valid HTTP request") from error
    request = Request(parser.get_method().decode(), listening.target, listening.headers)
    return Head(request, parser, listening, _keeps_alive(parser.get_http_version(), request))


def _keeps_alive(version: str, request: Request) -> bool:
    """Tell whether the client wants to go on; the parser forgets it with the message's end."""
    wish = request.headers.get(b"connection", b"").lower()
    return b"keep-alive" in wish if version == "1.0" else b"close" not in wish


def number(text: bytes | None) -> int | None:
    """Return a header's value as a length, or None when it is none."""
    if text is None or not text.isdigit() or len(text) > _MAX_LENGTH_DIGITS:
        return None
    return int(text)
