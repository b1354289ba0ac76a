"""From errors to HTTP: the one table."""

from __future__ import annotations

import logging

import orjson

from skerry_runtime.errors import Code, ServingError
from skerry_runtime.rest.http import JSON, Reply, json_reply

STATUSES = {
    Code.INVALID: 400,
    Code.NOT_FOUND: 404,
    Code.NOT_READY: 503,
    Code.OVERLOADED: 429,
    Code.UNAUTHENTICATED: 401,
    Code.INTERNAL: 500,
}

RETRY_AFTER = b"retry-after: 1\r\n"  # seconds; a queue of inferences empties sooner

_HEADERS = {
    Code.NOT_READY: RETRY_AFTER,
    Code.OVERLOADED: RETRY_AFTER,
    Code.UNAUTHENTICATED: b"www-authenticate: Bearer\r\n",
}

_log = logging.getLogger(__name__)


class HttpError(Exception):
    """A mistake that only HTTP knows: path, method, length, encoding."""

    def __init__(self, status: int, text: str, headers: bytes = b"") -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def in_http(error: Exception, headers: bytes) -> HttpError:
    """Return an error as one that HTTP knows, with more headers in its answer."""
    reply = reply_of(error)
    text = str(orjson.loads(reply.body)["error"])
    return HttpError(reply.status, text, reply.headers.removeprefix(JSON) + headers)


def reply_of(error: BaseException) -> Reply:
    """Return the answer for an error; one that nobody foresaw is logged and shows nothing."""
    if isinstance(error, HttpError):
        return json_reply({"error": str(error)}, error.status, error.headers)
    if isinstance(error, ServingError):
        headers = _HEADERS.get(error.code, b"")
        return json_reply({"error": str(error)}, STATUSES[error.code], headers)
    _log.error("request failed unexpectedly", exc_info=error)
    return json_reply({"error": "internal error"}, 500)
