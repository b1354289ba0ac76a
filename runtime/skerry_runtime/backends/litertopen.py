"""Opens .tflite files: with the delegates of the wanted accelerators, and in shapes that work.

An interpreter is opened more than once where a model keeps a state, so how it was opened is kept.
"""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from ai_edge_litert.interpreter import Interpreter, load_delegate

from skerry_runtime.backends.base import (
    CPU,
    LoadError,
    LoadRequest,
    ProviderMissing,
    accelerators,
)
from skerry_runtime.backends.messages import safe_text
from skerry_runtime.backends.shapes import FIELD, check_shapes, require_static
from skerry_runtime.backends.shapes import Shapes as NamedShapes
from skerry_runtime.contract import Acceleration, Execution

EDGE_TPU = "EdgeTpuExecutionProvider"

DELEGATES = {EDGE_TPU: "libedgetpu.so.1"}
"""Provider -> the delegate's library, which an image of the user's own brings. The options of the
profile reach it, such as `device: usb:0`. Not run on a device by us."""

OWN_OPERATORS = {EDGE_TPU: "edgetpu-custom-op"}
"""Provider -> the operator into which its compiler puts what the device takes."""

Details = dict[str, dict[str, Any]]
"""Tensor's name -> what the interpreter tells of it."""


TRIED_LENGTHS = (16, 128, 1024, 4096, 16384)
"""Lengths of dynamic axes that are tried where a model cannot be prepared with 1."""

MAX_TRIED_ELEMENTS = 8 * 1024 * 1024
"""Largest input of such a try."""

Shapes = Mapping[int, tuple[int, ...]]
"""Index of an input's tensor -> its shape."""


@dataclass(frozen=True)
class Opening:
    """How a file was opened, so that it can be opened again."""

    request: LoadRequest
    inputs: Details
    outputs: Details
    reason: str
    """Why an accelerator was not got."""

    def interpreter(self, shapes: Shapes) -> Interpreter:
        """Open the file and prepare it to run with inputs of these shapes.

        Raises:
            ValueError, RuntimeError: the engine cannot.
        """
        delegates, _ = _delegates(self.request.execution)
        interpreter = _raw(self.request, delegates)
        _prepare(interpreter, shapes)
        return interpreter


def open_file(request: LoadRequest) -> tuple[Opening, Interpreter]:
    """Open the file in the wanted shapes, or in some that work.

    Raises:
        ProviderMissing: fallback is forbidden, and not one accelerator is here.
        LoadError: the file is no model that LiteRT can run, or its shapes do not fit.
    """
    delegates, reason = _delegates(request.execution)
    try:
        interpreter = _raw(request, delegates)
        inputs, outputs = _named_tensors(interpreter)
    except (ValueError, RuntimeError) as error:
        raise LoadError(
            f"the engine cannot load the file: {safe_text(error, request.path)}"
        ) from error
    request = replace(request, input_shapes=_by_name(request.input_shapes, inputs))
    _check(inputs, request)
    _prepare_somehow(interpreter, inputs, request)
    inputs, outputs = _named_tensors(interpreter)  # with the shapes that they have now
    return Opening(request, inputs, outputs, reason), interpreter


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


def _raw(request: LoadRequest, delegates: list[Any]) -> Interpreter:
    return Interpreter(
        model_path=str(request.path),
        num_threads=request.threads,
        experimental_delegates=delegates or None,
    )


def _prepare(interpreter: Interpreter, shapes: Shapes) -> None:
    for index, shape in shapes.items():
        interpreter.resize_tensor_input(index, shape)
    interpreter.allocate_tensors()


def _by_name(shapes: NamedShapes, inputs: Details) -> NamedShapes:
    """Return the wanted shapes by the signature's names, for those that use a tensor's own."""
    names = {str(details["name"]): name for name, details in inputs.items()}
    return {name if name in inputs else names.get(name, name): s for name, s in shapes.items()}


def _check(inputs: Details, request: LoadRequest) -> None:
    """Check the wanted shapes.

    Raises:
        LoadError: they contradict the model, or an axis that must be fixed is not.
    """
    axes = {name: signature_of(details) for name, details in inputs.items()}
    check_shapes(axes, request.input_shapes)
    if request.execution.static_shapes:
        require_static(axes | {name: list(s) for name, s in request.input_shapes.items()})


def _prepare_somehow(interpreter: Interpreter, inputs: Details, request: LoadRequest) -> None:
    """Prepare the model with the wanted shapes; where none are wanted, with lengths that it takes.

    Raises:
        LoadError: it cannot be prepared; it may have an operator that nothing here knows.
    """
    wanted = {int(inputs[name]["index"]): shape for name, shape in request.input_shapes.items()}
    reason: Exception | None = None
    for shapes in chain([wanted], _tried(inputs, wanted)):
        try:
            return _prepare(interpreter, shapes)
        except (ValueError, RuntimeError) as error:
            reason = reason or error
    what = "take these inputShapes" if wanted else "load the file"
    hint = f"; set {FIELD} to lengths that it takes" if _dynamic(inputs, wanted) else ""
    text = safe_text(reason) if reason else ""
    raise LoadError(f"the engine cannot {what}: {text}{hint}") from reason


def _dynamic(inputs: Details, wanted: Shapes) -> Shapes:
    """Return the inputs with dynamic axes for which no shape is wanted."""
    signatures = {int(details["index"]): signature_of(details) for details in inputs.values()}
    return {i: axes for i, axes in signatures.items() if -1 in axes and i not in wanted}


def _tried(inputs: Details, wanted: Shapes) -> list[Shapes]:
    """Return shapes with other lengths than 1 for the dynamic axes, but for that of a batch."""
    dynamic = _dynamic(inputs, wanted)
    if not dynamic:
        return []
    tries = [{i: _with_length(a, length) for i, a in dynamic.items()} for length in TRIED_LENGTHS]
    return [{**shapes, **wanted} for shapes in tries if _elements(shapes) <= MAX_TRIED_ELEMENTS]


def _elements(shapes: Shapes) -> int:
    return max(math.prod(shape) for shape in shapes.values())


def _with_length(signature: tuple[int, ...], length: int) -> tuple[int, ...]:
    is_batched = len(signature) > 1
    return tuple(
        axis if axis >= 0 else 1 if is_batched and not place else length
        for place, axis in enumerate(signature)
    )


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


def shape_of(details: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape for which a tensor is prepared."""
    return tuple(int(axis) for axis in details["shape"])


def signature_of(details: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape as the file has it, -1 for a dynamic axis."""
    return tuple(int(axis) for axis in details["shape_signature"])


def measure(interpreter: Interpreter, execution: Execution, reason: str) -> Acceleration:
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


def require_whole(acceleration: Acceleration) -> None:
    """Check that no operator was left to the CPU.

    Raises:
        ProviderMissing: one was.
    """
    left = acceleration.nodes.get(CPU, 0)
    if left or not acceleration.nodes:
        raise ProviderMissing(
            f"{acceleration.requested[0]} takes {acceleration.delegated_percent:g} % of the graph "
            f"and leaves {left} operators to the CPU, and fallback is forbidden: compile the whole "
            "model for the accelerator, or use fallback Allow"
        )
