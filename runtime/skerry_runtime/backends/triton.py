"""Triton: a server of NVIDIA's beside this process runs the model, under explicit model control.

Each loaded model is a model of its own in the server, named by its file and this load, so that the
old and the new one are there side by side until the switch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from skerry_runtime.backends.base import (
    CPU,
    LoadError,
    LoadRequest,
    ModelMetadata,
    ProviderMissing,
    Tensors,
    TensorSpec,
    accelerators,
)
from skerry_runtime.backends.blame import blamed
from skerry_runtime.backends.messages import safe_text
from skerry_runtime.backends.shapes import require_static
from skerry_runtime.backends.tritonserver import (
    ON_GPU,
    TENSORRT,
    Place,
    TritonServer,
    is_away,
    text_of,
)
from skerry_runtime.contract import Acceleration, Execution, Format
from skerry_runtime.errors import InferenceFailed

BLAMED_STATUSES = ("INVALID_ARGUMENT", "OUT_OF_RANGE")
BLAMED_CODE = "onnx runtime error 2:"
"""How the server's ONNX Runtime backend passes on that engine's INVALID_ARGUMENT."""

UNMEASURED = "Triton tells the device of a model, not the share of its graph"

SILENCE_S = 30.0
"""A server that has not said for so long whether it has the model counts as without it."""


class TritonBackend:
    """The Triton engine: .onnx files, by the server's ONNX Runtime backend."""

    def __init__(self, place: Place | None = None) -> None:
        self._server = TritonServer.at(place or Place.from_env(os.environ))

    def load(self, request: LoadRequest) -> TritonModel:
        """Put the file into the repository and have the server load it.

        Raises:
            ProviderMissing: fallback is forbidden, and the server has no GPU for the model.
            EngineAway: the server does not answer.
            LoadError: it cannot load the file.
        """
        if request.format is not Format.ONNX:
            raise LoadError(f"Triton is given .onnx files, and this one is {request.format}")
        if request.input_shapes:
            raise LoadError("Triton cannot fix axes: export the model with the lengths")
        name, acceleration = self._load(request)
        try:
            metadata = self._describe(name, request.execution)
        except BaseException as error:
            self._server.unload(name)
            if isinstance(error, InferenceServerException):
                raise LoadError(f"the server cannot tell of the model: {text_of(error)}") from error
            raise
        return TritonModel(self._server, name, metadata, acceleration)

    def sweep(self) -> None:
        """Take away what killed probes and earlier lives of this process left in the server."""
        self._server.sweep()

    def _load(self, request: LoadRequest) -> tuple[str, Acceleration]:
        """Load on the wanted device; where that fails and fallback is allowed, on the CPU."""
        execution = request.execution
        wanted = accelerators(execution)
        on_gpu = tuple(provider for provider in wanted if provider in ON_GPU)
        if not on_gpu:
            return self._load_on_cpu(request, _no_gpu_wanted(wanted))
        try:
            name = self._server.load(request, configuration(on_gpu, request.threads))
        except LoadError as error:
            if "GPU" not in str(error) and "CUDA" not in str(error):
                raise  # the same on the CPU, or no answer at all
            return self._load_on_cpu(request, str(error))
        return name, _acceleration(execution, on_gpu[0], UNMEASURED)

    def _load_on_cpu(self, request: LoadRequest, reason: str) -> tuple[str, Acceleration]:
        wanted = accelerators(request.execution)
        if wanted and not request.execution.fallback:
            raise ProviderMissing(f"{safe_text(Exception(reason))}; fallback is forbidden")
        name = self._server.load(request, configuration((), request.threads))
        return name, _acceleration(request.execution, CPU, reason)

    def _describe(self, name: str, execution: Execution) -> ModelMetadata:
        timeout_s = self._server.place.infer_s
        found = self._server.client.get_model_metadata(name, as_json=True, client_timeout=timeout_s)
        metadata = described(found)
        if execution.static_shapes:
            require_static({spec.name: spec.shape for spec in metadata.inputs})
        return metadata


class TritonModel:
    """One model in the server. `infer` is thread-safe, as the client is."""

    def __init__(
        self,
        server: TritonServer,
        name: str,
        metadata: ModelMetadata,
        acceleration: Acceleration,
    ) -> None:
        self._server = server
        self._name = name
        self._metadata = metadata
        self._acceleration = acceleration
        self._types = {spec.name: spec.datatype for spec in metadata.inputs}
        self._outputs = [spec.name for spec in metadata.outputs]
        self._is_closed = False
        self._silent_since: float | None = None

    @property
    def metadata(self) -> ModelMetadata:
        """Inputs and outputs, as the server tells them."""
        return self._metadata

    @property
    def acceleration(self) -> Acceleration:
        """On which kind of device the server runs the model; the share is not told."""
        return self._acceleration

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        """Run the model once.

        Raises:
            InvalidRequest: the server names an input as its reason.
            InferenceFailed: the server failed otherwise, is away, or the model is closed.
        """
        if self._is_closed:
            raise InferenceFailed("the model was closed")
        names = self._outputs if outputs is None else outputs
        try:
            answer = self._server.client.infer(
                self._name,
                [self._asked(name, array) for name, array in inputs.items()],
                outputs=[triton.InferRequestedOutput(name) for name in names],
                client_timeout=self._server.place.infer_s,
            )
        except InferenceServerException as error:
            if is_away(error):
                raise InferenceFailed(f"the Triton server is away: {text_of(error)}") from error
            text = error.message()
            is_argument = names_argument(error.status(), text)
            raise blamed(RuntimeError(text), inputs, is_argument=is_argument) from error
        return {name: answer.as_numpy(name) for name in names}

    def is_lost(self) -> bool:
        """Tell whether the server has the model no more, or has not answered for long."""
        try:
            is_there = self._server.has(self._name)
        except TimeoutError:  # a busy board is slow, and has its models
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            return now - self._silent_since >= SILENCE_S
        self._silent_since = None
        return not is_there

    def close(self) -> None:
        """Have the server unload the model, and take its files away."""
        if not self._is_closed:
            self._is_closed = True
            self._server.unload(self._name)

    def _asked(self, name: str, array: np.ndarray[Any, Any]) -> triton.InferInput:
        asked = triton.InferInput(name, list(array.shape), self._types[name])
        asked.set_data_from_numpy(array)
        return asked


def names_argument(status: object, text: str) -> bool:
    """Tell whether the server blames the request: by its status, or with its engine's code."""
    return any(kind in str(status) for kind in BLAMED_STATUSES) or BLAMED_CODE in text.lower()


def described(found: Mapping[str, Any]) -> ModelMetadata:
    """Return the metadata out of the server's own, as JSON.

    Raises:
        LoadError: a tensor is BF16, whose words the client does not pass through.
    """
    inputs, outputs = (
        tuple(_spec(tensor) for tensor in found.get(role, [])) for role in ("inputs", "outputs")
    )
    if any(spec.datatype == "BF16" for spec in (*inputs, *outputs)):
        raise LoadError("BF16 tensors do not pass to Triton: export the model with FP16 or FP32")
    return ModelMetadata(f"triton_{found.get('platform') or 'model'}", inputs, outputs)


def configuration(on_gpu: Sequence[str], threads: int) -> str:
    """Return the server's text for one instance on a GPU, or without `on_gpu` on the CPU.

    The server completes it with the tensors.
    """
    lines = [
        'backend: "onnxruntime"',
        "max_batch_size: 0",
        f"instance_group [{{ count: 1 kind: {'KIND_GPU' if on_gpu else 'KIND_CPU'} }}]",
        f'parameters {{ key: "intra_op_thread_count" value: {{ string_value: "{threads}" }} }}',
    ]
    if TENSORRT in on_gpu:
        accelerators_of = '{ gpu_execution_accelerator: [{ name: "tensorrt" }] }'
        lines.append(f"optimization {{ execution_accelerators {accelerators_of} }}")
    return "\n".join(lines) + "\n"


def _no_gpu_wanted(wanted: Sequence[str]) -> str:
    if not wanted:
        return ""
    return f"Triton has no {wanted[0]}: it runs on {', '.join(ON_GPU)} and {CPU}"


def _acceleration(execution: Execution, effective: str, reason: str) -> Acceleration:
    is_as_wanted = effective != CPU or not accelerators(execution)
    return Acceleration(
        requested=execution.providers,
        effective=effective,
        delegated_percent=100.0 if is_as_wanted else 0.0,
        reason=reason,
    )


def _spec(tensor: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(axis) for axis in tensor.get("shape", []))
    return TensorSpec(tensor["name"], tensor["datatype"], shape)
