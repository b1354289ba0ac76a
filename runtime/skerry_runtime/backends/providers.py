"""Execution providers of ONNX Runtime: which this image has, which of their devices are here.

A provider is built into the engine, or comes as a plugin: a library of its own that the engine
loads. Being part of the image and having a device on this node are two questions, with two
answers and two remedies.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Protocol

import onnxruntime as ort

from skerry_runtime.backends.base import CPU, ProviderMissing
from skerry_runtime.backends.messages import safe_text
from skerry_runtime.contract import Execution

OPENVINO = "OpenVINOExecutionProvider"

PLUGIN_MODULES = {
    OPENVINO: "onnxruntime_ep_openvino",
    "QNNExecutionProvider": "onnxruntime_qnn",
    "NvTensorRTRTXExecutionProvider": "onnxruntime_ep_nv_tensorrt_rtx",
}
"""Provider -> the Python module whose `get_library_path` names the plugin."""

DEVICE_TYPE = "device_type"
"""The option that chooses a provider's device: CPU, GPU or NPU, with `.1` the second of a kind."""

_ONE_DEVICE = re.compile(r"(CPU|GPU|NPU)(\.\d{1,2})?")
_INVALID_OPTION = re.compile(r"Invalid [\w ]*option: .{1,80}")
_BEST_FIRST = ("NPU", "GPU")
_registering = Lock()

AddProvider = Callable[[ort.SessionOptions], None]
"""Makes a session ask for one provider."""


class HardwareDevice(Protocol):
    """A piece of hardware as the engine sees it."""

    type: Any
    """An enum whose name is CPU, GPU or NPU."""


class EpDevice(Protocol):
    """One device that a plugin offers."""

    ep_name: str
    device: HardwareDevice
    ep_metadata: dict[str, str]


def adder_of(name: str, execution: Execution, threads: int) -> AddProvider:
    """Find a provider and its device; return what makes a session ask for it.

    Raises:
        ProviderMissing: it is not part of this image, has no device here, or its options
            leave open which device it takes.
    """
    options = execution.provider_options.get(name, {})
    _check_options(name, options)
    if name in ort.get_available_providers() and not _plugin_devices(name):
        return _built_in(name, _with_threads(name, options, threads))
    if not _register_plugin(name):
        raise ProviderMissing(
            f"{name} is not part of this runtime image, which has {', '.join(_known())}: "
            "name an image that has it in the accelerator profile"
        )
    return _plugin(name, options, threads)


def hides_fallback(name: str, execution: Execution) -> bool:
    """Tell whether a provider computes on the CPU unseen when its device refuses a graph.

    OpenVINO compiles for the CPU what its NPU does not take, and still calls it its own; only a
    session that forbids the engine's CPU stops it.
    """
    device = execution.provider_options.get(name, {}).get(DEVICE_TYPE, "")
    return name == OPENVINO and device.startswith("NPU")


def _check_options(name: str, options: dict[str, str]) -> None:
    """Refuse what lets OpenVINO choose: it would take the CPU, and call it acceleration."""
    device = options.get(DEVICE_TYPE)
    if device is None and name != OPENVINO:
        return
    if device is None or not _ONE_DEVICE.fullmatch(device):
        found = "is missing" if device is None else f"is {device!r}"
        raise ProviderMissing(
            f"providerOptions.{name}.{DEVICE_TYPE} {found}: name one device, "
            "CPU, GPU, NPU, or GPU.1 for the second of its kind"
        )


def _with_threads(name: str, options: dict[str, str], threads: int) -> dict[str, str]:
    """Bound the threads of a provider that computes on the CPU; it has a pool of its own."""
    if name == OPENVINO and options[DEVICE_TYPE] == "CPU":
        return {"num_of_threads": str(threads), **options}
    return options


def _built_in(name: str, options: dict[str, str]) -> AddProvider:
    def add(session_options: ort.SessionOptions) -> None:
        try:
            session_options.add_provider(name, options)
        except Exception as error:  # the engine's exceptions share no base class
            raise ProviderMissing(_no_device(name, options, str(error))) from error

    return add


def _no_device(name: str, options: dict[str, str], engine_text: str) -> str:
    if option := _INVALID_OPTION.search(engine_text):  # OpenVINO names a wrong one
        return f"providerOptions.{name}: {option[0]}"
    device = options.get(DEVICE_TYPE)
    wanted = f" with {DEVICE_TYPE} {device}" if device else ""
    return (
        f"{name} is part of this runtime image but cannot be used here{wanted}: the device or a "
        "library of its driver is missing, or an option of the profile is wrong. Check that the "
        "pod was given the device and that the node has the driver; the container's log has the "
        "engine's words"
    )


def _register_plugin(name: str) -> bool:
    """Load the provider's library once per process; tell whether the image has it."""
    with _registering:
        if _plugin_devices(name):
            return True
        try:
            module = importlib.import_module(PLUGIN_MODULES[name])
        except (KeyError, ImportError):
            return False
        if name in _loaded:
            return True
        try:
            ort.register_execution_provider_library(name, module.get_library_path())
        except Exception as error:  # the engine's exceptions share no base class
            raise ProviderMissing(
                f"the library of {name} in this runtime image cannot be loaded: {safe_text(error)}"
            ) from error
        _loaded.add(name)
        return True


_loaded: set[str] = set()


def _plugin_devices(name: str) -> list[Any]:
    return [found for found in ort.get_ep_devices() if found.ep_name == name and name != CPU]


def _plugin(name: str, options: dict[str, str], threads: int) -> AddProvider:
    offered = _plugin_devices(name)
    device = choose_device(offered, options.get(DEVICE_TYPE))
    if device is None:
        wanted = options.get(DEVICE_TYPE, "NPU or GPU")
        seen = ", ".join(sorted({found.device.type.name for found in offered})) or "none"
        raise ProviderMissing(
            f"{name} is part of this runtime image but finds no device here with {DEVICE_TYPE} "
            f"{wanted} (it sees: {seen}). Check that the pod was given the device and that the "
            "node has its driver"
        )
    rest = {key: value for key, value in options.items() if key != DEVICE_TYPE}
    if name == OPENVINO and device.device.type.name == "CPU":
        limit = {"CPU": {"INFERENCE_NUM_THREADS": str(threads)}}
        rest = {"load_config": json.dumps(limit), **rest}
    return lambda session_options: session_options.add_provider_for_devices([device], rest)


def choose_device(offered: Sequence[EpDevice], wanted: str | None) -> EpDevice | None:
    """Return the device to use, or None.

    Without a wish an NPU goes before a GPU, and the CPU is no choice: a plugin on the CPU must
    be asked for, else it would look like acceleration.
    """
    kinds = (wanted.partition(".")[0],) if wanted else _BEST_FIRST
    fitting = [found for kind in kinds for found in offered if found.device.type.name == kind]
    if wanted and "." in wanted:
        fitting = [found for found in fitting if found.ep_metadata.get("ov_device") == wanted]
    return next(iter(fitting), None)


def _known() -> list[str]:
    """Return the names of the providers of this image, plugins included."""
    plugins = [name for name, module in PLUGIN_MODULES.items() if _is_installed(module)]
    return list(dict.fromkeys([*plugins, *ort.get_available_providers()]))


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
