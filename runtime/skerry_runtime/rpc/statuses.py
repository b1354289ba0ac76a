"""From errors to gRPC: the one table."""

from __future__ import annotations

import grpc

from skerry_runtime.errors import Code

STATUSES = {
    Code.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Code.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
}

RETRY_AFTER = (("retry-after", "1"),)  # seconds, as REST says it

RETRYABLE = {Code.NOT_READY, Code.OVERLOADED}


class RefusedCall(Exception):  # noqa: N818 (says what the call is)
    """A call that is refused with a status of gRPC's own; the text is safe to send."""

    def __init__(self, status: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.status = status
