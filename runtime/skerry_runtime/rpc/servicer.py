"""The gRPC side of the Open Inference Protocol."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import InvalidRequest, ServingError
from skerry_runtime.protocol.types import InferRequest, InferResponse
from skerry_runtime.rpc import health, views
from skerry_runtime.rpc.budget import Budget
from skerry_runtime.rpc.codec import from_response
from skerry_runtime.rpc.generated import oip_pb2 as pb
from skerry_runtime.rpc.generated.health_pb2 import HealthCheckRequest, HealthCheckResponse
from skerry_runtime.rpc.statuses import RETRY_AFTER, RETRYABLE, STATUSES, RefusedCall
from skerry_runtime.rpc.wire import RequestReader, ResponseWriter, id_of

M = TypeVar("M")

_log = logging.getLogger(__name__)


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
    """One verb a method: message in, message out, ServingError for the rest."""

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

    def model_infer(self, data: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        """Run one inference, message in and out as bytes; raw contents when the request has.

        The answer is at hand when the model is quick, else it is to be waited for.
        """
        size, received = len(data), time.perf_counter()
        self._budget.take(size)
        try:
            request, is_raw = self._read(data, received)
            response = self._dataplane.infer_now(request)
        finally:
            self._budget.give(size)
        if response is None:
            return self._infer_slowly(request, size, is_raw=is_raw)
        return self._writer.write(response, is_raw=is_raw)

    async def _infer_slowly(self, request: InferRequest, size: int, *, is_raw: bool) -> bytes:
        self._budget.take(size)  # here: a task that is cancelled before it begins would never give
        try:
            response = await self._dataplane.infer(request)
        finally:
            self._budget.give(size)
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
        async for data in until_idle(messages, self._idle_timeout_s):
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


async def until_idle(messages: AsyncIterator[M], timeout_s: float) -> AsyncIterator[M]:
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


def told(error: Exception) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Return status, text and trailing metadata; no defect of ours may show its trace."""
    if isinstance(error, ServingError):
        trailing = RETRY_AFTER if error.code in RETRYABLE else ()
        return STATUSES[error.code], str(error), trailing
    if isinstance(error, RefusedCall):
        return error.status, str(error), ()
    _log.error("call failed unexpectedly", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error", ()
