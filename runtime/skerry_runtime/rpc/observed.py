"""Logs or traces each call and passes its trace on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from typing_extensions import override

from skerry_runtime.rpc.generated import oip_pb2 as pb
from skerry_runtime.rpc.wire import revision_of
from skerry_runtime.trace import HEADER, Exchange, Observer


class ObservingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # no types
    """Wraps every method; a stream is one exchange, noted at its end."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @override
    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the method's handler with an exchange around it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        given = dict(handler_call_details.invocation_metadata).get(HEADER)
        exchange = self._observer.begin("grpc", "POST", handler_call_details.method, given)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _observed_stream(handler.stream_stream, exchange),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _observed(handler.unary_unary, exchange),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _observed(
    answer: Callable[[Any, Any], Awaitable[Any]], exchange: Exchange
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def observed(message: Any, context: Any) -> Any:
        context.set_trailing_metadata(((HEADER, exchange.span.traceparent),))
        with _ending(exchange, context):
            response = await answer(message, context)
        exchange.end("OK", revision_in(response))
        return response

    return observed


def _observed_stream(
    answer: Callable[[Any, Any], Any], exchange: Exchange
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def observed(messages: Any, context: Any) -> AsyncIterator[Any]:
        context.set_trailing_metadata(((HEADER, exchange.span.traceparent),))
        revision = ""
        with _ending(exchange, context):
            outcome = answer(messages, context)
            if isinstance(outcome, Awaitable):  # a refusal
                await outcome
                return
            async for response in outcome:
                revision = revision_in(response) or revision
                yield response
        # A stream that waits for a message may see a client that leaves as one that is done.
        exchange.end("CANCELLED" if context.cancelled() else "OK", revision)

    return observed


@contextmanager
def _ending(exchange: Exchange, context: Any) -> Iterator[None]:
    """End the exchange of a call that fails."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        exchange.end("CANCELLED")
        raise
    except BaseException:
        exchange.end(_name(context.code()))
        raise


def _name(code: Any) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def revision_in(response: Any) -> str:
    """Return the revision that computed an answer; empty for what is no inference."""
    if isinstance(response, bytes):
        return revision_of(response)
    if not isinstance(response, pb.ModelStreamInferResponse):
        return ""
    parameters = response.infer_response.parameters
    return parameters["revision"].string_param if "revision" in parameters else ""  # [] would add
