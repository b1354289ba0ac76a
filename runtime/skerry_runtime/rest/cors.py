"""Cross-origin requests: lets the pages of named origins ask, as the Fetch standard has it.

https://fetch.spec.whatwg.org/#http-cors-protocol. Tokens travel in the Authorization header and
never as cookies, so that no answer allows credentials.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from skerry_runtime.rest.http import Answer, App, Handler, Reply, Request
from skerry_runtime.rest.statuses import HttpError, in_http, reply_of

ANY = "*"

_ALLOWED = (
    b"access-control-allow-methods: GET, HEAD, POST\r\n"
    b"access-control-allow-headers: authorization, content-encoding, content-type, "
    b"inference-header-content-length, traceparent\r\n"
    b"access-control-max-age: 600\r\n"
)
_EXPOSED = (
    b"access-control-expose-headers: "
    b"skerry-revision, inference-header-content-length, retry-after, traceparent\r\n"
)
_VARY = b"vary: origin\r\n"


@dataclass(frozen=True)
class CrossOriginApp:
    """An app that pages of some origins may ask."""

    app: App
    origins: frozenset[str]

    def open(self, request: Request) -> Handler:
        """Return what will answer.

        Raises:
            HttpError: a page asks beforehand, and its origin is not among the allowed ones.
            Exception: as the app's, over HTTP, so that the page may read why.
        """
        origin = request.headers.get(b"origin")
        if origin is None:
            return self.app.open(request)
        lines = self._lines(origin)
        if request.method == "OPTIONS" and b"access-control-request-method" in request.headers:
            return _preflight(lines)
        try:
            handler = self.app.open(request)
        except Exception as error:
            raise in_http(error, lines) from error
        return partial(_answered, handler, lines)

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        reply = self.app.refuse(request, error)
        origin = request.headers.get(b"origin")
        return reply if origin is None else _with(reply, self._lines(origin))

    def _lines(self, origin: bytes) -> bytes:
        """Return the headers of an answer to a page of this origin."""
        if ANY in self.origins:
            return b"access-control-allow-origin: *\r\n" + _EXPOSED
        if origin.decode("latin-1") not in self.origins:
            return _VARY
        return b"access-control-allow-origin: %s\r\n" % origin + _EXPOSED + _VARY


def _preflight(lines: bytes) -> Handler:
    """Answer what a browser asks before a request, without a token and without the app."""
    if lines == _VARY:
        raise HttpError(403, "pages of this origin may not ask: see --cors-origins", _VARY)
    return lambda _: Reply(200, b"", lines + _ALLOWED)


def _answered(handler: Handler, lines: bytes, request: Request) -> Answer:
    try:
        outcome = handler(request)
    except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
        outcome = reply_of(error)
    return _with(outcome, lines) if isinstance(outcome, Reply) else _later(outcome, lines)


async def _later(outcome: Coroutine[Any, Any, Reply], lines: bytes) -> Reply:
    try:
        reply = await outcome
    except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
        reply = reply_of(error)
    return _with(reply, lines)


def _with(reply: Reply, lines: bytes) -> Reply:
    return replace(reply, headers=reply.headers + lines)
