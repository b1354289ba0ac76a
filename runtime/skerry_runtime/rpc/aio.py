"""The gRPC port on grpc.aio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from skerry_runtime.rpc.methods import Method, methods_of
from skerry_runtime.rpc.servicer import RpcLimits, Servicer, told

LEAST_PING_INTERVAL_MS, MAX_PING_STRIKES = 500, 2
"""Pings that come sooner are strikes; one strike more, and the connection ends."""


def build_server(
    servicer: Servicer,
    limits: RpcLimits,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Server:
    """Return a server without a port; the first interceptor is the outermost."""
    options = (
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # what a model answers is not the client's doing
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.max_allowed_incoming_connections", limits.max_calls),
        ("grpc.max_connection_idle_ms", round(limits.idle_timeout_s * 1000)),
        ("grpc.server_handshake_timeout_ms", round(limits.handshake_timeout_s * 1000)),
        # Clients whose keepalive pings come each second are common; who is faster is sent away.
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", MAX_PING_STRIKES),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),  # two servers on one port is a mistake, not load balancing
    )
    server = grpc.aio.server(
        options=options,
        maximum_concurrent_rpcs=limits.max_calls,
        interceptors=tuple(interceptors),
    )
    for path, method in methods_of(servicer, limits).items():
        _, service, name = path.split("/")
        handlers = grpc.method_handlers_generic_handler(service, {name: _handler(method)})
        server.add_generic_rpc_handlers((handlers,))
    return server


def _handler(method: Method) -> grpc.RpcMethodHandler:
    kind = (
        grpc.stream_stream_rpc_method_handler
        if method.is_stream
        else grpc.unary_unary_rpc_method_handler
    )
    answer = _streaming(method) if method.is_stream else _answering(method)
    return kind(answer, request_deserializer=method.read, response_serializer=method.write)


def _answering(method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a handler that turns errors into statuses."""

    async def answer(message: Any, context: Any) -> Any:
        try:
            outcome = method.run(message)
            return outcome if isinstance(outcome, bytes) else await outcome
        except Exception as error:  # noqa: BLE001 sorted in one place
            status, text, trailing = told(error)
        return await context.abort(status, text, trailing)

    return answer


def _streaming(method: Method) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def stream(messages: Any, _: Any) -> AsyncIterator[Any]:  # gRPC looks for this very form
        async for response in method.run(messages):
            yield response

    return stream
