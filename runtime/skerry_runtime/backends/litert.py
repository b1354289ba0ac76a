"""LiteRT: .tflite files on the CPU (XNNPACK), or on what a delegate brings.

Quantised tensors pass as they are: an int8 input is an INT8 tensor, and scale and zero point are
the model's business and its client's.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

from skerry_runtime.backends.base import (
    CPU,
    LoadError,
    LoadRequest,
    ModelMetadata,
    ProviderMissing,
    Tensors,
    TensorSpec,
    accelerators,
    safe_text,
)
from skerry_runtime.backends.shapes import check_shapes, require_static
from skerry_runtime.contract import Acceleration, Execution
from skerry_runtime.errors import InferenceFailed

EDGE_TPU = "EdgeTpuExecutionProvider"

DELEGATES = {EDGE_TPU: "libedgetpu.so.1"}
"""Provider -> the delegate's library, which an image of the user's own brings. The options of the
profile reach it, such as `device: usb:0`. Not run on a device by us."""

OWN_OPERATORS = {EDGE_TPU: "edgetpu-custom-op"}
"""Provider -> the operator into which its compiler puts what the device takes."""

DATATYPES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.uint8): "UINT8",
    np.dtype(np.uint16): "UINT16",
    np.dtype(np.uint32): "UINT32",
    np.dtype(np.uint64): "UINT64",
    np.dtype(np.int8): "INT8",
    np.dtype(np.int16): "INT16",
    np.dtype(np.int32): "INT32",
    np.dtype(np.int64): "INT64",
    np.dtype(np.float16): "FP16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
}
"""Types of LiteRT in the protocol's words; texts are not among them."""

Details = dict[str, dict[str, Any]]
"""Tensor's name -> what the interpreter tells of it."""


class LiteRtBackend:
    """The LiteRT engine."""

    def load(self, request: LoadRequest) -> LiteRtModel:
        """Open the file.

        Raises:
            ProviderMissing: fallback is forbidden, and the accelerators did not take the graph.
            LoadError: the file is no model that LiteRT can run, or its shapes do not fit.
        """
        delegates, reason = _delegates(request.execution)
        interpreter = _open(request, delegates)
        inputs, outputs = _named_tensors(interpreter)
        _fix_shapes(interpreter, inputs, request)
        acceleration = _measure(interpreter, request.execution, reason)
        if not request.execution.fallback and accelerators(request.execution):
            _require_whole(acceleration)
        inputs, outputs = _named_tensors(interpreter)  # with the shapes that they have now
        metadata = _metadata(inputs, outputs, request.input_shapes)
        return LiteRtModel(interpreter, inputs, outputs, metadata, acceleration)


class LiteRtModel:
    """One interpreter. `infer` is thread-safe: an interpreter runs one request at a time."""

    def __init__(
        self,
        interpreter: Interpreter,
        inputs: Details,
        outputs: Details,
        metadata: ModelMetadata,
        acceleration: Acceleration,
    ) -> None:
        self._interpreter: Interpreter | None = interpreter
        self._inputs = {name: int(details["index"]) for name, details in inputs.items()}
        self._outputs = {name: int(details["index"]) for name, details in outputs.items()}
        self._shapes = {name: _shape(details) for name, details in inputs.items()}
        self._metadata = metadata
        self._acceleration = acceleration
        self._running = Lock()

    @property
    def metadata(self) -> ModelMetadata:
        """Inputs and outputs."""
        return self._metadata

    @property
    def acceleration(self) -> Acceleration:
        """Which provider took the graph, counted in the interpreter itself."""
        return self._acceleration

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        """Run the model once.

        Raises:
            InferenceFailed: the engine failed on these inputs, or the model is closed.
        """
        names = self._outputs if outputs is None else outputs
        with self._running:
            interpreter = self._interpreter
            if interpreter is None:
                raise InferenceFailed("the model was closed")
            try:
                self._take_shapes(interpreter, inputs)
                for name, array in inputs.items():
                    interpreter.set_tensor(self._inputs[name], array)
                interpreter.invoke()
                return {name: interpreter.get_tensor(self._outputs[name]) for name in names}
            except (ValueError, RuntimeError) as error:
                raise InferenceFailed(f"the model failed: {safe_text(error)}") from error

    def close(self) -> None:
        """Release memory and accelerator; the model is unusable afterwards."""
        with self._running:
            self._interpreter = None

    def _take_shapes(self, interpreter: Interpreter, inputs: Tensors) -> None:
        """Resize the inputs where a request has another length than the one before."""
        shapes = {name: array.shape for name, array in inputs.items()}
        if shapes == self._shapes:
            return
        self._shapes = {}  # unknown until all went well
        for name, shape in shapes.items():
            interpreter.resize_tensor_input(self._inputs[name], shape, strict=True)
        interpreter.allocate_tensors()
        self._shapes = shapes


def _delegates(execution: Execution) -> tuple[list[Any], str]:
    """Load the delegates of the wanted accelerators; say why the best missing one is missing.

    Raises:
        ProviderMissing: fallback is forbidden, and not one is here.
    """
    found: list[Any] = []
    missing: list[str] = []
    for name in accelerators(execution):
        try:
            found.append(_delegate(name, execution.provider_options.get(name, {})))
        except ProviderMissing as error:
            missing.append(str(error))
    if missing and not found and not execution.fallback:
        raise ProviderMissing(f"{missing[0]}; fallback is forbidden")
    return found, missing[0] if missing else ""


def _delegate(name: str, options: dict[str, str]) -> Any:
    library = DELEGATES.get(name)
    if library is None:
        raise ProviderMissing(
            f"{name} runs no .tflite file; LiteRT has {', '.join(DELEGATES)} and {CPU}: "
            "give the model a variant in another format for this accelerator"
        )
    try:
        ctypes.CDLL(library)  # first: a delegate that fails half-way complains when it is deleted
        return load_delegate(library, options)
    except OSError as error:
        raise ProviderMissing(
            f"{name} is not part of this runtime image, which has no {library}: name an image "
            "that has it in the accelerator profile"
        ) from error
    except ValueError as error:  # what the delegate says when it cannot open its device
        raise ProviderMissing(
            f"{name} is part of this runtime image but cannot be used here: {safe_text(error)}. "
            "Check that the pod was given the device and that the node has its driver"
        ) from error


def _open(request: LoadRequest, delegates: list[Any]) -> Interpreter:
    """Open the file and prepare it to run.

    Raises:
        LoadError: it is damaged, or has an operator that neither LiteRT nor a delegate knows.
    """
    try:
        interpreter = Interpreter(
            model_path=str(request.path),
            num_threads=request.threads,
            experimental_delegates=delegates or None,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise LoadError(f"the engine cannot load the file: {safe_text(error)}") from error
    return interpreter


def _named_tensors(interpreter: Interpreter) -> tuple[Details, Details]:
    """Return inputs and outputs by the names of the model's only signature, else by their own."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(interpreter.get_signature_list()) == 1:
        # The runner is not kept: while it lives, the interpreter takes no other shapes.
        runner = interpreter.get_signature_runner()
        named = runner.get_input_details(), runner.get_output_details()
        if [_indices(tensors.values()) for tensors in named] == [
            _indices(inputs),
            _indices(outputs),
        ]:
            return named
    return {item["name"]: item for item in inputs}, {item["name"]: item for item in outputs}


def _indices(tensors: Any) -> set[int]:
    return {int(tensor["index"]) for tensor in tensors}


def _fix_shapes(interpreter: Interpreter, inputs: Details, request: LoadRequest) -> None:
    """Give the inputs the wanted shapes.

    Raises:
        LoadError: the shapes contradict the model, or an axis that must be fixed is not.
    """
    wanted = request.input_shapes
    axes = {name: _signature(details) for name, details in inputs.items()}
    check_shapes(axes, wanted)
    if request.execution.static_shapes:
        require_static(axes | {name: list(shape) for name, shape in wanted.items()})
    try:
        for name, shape in wanted.items():
            interpreter.resize_tensor_input(int(inputs[name]["index"]), shape)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise LoadError(f"the engine cannot take these inputShapes: {safe_text(error)}") from error


def _metadata(
    inputs: Details, outputs: Details, fixed: Mapping[str, tuple[int, ...]]
) -> ModelMetadata:
    """Describe inputs and outputs; an output is of fixed shape when every input is."""
    shapes = {name: fixed.get(name, _signature(details)) for name, details in inputs.items()}
    is_static = all(-1 not in shape for shape in shapes.values())
    results = {
        name: _shape(details) if is_static else _signature(details)
        for name, details in outputs.items()
    }
    return ModelMetadata(
        platform="litert_tflite",
        inputs=tuple(_spec("input", name, inputs[name], shape) for name, shape in shapes.items()),
        outputs=tuple(
            _spec("output", name, outputs[name], shape) for name, shape in results.items()
        ),
    )


def _spec(role: str, name: str, details: dict[str, Any], shape: tuple[int, ...]) -> TensorSpec:
    """Describe one input or output.

    Raises:
        LoadError: it is of a type that cannot be served.
    """
    datatype = DATATYPES.get(np.dtype(details["dtype"]))
    if datatype is None:
        found = np.dtype(details["dtype"])
        kind = "text" if found.kind == "S" else str(found)
        raise LoadError(f"{role} '{name}' is {kind}: .tflite models are served with numbers only")
    return TensorSpec(name, datatype, shape)


def _shape(details: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in details["shape"])


def _signature(details: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape as the file has it, -1 for a dynamic axis."""
    return tuple(int(axis) for axis in details["shape_signature"])


def _measure(interpreter: Interpreter, execution: Execution, reason: str) -> Acceleration:
    """Count the operators of the file that the device's compiler took, and those it left."""
    own = {OWN_OPERATORS[name]: name for name in accelerators(execution) if name in OWN_OPERATORS}
    nodes = Counter(own.get(operator, CPU) for operator in _operators(interpreter))
    wanted = accelerators(execution) or (CPU,)
    total = max(1, nodes.total())
    return Acceleration(
        requested=execution.providers,
        effective=nodes.most_common(1)[0][0] if nodes else CPU,
        delegated_percent=round(100.0 * sum(nodes[name] for name in wanted) / total, 2),
        nodes=dict(nodes),
        reason=reason,
    )


def _operators(interpreter: Interpreter) -> list[str]:
    """Return the operators of the file; DELEGATE is what the interpreter put there itself."""
    found = interpreter._get_ops_details()  # noqa: SLF001 (nothing public tells)
    return [item["op_name"] for item in found if item["op_name"] != "DELEGATE"]


def _require_whole(acceleration: Acceleration) -> None:
    left = acceleration.nodes.get(CPU, 0)
    if left or not acceleration.nodes:
        raise ProviderMissing(
            f"{acceleration.requested[0]} takes {acceleration.delegated_percent:g} % of the graph "
            f"and leaves {left} operators to the CPU, and fallback is forbidden: compile the whole "
            "model for the accelerator, or use fallback Allow"
        )
