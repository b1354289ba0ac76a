"""NVIDIA's Triton server as a container beside the runtime.

It listens on the pod's loopback only, so no probe of the kubelet, which asks the pod's address,
reaches it. When it ends, the kubelet starts it again; whether it has its models is what the runtime
watches and is ready by.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from skerry_operator.decide.podtemplate import PodTemplate
from skerry_runtime.contract import (
    ADMIN_PORT,
    ENV_ENGINE,
    ENV_TRITON_URL,
    TRITON_REPOSITORY,
    Engine,
)

CONTAINER = "triton"
SHM_LIMIT = "256Mi"
EXIT_S = 20
"""Time for requests in flight; less than the pod's grace."""


def server_port(template: PodTemplate) -> int:
    """Return a port that is none of the pod's own."""
    taken = (template.http_port, template.grpc_port)
    return next(port for port in range(ADMIN_PORT + 1, ADMIN_PORT + 4) if port not in taken)


def server_arguments(port: int, repository: str | PurePath = TRITON_REPOSITORY) -> list[str]:
    """Return program and flags: models come and go by explicit control alone, over loopback.

    What is restricted wants a header that nobody sends: the runtime needs none of it.
    """
    return [
        "tritonserver",
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--grpc-restricted-protocol=shared-memory,trace,logging:offered-to=nobody",
        "--allow-http=false",
        "--allow-metrics=false",
        f"--exit-timeout-secs={EXIT_S}",
    ]


def runtime_environment(template: PodTemplate) -> list[dict[str, Any]]:
    """Return what the runtime is told of the server; nothing where there is none."""
    if template.triton_image is None:
        return []
    return [
        {"name": ENV_ENGINE, "value": Engine.TRITON.value},
        {"name": ENV_TRITON_URL, "value": f"127.0.0.1:{server_port(template)}"},
    ]
