"""The methods of the gRPC port, by path and free of any transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from skerry_runtime.protocol.types import NO_LOADING, NO_SHARED_MEMORY
from skerry_runtime.rpc import health, reflection
from skerry_runtime.rpc.generated import oip_pb2 as pb
from skerry_runtime.rpc.generated.health_pb2 import HealthCheckRequest, HealthCheckResponse
from skerry_runtime.rpc.generated.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from skerry_runtime.rpc.servicer import RpcLimits, Servicer, until_idle
from skerry_runtime.rpc.statuses import RefusedCall

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

OPEN = ("/ServerLive", "/ServerReady", "/grpc.health.v1.Health/Check")
"""Ends of the methods that load balancers and probes call without a token."""


@dataclass(frozen=True, slots=True)
class Method:
    """What answers one path.

    `run` takes a message and returns an answer, or a coroutine of one; of a stream it takes an
    iterator of messages and returns one of answers. `read` and `write` are None for bytes.
    """

    run: Callable[[Any], Any]
    read: Callable[[bytes], Any] | None = None
    write: Callable[[Any], bytes] | None = None
    is_stream: bool = False


def is_open(path: str) -> bool:
    """Tell whether a method is answered without a token."""
    return path.endswith(OPEN)


def methods_of(servicer: Servicer, limits: RpcLimits) -> dict[str, Method]:
    """Return every method that is answered, by path; what is not offered has one that says so."""
    inference = {
        **_verbs(servicer),
        "ModelInfer": Method(servicer.model_infer),
        "ModelStreamInfer": Method(
            servicer.model_stream_infer,
            write=pb.ModelStreamInferResponse.SerializeToString,
            is_stream=True,
        ),
        **{name: Method(_refusing(*refusal)) for name, refusal in NOT_OFFERED.items()},
    }
    check = _verb(servicer.check_health, HealthCheckRequest, HealthCheckResponse)
    services = {SERVICE: inference, health.SERVICE: {"Check": check}}
    if limits.reflects:
        told = {"ServerReflectionInfo": _reflecting(limits.idle_timeout_s)}
        services |= dict.fromkeys(reflection.SERVICES, told)
    return {
        f"/{service}/{name}": method
        for service, named in services.items()
        for name, method in named.items()
    }


def _verbs(s: Servicer) -> dict[str, Method]:
    """Return every method but inference.

    A table of ours rather than protoc's servicer class: that one carries no types.
    """
    return {
        "ServerLive": _verb(s.server_live, pb.ServerLiveRequest, pb.ServerLiveResponse),
        "ServerReady": _verb(s.server_ready, pb.ServerReadyRequest, pb.ServerReadyResponse),
        "ModelReady": _verb(s.model_ready, pb.ModelReadyRequest, pb.ModelReadyResponse),
        "ServerMetadata": _verb(
            s.server_metadata, pb.ServerMetadataRequest, pb.ServerMetadataResponse
        ),
        "ModelMetadata": _verb(s.model_metadata, pb.ModelMetadataRequest, pb.ModelMetadataResponse),
        "ModelConfig": _verb(s.model_config, pb.ModelConfigRequest, pb.ModelConfigResponse),
        "ModelStatistics": _verb(
            s.model_statistics, pb.ModelStatisticsRequest, pb.ModelStatisticsResponse
        ),
        "RepositoryIndex": _verb(
            s.repository_index, pb.RepositoryIndexRequest, pb.RepositoryIndexResponse
        ),
    }


def _verb(run: Callable[[Any], Any], request: Any, response: Any) -> Method:
    return Method(run, request.FromString, response.SerializeToString)


def _refusing(status: grpc.StatusCode, text: str) -> Callable[[Any], Any]:
    def refuse(_: Any) -> Any:
        raise RefusedCall(status, text)

    return refuse


def _reflecting(idle_timeout_s: float) -> Method:
    catalogue = reflection.Catalogue()

    async def reflect(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in until_idle(messages, idle_timeout_s):
            yield catalogue.answer(message)

    return Method(
        reflect,
        ServerReflectionRequest.FromString,
        ServerReflectionResponse.SerializeToString,
        is_stream=True,
    )
