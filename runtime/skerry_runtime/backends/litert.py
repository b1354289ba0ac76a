"""LiteRT: .tflite files on the CPU (XNNPACK), or on what a delegate brings.

Quantised tensors pass as they are: an int8 input is an INT8 tensor, and scale and zero point are
the model's business and its client's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from skerry_runtime.backends.base import (
    LoadError,
    LoadRequest,
    ModelMetadata,
    Tensors,
    TensorSpec,
    accelerators,
)
from skerry_runtime.backends.blame import blamed
from skerry_runtime.backends.litertopen import (
    Opening,
    measure,
    open_file,
    require_whole,
    shape_of,
    signature_of,
)
from skerry_runtime.backends.tflitefile import TfliteFacts, read_facts
from skerry_runtime.contract import Acceleration
from skerry_runtime.errors import InferenceFailed, InvalidRequest, ServingError

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

NUMPY_TYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
"""The same the other way."""

MAX_SAID = 64 * 1024
"""An interpreter keeps the text of every error it ever met; with more than this it is replaced."""


class LiteRtBackend:
    """The LiteRT engine."""

    reads_memory: Literal[True] = True

    def load(self, request: LoadRequest) -> LiteRtModel:
        """Open the file.

        Raises:
            ProviderMissing: fallback is forbidden, and the accelerators did not take the graph.
            LoadError: the file is no model that LiteRT can run, or its shapes do not fit.
        """
        opening, interpreter = open_file(request)
        try:
            facts = read_facts(request.path)
        except ValueError as error:
            raise LoadError(f"the engine cannot load the file: {error}") from error
        acceleration = measure(interpreter, request.execution, opening.reason)
        if not request.execution.fallback and accelerators(request.execution):
            require_whole(acceleration)
        metadata = _metadata(opening, facts)
        instance = Instance(opening, metadata, interpreter)
        if facts.has_resources:
            return StatefulLiteRtModel(instance, acceleration, _run_another)
        if facts.has_variables:
            return StatefulLiteRtModel(instance, acceleration, _run_cleared)
        return LiteRtModel(instance, acceleration)


class Instance:
    """One interpreter, and what it remembers. Not thread-safe."""

    def __init__(
        self, opening: Opening, metadata: ModelMetadata, interpreter: Interpreter | None = None
    ) -> None:
        self.opening = opening
        self.metadata = metadata
        self._inputs = {name: int(details["index"]) for name, details in opening.inputs.items()}
        self._outputs = {name: int(details["index"]) for name, details in opening.outputs.items()}
        self._strict = {spec.name: not spec.any_shape for spec in metadata.inputs}
        self._interpreter = interpreter
        self._shapes: dict[str, tuple[int, ...]] = {}
        if interpreter is not None:
            self._shapes = {name: shape_of(details) for name, details in opening.inputs.items()}
        self._said = ""

    def another(self) -> Instance:
        """Return one that remembers nothing, of the same file."""
        return Instance(self.opening, self.metadata)

    def has_shapes(self, inputs: Tensors) -> bool:
        """Tell whether it is prepared for inputs of these shapes, or for none yet."""
        return self._interpreter is None or self._shapes == _shapes_of(inputs)

    def clear(self) -> None:
        """Forget what operators kept; variables of the graph stay."""
        if self._interpreter is not None:
            self._interpreter.reset_all_variables()

    def run(self, inputs: Tensors, outputs: Sequence[str] | None) -> Tensors:
        """Run once; opens the interpreter for these shapes when it is the first time.

        Raises:
            InvalidRequest, InferenceFailed: as `Model.infer`.
        """
        is_argument = True
        try:
            interpreter = self._ready(inputs)
            for name, array in inputs.items():
                interpreter.set_tensor(self._inputs[name], array)
            is_argument = False
            interpreter.invoke()
            names = self._outputs if outputs is None else outputs
            return {name: interpreter.get_tensor(self._outputs[name]) for name in names}
        except (ValueError, RuntimeError) as error:
            raise self._blamed(error, inputs, is_argument=is_argument) from error

    def _ready(self, inputs: Tensors) -> Interpreter:
        """Return the interpreter, prepared for the shapes of a request."""
        shapes = _shapes_of(inputs)
        interpreter, before = self._interpreter, self._shapes
        if interpreter is not None and shapes == before:
            return interpreter
        self._shapes = {}  # unknown until all went well
        if interpreter is None:
            interpreter = self.opening.interpreter(
                {self._inputs[name]: shape for name, shape in shapes.items()}
            )
        else:
            for name, shape in shapes.items():
                interpreter.resize_tensor_input(
                    self._inputs[name], shape, strict=self._strict[name]
                )
            interpreter.allocate_tensors()
        self._interpreter, self._shapes = interpreter, shapes
        return interpreter

    def _blamed(self, error: Exception, inputs: Tensors, *, is_argument: bool) -> ServingError:
        """Return the error for the client, in the words of this run alone."""
        text = str(error)
        news = text.removeprefix(self._said)
        self._said = text
        if len(text) > MAX_SAID:
            self._interpreter, self._said, self._shapes = None, "", {}
        return blamed(RuntimeError(news), inputs, is_argument=is_argument)


Run = Callable[[Instance, Tensors, Sequence[str] | None], Tensors]
"""How a request is run on an instance."""


class LiteRtModel:
    """One interpreter. `infer` is thread-safe: an interpreter runs one request at a time."""

    def __init__(
        self, instance: Instance, acceleration: Acceleration, run: Run = Instance.run
    ) -> None:
        self._instance: Instance | None = instance
        self._metadata = instance.metadata
        self._acceleration = acceleration
        self._run = run
        self._running = Lock()
        self._memories: WeakSet[LiteRtModel] = WeakSet()

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
            InvalidRequest: the engine names an input as its reason.
            InferenceFailed: the engine failed otherwise, or the model is closed.
        """
        with self._running:
            try:
                return self._run(self._open_instance(), inputs, outputs)
            except InvalidRequest:
                nothing = _no_rows(self._metadata, inputs, outputs)
                if nothing is None:
                    raise
                return nothing

    def close(self) -> None:
        """Release memory and accelerator, of every memory too; it is unusable afterwards."""
        with self._running:
            self._instance = None
        for memory in list(self._memories):
            memory.close()

    def _open_instance(self) -> Instance:
        if self._instance is None:
            raise InferenceFailed("the model was closed")
        return self._instance


class StatefulLiteRtModel(LiteRtModel):
    """A model that remembers in the interpreter. `infer` answers as if nothing had been before."""

    def begin(self) -> LiteRtModel:
        """Return the model with a memory of its own, in which nothing is yet.

        Raises:
            InferenceFailed: the model is closed.
        """
        memory = LiteRtModel(self._open_instance().another(), self._acceleration, _run_in_shapes)
        self._memories.add(memory)
        return memory


def _run_cleared(instance: Instance, inputs: Tensors, outputs: Sequence[str] | None) -> Tensors:
    instance.clear()
    return instance.run(inputs, outputs)


def _run_another(instance: Instance, inputs: Tensors, outputs: Sequence[str] | None) -> Tensors:
    """Run on a new interpreter: nothing else clears the variables of a graph."""
    return instance.another().run(inputs, outputs)


def _run_in_shapes(instance: Instance, inputs: Tensors, outputs: Sequence[str] | None) -> Tensors:
    """Run on what is remembered, which another preparation would lose."""
    if not instance.has_shapes(inputs):
        raise InvalidRequest("the inputs of a sequence keep the shapes of its first request")
    return instance.run(inputs, outputs)


def _shapes_of(inputs: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in inputs.items()}


def _no_rows(
    metadata: ModelMetadata, inputs: Tensors, outputs: Sequence[str] | None
) -> Tensors | None:
    """Return the answer to a batch of no rows, None where the model does not tell what it is."""
    is_batched = all(spec.shape[:1] == (-1,) for spec in (*metadata.inputs, *metadata.outputs))
    if not is_batched or any(array.shape[0] for array in inputs.values()):
        return None
    wanted = [spec for spec in metadata.outputs if outputs is None or spec.name in outputs]
    if any(-1 in spec.shape[1:] for spec in wanted):
        return None
    return {
        spec.name: np.empty((0, *spec.shape[1:]), NUMPY_TYPES[spec.datatype]) for spec in wanted
    }


def _metadata(opening: Opening, facts: TfliteFacts) -> ModelMetadata:
    """Describe inputs and outputs; an output is of fixed shape when every input is."""
    fixed = opening.request.input_shapes
    shapes = {name: fixed.get(name, signature_of(d)) for name, d in opening.inputs.items()}
    unranked = {n for n, d in opening.inputs.items() if int(d["index"]) in facts.unranked}
    is_static = not unranked and all(-1 not in shape for shape in shapes.values())
    results = {
        name: shape_of(details) if is_static else signature_of(details)
        for name, details in opening.outputs.items()
    }
    return ModelMetadata(
        platform="litert_tflite",
        inputs=tuple(
            _spec("input", name, opening.inputs[name], shape, any_shape=name in unranked)
            for name, shape in shapes.items()
        ),
        outputs=tuple(
            _spec("output", name, opening.outputs[name], shape, any_shape=bool(unranked))
            for name, shape in results.items()
        ),
    )


def _spec(
    role: str,
    name: str,
    details: dict[str, Any],
    shape: tuple[int, ...],
    *,
    any_shape: bool,
) -> TensorSpec:
    """Describe one input or output.

    Raises:
        LoadError: it is of a type that cannot be served.
    """
    datatype = DATATYPES.get(np.dtype(details["dtype"]))
    if datatype is None:
        found = np.dtype(details["dtype"])
        kind = "text" if found.kind == "S" else str(found)
        raise LoadError(f"{role} '{name}' is {kind}: .tflite models are served with numbers only")
    return TensorSpec(name, datatype, shape, any_shape)
