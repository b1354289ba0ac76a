"""Errors of the API server.

KubeError
├── NotFound      404
├── Conflict      409: somebody else wrote first; read again
├── Forbidden     401, 403: the operator's own rights are missing
├── Invalid       400, 422, any other refusal: the object itself is wrong
├── Taken         the name is taken by an object of somebody else, so nothing was sent
├── Unavailable   429, 5xx, timeouts, broken connections: try again later
└── Fenced        this process holds no Lease, so nothing was sent
"""

from __future__ import annotations

import json
from typing import ClassVar

MESSAGE_LIMIT = 512
"""Longest text taken from an answer: a status message must stay readable, and admission webhooks
echo whole objects."""


class KubeError(Exception):
    """A request to the API server did not do what was asked."""

    retryable: ClassVar[bool] = False
    """True: the same request may succeed later without any change by a person."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """How long the server asked to wait."""


class NotFound(KubeError):  # noqa: N818 (a named outcome, as in every Kubernetes client)
    """The object does not exist."""


class Conflict(KubeError):  # noqa: N818 (same)
    """The object changed since it was read, or exists already."""

    retryable = True


class Forbidden(KubeError):  # noqa: N818 (same)
    """The operator lacks the right."""


class Invalid(KubeError):  # noqa: N818 (same)
    """The API server refuses the object."""


class Taken(KubeError):  # noqa: N818 (same)
    """An object of this name exists and belongs to somebody else: it is never taken over."""


class Unavailable(KubeError):  # noqa: N818 (same)
    """The API server cannot answer now."""

    retryable = True


class Fenced(KubeError):  # noqa: N818 (same)
    """The Lease is not held (any more): another process may be writing."""


_BY_CODE: dict[int, type[KubeError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    408: Unavailable,
    429: Unavailable,
}


def error_of(code: int, what: str, body: bytes, retry_after: str | None = None) -> KubeError:
    """Return the error that an HTTP answer means.

    The body's text is used only when it is a Kubernetes Status, and is shortened.
    """
    kind = _BY_CODE.get(code, Unavailable if code >= 500 else Invalid)
    text = status_message(body) or f"HTTP {code}"
    return kind(f"{what}: {text}", _seconds(retry_after))


def why_away(error: BaseException) -> str:
    """Return why a connection came to nothing, in words of the system where it has some.

    >>> why_away(ConnectionRefusedError(111, "Connection refused"))
    'Connection refused'
    >>> why_away(TimeoutError())
    'no answer in time'
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def status_message(body: bytes) -> str:
    """Return the message of a Kubernetes Status, shortened; empty when it is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(answer, dict) or answer.get("kind") != "Status":
        return ""
    message = str(answer.get("message", ""))
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None
