"""ONNX Runtime: .onnx and .ort files on the execution providers of the cell."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from skerry_runtime.backends.base import (
    LoadError,
    LoadRequest,
    ModelMetadata,
    Tensors,
    TensorSpec,
)
from skerry_runtime.backends.blame import blamed
from skerry_runtime.backends.onnxsession import open_session, operators_of
from skerry_runtime.backends.onnxshapes import without_shape
from skerry_runtime.contract import Acceleration
from skerry_runtime.errors import InferenceFailed, InvalidRequest

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""Types of ONNX Runtime in the protocol's words."""

ONNX_BFLOAT16 = 16
"""TensorProto.BFLOAT16: numpy has no such type, so these tensors travel as 16-bit words."""

_ENDS_ON_EMPTY = ("LSTM", "GRU")
"""Operators, by a part of their names, that end the whole process when an axis of their input has
no length (ONNX Runtime 1.32): no client may have them run so."""


class OnnxBackend:
    """The ONNX Runtime engine."""

    reads_memory: Literal[True] = True

    def load(self, request: LoadRequest) -> OnnxModel:
        """Open the file.

        Raises:
            ProviderMissing: fallback is forbidden, and the accelerators did not take the graph.
            LoadError: the file is no model that ONNX Runtime can run, or its shapes do not fit.
        """
        session, acceleration = open_session(request)
        taken, given = session.get_inputs(), session.get_outputs()
        any_shape = without_shape(request.path, request.format, [*taken, *given])
        metadata = ModelMetadata(
            platform="onnxruntime_onnx",
            inputs=tuple(_spec_of(node, "input", any_shape) for node in taken),
            outputs=tuple(_spec_of(node, "output", any_shape) for node in given),
        )
        return OnnxModel(session, metadata, acceleration)


class OnnxModel:
    """One session. `infer` is thread-safe, as sessions are."""

    def __init__(
        self, session: ort.InferenceSession, metadata: ModelMetadata, acceleration: Acceleration
    ) -> None:
        self._session: ort.InferenceSession | None = session
        self._metadata = metadata
        self._acceleration = acceleration
        self._run_options = ort.RunOptions()
        self._names = [spec.name for spec in metadata.outputs]
        types = {spec.name: spec.datatype for spec in (*metadata.inputs, *metadata.outputs)}
        self._texts = {name for name, datatype in types.items() if datatype == "BYTES"}
        self._bfloats = {name for name, datatype in types.items() if datatype == "BF16"}
        self._needs_elements = any(
            part in operator for operator in operators_of(session) for part in _ENDS_ON_EMPTY
        )

    @property
    def metadata(self) -> ModelMetadata:
        """Inputs and outputs."""
        return self._metadata

    @property
    def acceleration(self) -> Acceleration:
        """Which provider took the graph, measured on the session itself."""
        return self._acceleration

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        """Run the model once.

        Raises:
            InvalidRequest: a text input is not UTF-8, or the engine names an input as its reason.
            InferenceFailed: the engine failed otherwise, or the model is closed.
        """
        session = self._session
        if session is None:
            raise InferenceFailed("the model was closed")
        names = self._names if outputs is None else list(outputs)
        feed = self._with_texts(inputs) if self._texts else inputs
        if self._needs_elements:
            _require_elements(inputs)
        try:
            if self._bfloats:
                arrays = self._run_with_bfloats(session, names, feed)
            else:
                arrays = session.run(names, feed, self._run_options)
        except Exception as error:  # the engine's exceptions share no base class
            is_argument = isinstance(error, InvalidArgument)
            raise blamed(error, inputs, is_argument=is_argument) from error
        results = dict(zip(names, arrays, strict=True))
        for name in self._texts.intersection(results):
            results[name] = _encoded(results[name])
        return results

    def interrupt(self) -> None:
        """End every run at its next node; the model is of no use afterwards."""
        self._run_options.terminate = True

    def close(self) -> None:
        """Release memory and accelerator; the model is unusable afterwards."""
        self._session = None

    def _with_texts(self, inputs: Tensors) -> Tensors:
        """Decode the BYTES inputs: the engine would take bytes by their repr."""
        return {
            name: _decoded(name, array) if name in self._texts else array
            for name, array in inputs.items()
        }

    def _run_with_bfloats(
        self, session: ort.InferenceSession, names: list[str], feed: Tensors
    ) -> list[npt.NDArray[Any]]:
        """Run through engine values, because arrays cannot carry BF16."""
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, ONNX_BFLOAT16)
            if name in self._bfloats
            else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in feed.items()
        }
        results = session.run_with_ort_values(names, values, self._run_options)
        return [
            _words_of(value) if name in self._bfloats else value.numpy()
            for name, value in zip(names, results, strict=True)
        ]


def _require_elements(inputs: Tensors) -> None:
    for name, array in inputs.items():
        if array.size == 0:
            raise InvalidRequest(f"input '{name}' is empty, which a recurrent model cannot take")


def _spec_of(node: Any, role: str, any_shape: set[str]) -> TensorSpec:
    """Describe one input or output.

    Raises:
        LoadError: it is not a tensor, or of a type that the protocol has no word for.
    """
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        raise LoadError(f"{role} '{node.name}' is {node.type}: {_remedy(node.type)}")
    if node.name in any_shape:
        return TensorSpec(node.name, datatype, (-1,), any_shape=True)
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _remedy(engine_type: str) -> str:
    if engine_type.startswith("seq(map("):
        return (
            "not a tensor; export the classifier with zipmap=False "
            "(skl2onnx: options={'zipmap': False})"
        )
    if engine_type.startswith("tensor("):
        return "the protocol has no such datatype; cast it inside the graph"
    return "only tensors can be served"


def _decoded(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    try:
        texts = [item.decode() for item in array.flat]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input '{name}' holds a text that is not UTF-8") from error
    return _objects(texts, array.shape)


def _encoded(array: npt.NDArray[Any]) -> npt.NDArray[np.generic]:
    return _objects([str(text).encode() for text in np.asarray(array).flat], np.shape(array))


def _objects(items: Sequence[object], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    flat = np.empty(len(items), dtype=object)
    flat[:] = items
    return flat.reshape(shape)


def _words_of(value: Any) -> npt.NDArray[np.uint16]:
    """Copy a BF16 tensor out of the engine, for which it offers no array."""
    shape = tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(shape, dtype=np.int64)))
    return np.frombuffer(raw, dtype=np.uint16).reshape(shape)
