"""A device plugin for a simulated accelerator.

Registration, scheduling, allocation and loss go through kubelet's real API; only the chip is
simulated. The device is lost while a mark file exists.
"""

import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from skerry_cluster.device_api import (
    HEALTHY,
    MESSAGES,
    REGISTER,
    SERVICE,
    UNHEALTHY,
    VERSION,
)

PLUGINS = Path("/var/lib/kubelet/device-plugins")
ENV_NAME = "SKERRY_SIMULATED_DEVICE"
POLL_SECONDS = 0.5


def device_id(node: str, resource: str) -> str:
    """Name the one device of a node: `simulated-npu-node-a-0`."""
    return f"simulated-{resource.rsplit('/', 1)[-1]}-{node}-0"


def health(lost: Path) -> str:
    """Report the device's health as kubelet spells it."""
    return UNHEALTHY if lost.exists() else HEALTHY


class Plugin:
    """Answers kubelet's calls for one device."""

    def __init__(self, identity: str, lost: Path) -> None:
        """Remember the device and the file that marks its loss."""
        self._identity = identity
        self._lost = lost
        self._stopped = False

    def stop(self) -> None:
        """End every open watch."""
        self._stopped = True

    def options(self, request: Any, context: Any) -> Any:
        """Need no optional call."""
        del request, context
        return MESSAGES["DevicePluginOptions"]()

    def watch(self, request: Any, context: Any) -> Iterator[Any]:
        """Tell kubelet the device's health, at once and whenever it changes."""
        del request
        told = None
        while not self._stopped and context.is_active():
            observed = health(self._lost)
            if observed != told:
                device = MESSAGES["Device"](ID=self._identity, health=observed)
                yield MESSAGES["ListAndWatchResponse"](devices=[device])
                print(f"{self._identity}: {observed}", flush=True)
                told = observed
            time.sleep(POLL_SECONDS)

    def allocate(self, request: Any, context: Any) -> Any:
        """Hand the device to containers, by an environment variable."""
        del context
        answers = [
            MESSAGES["ContainerAllocateResponse"](envs={ENV_NAME: ",".join(wanted.devices_ids)})
            for wanted in request.container_requests
        ]
        return MESSAGES["AllocateResponse"](container_responses=answers)

    def preferred(self, request: Any, context: Any) -> Any:
        """Have no preference among one device."""
        del request, context
        return MESSAGES["PreferredAllocationResponse"]()

    def pre_start(self, request: Any, context: Any) -> Any:
        """Have nothing to prepare."""
        del request, context
        return MESSAGES["PreStartContainerResponse"]()


def _handlers(plugin: Plugin) -> Any:
    unary = {
        "GetDevicePluginOptions": (plugin.options, "Empty"),
        "Allocate": (plugin.allocate, "AllocateRequest"),
        "GetPreferredAllocation": (plugin.preferred, "PreferredAllocationRequest"),
        "PreStartContainer": (plugin.pre_start, "PreStartContainerRequest"),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            method, MESSAGES[request].FromString, lambda answer: answer.SerializeToString()
        )
        for name, (method, request) in unary.items()
    }
    handlers["ListAndWatch"] = grpc.unary_stream_rpc_method_handler(
        plugin.watch, MESSAGES["Empty"].FromString, lambda answer: answer.SerializeToString()
    )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _register(endpoint: str, resource: str) -> None:
    request = MESSAGES["RegisterRequest"](
        version=VERSION, endpoint=endpoint, resource_name=resource
    )
    with grpc.insecure_channel(f"unix://{PLUGINS / 'kubelet.sock'}") as channel:
        call = channel.unary_unary(
            REGISTER, lambda message: message.SerializeToString(), MESSAGES["Empty"].FromString
        )
        call(request, timeout=5)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _serve_once(plugin: Plugin, resource: str) -> None:
    """Serve until kubelet restarts: it then empties the folder and forgets its plugins."""
    kubelet = PLUGINS / "kubelet.sock"
    endpoint = PLUGINS / f"skerry-simulated-{resource.rsplit('/', 1)[-1]}.sock"
    endpoint.unlink(missing_ok=True)
    registered_with = _inode(kubelet)
    if registered_with is None:
        return
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((_handlers(plugin),))
    server.add_insecure_port(f"unix://{endpoint}")
    server.start()
    try:
        _register(endpoint.name, resource)
        print(f"registered {resource} (simulated)", flush=True)
        while _inode(kubelet) == registered_with and endpoint.exists():
            time.sleep(POLL_SECONDS)
    except grpc.RpcError as error:
        print(f"kubelet does not answer: {error}", flush=True)
    finally:
        plugin.stop()
        server.stop(grace=0).wait()


def serve(node: str, resource: str, lost: Path) -> None:
    """Offer the device of a node for ever."""
    identity = device_id(node, resource)
    while True:
        _serve_once(Plugin(identity, lost), resource)
        time.sleep(POLL_SECONDS)
