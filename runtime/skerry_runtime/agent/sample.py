"""Makes inputs for a model from nothing but its metadata: for the probe and the warm-up."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec
from skerry_runtime.protocol.tensors import MAX_NAME

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

MAX_SAMPLE_BYTES = 256 * 1024 * 1024
"""Largest input of one sample: no request may be as large by far."""


class Unservable(Exception):  # noqa: N818 (says what the model is)
    """No request could ask this model; the text names the tensor."""


def require_servable(metadata: ModelMetadata) -> None:
    """Check that names and sizes are ones that a request can have.

    Raises:
        Unservable: one is not.
    """
    for spec in (*metadata.inputs, *metadata.outputs):
        if len(spec.name) > MAX_NAME:
            text = f"tensor '{spec.name[:32]}...' has a name of {len(spec.name)} characters"
            raise Unservable(f"{text}: a request's may have {MAX_NAME}")
    for spec in metadata.inputs:
        size = math.prod(_axes(spec)) * np.dtype(_dtype(spec)).itemsize
        if size > MAX_SAMPLE_BYTES:
            text = f"input '{spec.name}' takes {size} bytes for a single sample"
            raise Unservable(f"{text}: at most {MAX_SAMPLE_BYTES} can be served")


def zeros(metadata: ModelMetadata) -> Tensors:
    """Return one zero per input element, with every dynamic axis 1."""
    return {spec.name: _zeros(spec) for spec in metadata.inputs}


def is_guess(metadata: ModelMetadata) -> bool:
    """Tell whether `zeros` may have a shape that the model never sees.

    A first dynamic axis is a batch, and 1 is a batch. Any other may have a least size.
    """
    return any(-1 in spec.shape[1:] for spec in metadata.inputs)


def _zeros(spec: TensorSpec) -> npt.NDArray[np.generic]:
    shape = _axes(spec)
    if spec.datatype == "BYTES":
        texts = np.empty(shape, dtype=object)
        texts.fill(b"")
        return texts
    return np.zeros(shape, dtype=_dtype(spec))


def _axes(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if axis < 0 else axis for axis in spec.shape)


def _dtype(spec: TensorSpec) -> type[np.generic]:
    return np.object_ if spec.datatype == "BYTES" else DTYPES.get(spec.datatype, np.float32)
