"""A golden file's numbers as a model takes and gives them; no IO."""

from __future__ import annotations

import numpy as np

from skerry_runtime.agent.sample import DTYPES
from skerry_runtime.agent.score import Array, InvalidExam
from skerry_runtime.backends.base import TensorSpec

_BF16_SHIFT = 16
_HALF = 0x7FFF


def require_datatype(spec: TensorSpec, array: Array) -> None:
    """Check that the array can be what the input takes: within a kind, never float to integer.

    Raises:
        InvalidExam: it cannot.
    """
    if spec.datatype == "BYTES":
        fits = array.dtype.kind in "SU"
    elif spec.datatype == "BF16":
        fits = array.dtype.kind == "f" or array.dtype == np.uint16
    else:
        fits = np.can_cast(array.dtype, _dtype(spec), casting="same_kind")
    if not fits:
        raise InvalidExam(f"array '{spec.name}' is {array.dtype}, the model takes {spec.datatype}")


def as_datatype(spec: TensorSpec, array: Array) -> Array:
    """Convert to what the input takes, as numpy's float64 to the model's FP32."""
    if spec.datatype == "BYTES":
        return _as_texts(array)
    if spec.datatype == "BF16" and array.dtype.kind == "f":
        return bf16_words(array)
    # Not ascontiguousarray, which makes a scalar a list of one.
    return np.asarray(array, dtype=_dtype(spec), order="C")


def bf16_words(array: Array) -> Array:
    """Return the numbers rounded to BF16, as the 16-bit words in which the protocol has them.

    Nearest, ties to even: the upper half of a float32's bits, after adding half of the last place
    that stays.
    """
    numbers = np.asarray(array, dtype=np.float32, order="C")
    bits = numbers.view(np.uint32)
    odd = (bits >> _BF16_SHIFT) & 1
    words = ((bits.astype(np.uint64) + _HALF + odd) >> _BF16_SHIFT).astype(np.uint16)
    quiet = (bits >> _BF16_SHIFT).astype(np.uint16) | 0x40  # rounding must not make NaN infinite
    return np.where(np.isnan(numbers), quiet, words)


def bf16_numbers(words: Array) -> Array:
    """Return the numbers of BF16 words."""
    bits: Array = words.astype(np.uint32) << _BF16_SHIFT
    return bits.view(np.float32)


def _dtype(spec: TensorSpec) -> np.dtype[np.generic]:
    return np.dtype(DTYPES.get(spec.datatype, np.float32))


def _as_texts(array: Array) -> Array:
    texts = np.empty(array.shape, dtype=object)
    texts[...] = array if array.dtype.kind == "S" else np.char.encode(array, "utf-8")
    return texts
