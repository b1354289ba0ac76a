"""NVIDIA's Triton server beside the runtime, and what the runtime's container is told of it.

The server listens on the pod's loopback only, so no probe of the kubelet, which asks the pod's
address, reaches it. When it ends, the kubelet starts it again; whether it has its models is what
the runtime watches and is ready by.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from skerry_operator.decide.fleet.podtemplate import (
    DEFAULT_CPU_REQUEST,
    DEFAULT_MEMORY_REQUEST,
    PodTemplate,
)
from skerry_runtime.contract import (
    ADMIN_PORT,
    ENV_ENGINE,
    ENV_TRITON_URL,
    SLOTS_DIR,
    TRITON_REPOSITORY,
    Engine,
)

CONTAINER = "triton"
SCRATCH = {"name": "triton-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
"""The server's own /tmp."""
EXIT_S = 5
"""Time for requests in flight; there are none once the runtime has ended."""


def server_container(template: PodTemplate, security: Mapping[str, Any]) -> dict[str, Any]:
    """Return the server as a sidecar; it has the device, and what the spec says of resources."""
    return {
        "name": CONTAINER,
        "image": template.triton_image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        # no command: the entry point of NVIDIA's image makes the driver's libraries known first
        "args": server_arguments(server_port(template)),
        "resources": _resources(template.requests, template.limits),
        "securityContext": dict(security),
        "volumeMounts": [
            # The files, and the folder with links to them: a folder of its own is made by the
            # kubelet before either container starts.
            {"name": "slots", "mountPath": SLOTS_DIR, "readOnly": True},
            {
                "name": "slots",
                "mountPath": TRITON_REPOSITORY,
                "subPath": PurePath(TRITON_REPOSITORY).name,
                "readOnly": True,
            },
            {"name": SCRATCH["name"], "mountPath": "/tmp"},  # noqa: S108 (a volume of the pod's own)
        ],
    }


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


def runtime_resources(template: PodTemplate) -> dict[str, Any]:
    """Return the resources of the runtime's container: those of the spec where it runs the model.

    Beside a server it only passes tensors on, and nobody has said how large these are: no limit.
    """
    if template.triton_image is None:
        return _resources(template.requests, template.limits)
    return _resources({"cpu": DEFAULT_CPU_REQUEST, "memory": DEFAULT_MEMORY_REQUEST}, {})


def _resources(requests: Mapping[str, str], limits: Mapping[str, str]) -> dict[str, Any]:
    resources: dict[str, Any] = {"requests": dict(requests)}
    if limits:
        resources["limits"] = dict(limits)
    return resources
