"""Health in gRPC's own protocol, for Kubernetes' probes and for load balancers.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md. Only fixed names are known: a probe
asks without a token, and is told nothing of models.
"""

from __future__ import annotations

from skerry_runtime.errors import UnknownModel
from skerry_runtime.rpc.generated.health_pb2 import HealthCheckResponse

SERVICE = "grpc.health.v1.Health"

READINESS = ("", "readiness", "inference.GRPCInferenceService")
LIVENESS = "liveness"
"""Names that a client asks for: whether requests should come here; whether anybody answers."""


def told(service: str, *, is_ready: bool) -> HealthCheckResponse:
    """Return the health of a service.

    Raises:
        UnknownModel: there is no such service.
    """
    if service != LIVENESS and service not in READINESS:
        known = ", ".join(repr(name) for name in (*READINESS, LIVENESS))
        raise UnknownModel(f"no service '{service[:64]}' here; ask for {known}")
    is_well = is_ready or service == LIVENESS
    word = HealthCheckResponse.SERVING if is_well else HealthCheckResponse.NOT_SERVING
    return HealthCheckResponse(status=word)
