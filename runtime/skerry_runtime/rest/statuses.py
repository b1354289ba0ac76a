"""From errors to HTTP: the one table."""

from __future__ import annotations

from skerry_runtime.errors import Code, ServingError
from skerry_runtime.rest.asgi import CLOSE, Headers, Reply, json_reply

STATUSES = {
    Code.INVALID: 400,
    Code.NOT_FOUND: 404,
    Code.NOT_READY: 503,
    Code.OVERLOADED: 429,
    Code.INTERNAL: 500,
}

RETRY_AFTER: Headers = ((b"retry-after", b"1"),)  # seconds; a queue of inferences empties sooner

_RETRYABLE = {Code.NOT_READY, Code.OVERLOADED}


class HttpError(Exception):
    """A mistake that only HTTP knows: path, method, length, encoding."""

    def __init__(self, status: int, text: str, headers: Headers = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers

    @classmethod
    def unread(cls, status: int, text: str) -> HttpError:
        """Return an error that leaves the body unread, so the connection cannot go on."""
        return cls(status, text, CLOSE)


def reply_of(error: ServingError | HttpError) -> Reply:
    """Return the answer for an error."""
    value = {"error": str(error)}
    if isinstance(error, HttpError):
        return json_reply(value, error.status, error.headers)
    headers = RETRY_AFTER if error.code in _RETRYABLE else ()
    return json_reply(value, STATUSES[error.code], headers)
