"""The gRPC side of the Open Inference Protocol."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio

from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import InvalidRequest, ServingError
from skerry_runtime.protocol.types import (
    NO_LOADING,
    NO_SHARED_MEMORY,
    InferRequest,
    InferResponse,
)
from skerry_runtime.rpc import health, reflection, views
from skerry_runtime.rpc.budget import Budget
from skerry_runtime.rpc.codec import from_response
from skerry_runtime.rpc.generated import oip_pb2 as pb
from skerry_runtime.rpc.generated.health_pb2 import HealthCheckRequest, HealthCheckResponse
from skerry_runtime.rpc.generated.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from skerry_runtime.rpc.statuses import RETRY_AFTER, RETRYABLE, STATUSES
from skerry_runtime.rpc.wire import RequestReader, ResponseWriter, id_of

SERVICE = "inference.GRPCInferenceService"

NOT_OFFERED = dict.fromkeys(
    ("RepositoryModelLoad", "RepositoryModelUnload"),
    (grpc.StatusCode.PERMISSION_DENIED, NO_LOADING),
) | dict.fromkeys(
    (
        f"{kind}SharedMemory{verb}"
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    ),
    (grpc.StatusCode.UNIMPLEMENTED, NO_SHARED_MEMORY),
)
"""Methods of the protocol's extensions that are answered with a refusal."""

LEAST_PING_INTERVAL_MS, MAX_PING_STRIKES = 500, 2
"""Pings that come sooner are strikes; one strike more, and the connection ends."""

M = TypeVar("M")

_log = logging.getLogger(__name__)

Verb = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True)
class RpcLimits:
    """What the port bears."""

    max_message_bytes: int
    max_buffered_bytes: int
    max_header_bytes: int
    max_calls: int
    handshake_timeout_s: float
    max_dimensions: int
    max_tensors: int
    idle_timeout_s: float = 75.0
    """Of a connection without calls, and of a stream without messages."""
    reflects: bool = False
    """Tools such as grpcurl are told what there is."""


class Servicer:
    """One coroutine per verb: message in, message out, ServingError for the rest."""

    def __init__(self, dataplane: Dataplane, limits: RpcLimits) -> None:
        self._dataplane = dataplane
        self._reader = RequestReader(
            limits.max_dimensions, limits.max_tensors, dataplane.model_tensors
        )
        self._writer = ResponseWriter()
        self._budget = Budget(limits.max_buffered_bytes)
        self._idle_timeout_s = limits.idle_timeout_s

    async def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Answer at all."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Tell whether new requests should come here."""
        return pb.ServerReadyResponse(ready=self._dataplane.is_ready())

    async def model_ready(self, message: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Tell whether the model serves; false for one that is not here."""
        try:
            self._dataplane.require_ready(message.name, message.version or None)
        except ServingError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def check_health(self, message: HealthCheckRequest) -> HealthCheckResponse:
        """Answer as `server_ready`, or `server_live`, to who asks by the health protocol."""
        return health.told(message.service, is_ready=self._dataplane.is_ready())

    async def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name the server."""
        return views.server(self._dataplane.server_info())

    async def model_metadata(self, message: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Describe the model."""
        return views.model(self._dataplane.model_info(message.name, message.version or None))

    async def model_config(self, message: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """Describe the model in the words of a configuration."""
        return views.config(self._dataplane.model_info(message.name, message.version or None))

    async def model_statistics(
        self, message: pb.ModelStatisticsRequest
    ) -> pb.ModelStatisticsResponse:
        """Return the serving revision's statistics; an empty name means the one model."""
        name = message.name or self._dataplane.name
        return views.statistics(self._dataplane.statistics(name, message.version or None))

    async def repository_index(
        self, message: pb.RepositoryIndexRequest
    ) -> pb.RepositoryIndexResponse:
        """List the one model."""
        return views.index(self._dataplane.repository_index(), only_ready=message.ready)

    async def model_infer(self, data: bytes) -> bytes:
        """Run one inference, message in and out as bytes; raw contents when the request has."""
        response, is_raw = await self._infer(data)
        return self._writer.write(response, is_raw=is_raw)

    async def _infer(self, data: bytes) -> tuple[InferResponse, bool]:
        """Return the answer, and whether the client wants raw contents."""
        received = time.perf_counter()
        self._budget.take(len(data))
        try:
            request, is_raw = self._read(data, received)
            return await self._dataplane.infer(request), is_raw
        finally:
            self._budget.give(len(data))

    def _read(self, data: bytes, received: float) -> tuple[InferRequest, bool]:
        try:
            return self._reader.read(data, received)
        except InvalidRequest:
            self._dataplane.reject()
            raise

    async def model_stream_infer(
        self, messages: AsyncIterator[bytes]
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Run inferences one after another; one that fails says so, and the next goes on."""
        async for data in _until_idle(messages, self._idle_timeout_s):
            try:
                response, is_raw = await self._infer(data)
                answer = from_response(response, is_raw=is_raw)
                answer.parameters["triton_final_response"].bool_param = True
                yield pb.ModelStreamInferResponse(infer_response=answer)
            except Exception as error:  # noqa: BLE001 sorted in one place
                # The id tells the client whose failure it is.
                failed = pb.ModelInferResponse(id=id_of(data))
                yield pb.ModelStreamInferResponse(
                    error_message=told(error)[1], infer_response=failed
                )


async def _until_idle(messages: AsyncIterator[M], timeout_s: float) -> AsyncIterator[M]:
    """Yield the messages until none comes for so long: a stream takes the place of a call."""
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                message = await anext(messages, None)
        except TimeoutError:
            return
        if message is None:
            return
        yield message


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
    services = {SERVICE: _handlers(servicer), health.SERVICE: {"Check": _check(servicer)}}
    if limits.reflects:
        services |= dict.fromkeys(reflection.SERVICES, _reflecting(limits.idle_timeout_s))
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(*service) for service in services.items())
    )
    return server


def _check(servicer: Servicer) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        _handler(servicer.check_health),
        request_deserializer=HealthCheckRequest.FromString,
        response_serializer=HealthCheckResponse.SerializeToString,
    )


def _reflecting(idle_timeout_s: float) -> dict[str, grpc.RpcMethodHandler]:
    catalogue = reflection.Catalogue()

    async def reflect(messages: Any, _: Any) -> AsyncIterator[Any]:
        async for message in _until_idle(messages, idle_timeout_s):
            yield catalogue.answer(message)

    handler = grpc.stream_stream_rpc_method_handler(
        reflect,
        request_deserializer=ServerReflectionRequest.FromString,
        response_serializer=ServerReflectionResponse.SerializeToString,
    )
    return {"ServerReflectionInfo": handler}


def _handlers(servicer: Servicer) -> dict[str, Any]:
    """Return the handler of every method; what is not offered has one that says so."""
    offered = {
        name: grpc.unary_unary_rpc_method_handler(
            _handler(verb),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
        for name, verb, request, response in _verbs(servicer)
    }
    infer = grpc.unary_unary_rpc_method_handler(_handler(servicer.model_infer))  # bytes
    stream = grpc.stream_stream_rpc_method_handler(
        _streaming(servicer),
        response_serializer=pb.ModelStreamInferResponse.SerializeToString,
    )
    refused = {
        name: grpc.unary_unary_rpc_method_handler(_refusing(*refusal))
        for name, refusal in NOT_OFFERED.items()
    }
    return {**offered, "ModelInfer": infer, "ModelStreamInfer": stream, **refused}


def _verbs(s: Servicer) -> tuple[tuple[str, Verb, Any, Any], ...]:
    """Return name, coroutine, request and response of every method but inference.

    A table of ours rather than protoc's servicer class: that one carries no types.
    """
    return (
        ("ServerLive", s.server_live, pb.ServerLiveRequest, pb.ServerLiveResponse),
        ("ServerReady", s.server_ready, pb.ServerReadyRequest, pb.ServerReadyResponse),
        ("ModelReady", s.model_ready, pb.ModelReadyRequest, pb.ModelReadyResponse),
        ("ServerMetadata", s.server_metadata, pb.ServerMetadataRequest, pb.ServerMetadataResponse),
        ("ModelMetadata", s.model_metadata, pb.ModelMetadataRequest, pb.ModelMetadataResponse),
        ("ModelConfig", s.model_config, pb.ModelConfigRequest, pb.ModelConfigResponse),
        (
            "ModelStatistics",
            s.model_statistics,
            pb.ModelStatisticsRequest,
            pb.ModelStatisticsResponse,
        ),
        (
            "RepositoryIndex",
            s.repository_index,
            pb.RepositoryIndexRequest,
            pb.RepositoryIndexResponse,
        ),
    )


def _handler(verb: Verb) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a gRPC handler that turns errors into statuses."""

    async def handle(message: Any, context: Any) -> Any:
        try:
            return await verb(message)
        except Exception as error:  # noqa: BLE001 sorted in one place
            status, text, trailing = told(error)
        return await context.abort(status, text, trailing)

    return handle


def _streaming(servicer: Servicer) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def stream(messages: Any, _: Any) -> AsyncIterator[Any]:  # gRPC looks for this very form
        async for response in servicer.model_stream_infer(messages):
            yield response

    return stream


def _refusing(status: grpc.StatusCode, text: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def refuse(_: Any, context: Any) -> Any:
        return await context.abort(status, text)

    return refuse


def told(error: Exception) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Return status, text and trailing metadata; no defect of ours may show its trace."""
    if isinstance(error, ServingError):
        trailing = RETRY_AFTER if error.code in RETRYABLE else ()
        return STATUSES[error.code], str(error), trailing
    _log.error("call failed unexpectedly", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error", ()
