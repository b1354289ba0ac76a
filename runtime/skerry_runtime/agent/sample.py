"""Makes inputs for a model from nothing but its metadata: for the probe and the warm-up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from skerry_runtime.agent.hints import Fill, Hint
from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec
from skerry_runtime.protocol.tensors import MAX_NAME, MAX_TENSORS

DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": np.uint16,  # numpy has no such type: these tensors travel as 16-bit words
    "FP32": np.float32,
    "FP64": np.float64,
}
"""The protocol's datatypes in numpy's words; BYTES are objects."""

_BF16_ONE = 0x3F80
"""1.0 in BF16's bits."""

MAX_SAMPLE_BYTES = 256 * 1024 * 1024
"""Largest input of one sample: no request may be as large by far."""


class Unservable(Exception):  # noqa: N818 (says what the model is)
    """No request could ask this model; the text names the tensor."""


def require_servable(metadata: ModelMetadata) -> None:
    """Check that names and sizes are ones that a request can have.

    Raises:
        Unservable: one is not.
    """
    most = max(len(metadata.inputs), len(metadata.outputs))
    if most > MAX_TENSORS:
        raise Unservable(
            f"the model has {most} inputs or outputs: at most {MAX_TENSORS} can be asked"
        )
    for spec in (*metadata.inputs, *metadata.outputs):
        if len(spec.name) > MAX_NAME:
            text = f"tensor '{spec.name[:32]}...' has a name of {len(spec.name)} characters"
            raise Unservable(f"{text}: a request's may have {MAX_NAME}")
    for spec in metadata.inputs:
        size = math.prod(_axes(spec)) * np.dtype(_dtype(spec)).itemsize
        if size > MAX_SAMPLE_BYTES:
            text = f"input '{spec.name}' takes {size} bytes for a single sample"
            raise Unservable(f"{text}: at most {MAX_SAMPLE_BYTES} can be served")
    if not metadata.outputs:
        raise Unservable("the model has no outputs: there is nothing to ask it for")


def samples(metadata: ModelMetadata, hints: Mapping[str, Hint] | None = None) -> Iterator[Tensors]:
    """Yield inputs that may do, the likeliest first, with every dynamic axis 1.

    They are made up: that the engine refuses them says nothing about the model.
    """
    if hints and any(spec.name in hints for spec in metadata.inputs):
        yield {spec.name: _made_up(spec, hints, metadata) for spec in metadata.inputs}
    for fill in (Fill.ZEROS, Fill.ONES):
        yield {spec.name: _filled(spec, fill) for spec in metadata.inputs}


def zeros(metadata: ModelMetadata) -> Tensors:
    """Return one zero per input element, with every dynamic axis 1."""
    return {spec.name: _filled(spec, Fill.ZEROS) for spec in metadata.inputs}


def _made_up(
    spec: TensorSpec, hints: Mapping[str, Hint], metadata: ModelMetadata
) -> npt.NDArray[np.generic]:
    hint = hints.get(spec.name, Hint(Fill.ZEROS))
    if hint.fill is not Fill.SHAPE or spec.datatype == "BYTES":
        return _filled(spec, hint.fill)
    values = next((_axes(other) for other in metadata.inputs if other.name == hint.of), ())
    made = np.ones(_axes(spec), dtype=_dtype(spec))
    fits = made.shape == (len(values),)
    return np.array(values, dtype=made.dtype) if fits else made


def _filled(spec: TensorSpec, fill: Fill) -> npt.NDArray[np.generic]:
    shape = _axes(spec)
    if spec.datatype == "BYTES":
        texts = np.empty(shape, dtype=object)
        texts.fill(b"" if fill is Fill.ZEROS else b"1")
        return texts
    if fill is Fill.COUNT:
        return np.arange(math.prod(shape)).reshape(shape).astype(_dtype(spec))
    make = np.zeros if fill is Fill.ZEROS else np.ones
    if spec.datatype == "BF16":
        return make(shape, dtype=np.uint16) * np.uint16(_BF16_ONE)
    return make(shape, dtype=_dtype(spec))


def _axes(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if axis < 0 else axis for axis in spec.shape)


def _dtype(spec: TensorSpec) -> type[np.generic]:
    return np.object_ if spec.datatype == "BYTES" else DTYPES.get(spec.datatype, np.float32)
