"""Logs each call and passes its trace on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from typing_extensions import override

from skerry_runtime.rpc.wire import revision_of
from skerry_runtime.trace import HEADER, Entry, span_of


class LogInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Wraps every method of one request and one answer; a stream is logged at its end."""

    @override
    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the method's handler with a log around it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        headers = dict(handler_call_details.invocation_metadata)
        method: str = handler_call_details.method
        entry = Entry.begin("grpc", "POST", method, span_of(headers.get(HEADER)))
        return grpc.unary_unary_rpc_method_handler(
            _observed(handler.unary_unary, entry),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _observed(
    answer: Callable[[Any, Any], Awaitable[Any]], entry: Entry
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def observed(message: Any, context: Any) -> Any:
        context.set_trailing_metadata(((HEADER, entry.span.traceparent),))
        try:
            response = await answer(message, context)
        except asyncio.CancelledError:
            entry.end("CANCELLED")
            raise
        except BaseException:
            entry.end(_name(context.code()))
            raise
        entry.end("OK", _revision(response))
        return response

    return observed


def _name(code: Any) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def _revision(response: Any) -> str:
    return revision_of(response) if isinstance(response, bytes) else ""  # of ModelInfer only
