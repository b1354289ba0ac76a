"""Tensors on the wire <-> numpy, for both transports.

Raw data becomes an array without a Python object per element; only BYTES and JSON make lists.
All that a client may get wrong ends as InvalidRequest with the tensor's name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_runtime.errors import InvalidRequest

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.uint16),  # numpy has no BF16: its words pass through untouched
    "BYTES": np.dtype(np.object_),
}
"""The protocol's datatypes."""

MAX_ELEMENTS = 2**40
"""No tensor is larger; keeps a product of dimensions far from overflow."""

MAX_TENSORS = 4096
"""No model with more inputs or outputs is served: each request has to name them."""

MAX_NAME = 256
"""Longest name of a tensor: errors repeat it."""

_MAX_NESTING = 64  # as numpy's own for numbers; no shape has so many axes

_VIEWED_BYTES = 16 * 1024  # below, a copy costs less than a view

_LENGTH = struct.Struct("<I")

_NULL_REMEDY = (
    ": null may be NaN or an infinity: write NaN, Infinity or -Infinity, or send binary data"
)

_ACCEPTED_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu"}
"""Kinds of JSON values that a datatype's kind takes: numbers never become text or truth."""


def dtype_of(name: str, datatype: object) -> np.dtype[Any]:
    """Return the numpy type of a datatype.

    Raises:
        InvalidRequest: the protocol has no such datatype.
    """
    dtype = DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise InvalidRequest(f"tensor '{name}': unknown datatype {str(datatype)[:32]!r}")
    return dtype


def checked_name(name: str) -> str:
    """Return the name.

    Raises:
        InvalidRequest: it is too long to be the name of any tensor.
    """
    if len(name) > MAX_NAME:
        raise InvalidRequest(f"a tensor's name has more than {MAX_NAME} characters")
    return name


def checked_shape(name: str, shape: Sequence[object], max_dimensions: int) -> tuple[int, ...]:
    """Return the shape as plain integers.

    Raises:
        InvalidRequest: too many axes, a negative or fractional one, or too large a product.
    """
    if len(shape) > max_dimensions:
        raise InvalidRequest(f"tensor '{name}': more than {max_dimensions} dimensions")
    axes = tuple(axis for axis in shape if type(axis) is int and axis >= 0)
    if len(axes) != len(shape):
        raise InvalidRequest(f"tensor '{name}': a shape is a list of integers from 0 up")
    if math.prod(max(axis, 1) for axis in axes) > MAX_ELEMENTS:
        raise InvalidRequest(f"tensor '{name}': too many elements")
    return axes


def from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes | memoryview) -> Array:
    """Return the array that little-endian, row-major bytes hold.

    Numbers are not copied, unless they lie unaligned, which some kernels would not forgive.

    Raises:
        InvalidRequest: the bytes do not hold as many elements as the shape.
    """
    dtype = dtype_of(name, datatype)
    if datatype == "BYTES":
        return _objects(_split_bytes(name, raw), name, shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequest(
            f"tensor '{name}': {len(raw)} bytes, but {datatype} {list(shape)} takes {expected}"
        )
    if datatype == "BOOL":  # any other byte than 0 and 1 would be no bool to the engine
        return np.not_equal(np.frombuffer(raw, dtype=np.uint8), 0).reshape(shape)
    array = np.frombuffer(raw, dtype=dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def to_raw(datatype: str, array: Array) -> bytes | memoryview:
    """Return the array as little-endian, row-major bytes; a large one is not copied."""
    if datatype != "BYTES":
        return array.tobytes() if array.nbytes < _VIEWED_BYTES else view(array)
    return b"".join(part for item in array.flat for part in (_LENGTH.pack(len(item)), item))


def view(array: Array) -> memoryview:
    """Return an array's memory as bytes, row-major; copied only when it lies otherwise."""
    buffer: Any = np.ascontiguousarray(array)  # a buffer, which numpy's types do not say
    return memoryview(buffer).cast("B")


def from_values(name: str, datatype: str, shape: tuple[int, ...], values: object) -> Array:
    """Return the array of a JSON list, flat or nested as the shape is; FP64 may be one already.

    Raises:
        InvalidRequest: values of another kind or range, ragged, or not as many as the shape.
    """
    dtype = dtype_of(name, datatype)
    if isinstance(values, np.ndarray):
        return shaped(name, _as(dtype, values), shape)
    if not isinstance(values, list):
        raise InvalidRequest(f"tensor '{name}': data must be a list")
    if datatype == "BF16":
        raise InvalidRequest(f"tensor '{name}': BF16 travels as binary data only")
    if datatype == "BYTES":
        return _objects(_texts(name, values), name, shape)
    array = _numbers(name, datatype, dtype, values)
    if array.ndim != 1 and array.shape != shape:
        raise InvalidRequest(
            f"tensor '{name}': data is nested as {list(array.shape)}, the shape is {list(shape)}"
        )
    return shaped(name, array, shape)


def to_values(name: str, datatype: str, array: Array) -> Array | list[str]:
    """Return what the JSON encoder takes: a flat array, or texts.

    Raises:
        InvalidRequest: the values have no JSON form, so the client must ask for binary data.
    """
    if datatype == "BF16":
        raise InvalidRequest(f"output '{name}' is BF16: ask for it with binary_data")
    if datatype != "BYTES":
        return np.ascontiguousarray(array).reshape(-1)
    try:
        return [item.decode() for item in array.flat]
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"output '{name}' is not UTF-8 text: ask for it with binary_data"
        ) from error


def shaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """Return a flat array in its shape.

    Raises:
        InvalidRequest: the counts differ.
    """
    if array.size != math.prod(shape):
        raise InvalidRequest(
            f"tensor '{name}': {array.size} elements, but the shape {list(shape)} "
            f"has {math.prod(shape)}"
        )
    return array.reshape(shape)


def _numbers(name: str, datatype: str, dtype: np.dtype[Any], values: list[object]) -> Array:
    """Convert a JSON list of numbers or booleans without silent truncation."""
    try:
        array = np.array(values) if values else np.empty(0, dtype)
        if datatype == "UINT64" and array.dtype.kind == "f":
            array = _large_integers(values)  # numpy joins int64 and uint64 to float64
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"tensor '{name}': data is ragged or too large") from error
    if array.dtype.kind not in _ACCEPTED_KINDS[dtype.kind]:
        remedy = _NULL_REMEDY if dtype.kind == "f" and None in array.flat else ""
        raise InvalidRequest(f"tensor '{name}': data holds values that are not {datatype}{remedy}")
    if array.dtype != dtype and dtype.kind in "iu" and not _is_in_range(array, dtype):
        raise InvalidRequest(f"tensor '{name}': a value is out of the range of {datatype}")
    return _as(dtype, array)


def _as(dtype: np.dtype[Any], array: Array) -> Array:
    with np.errstate(over="ignore"):  # too large for a float is infinity, as everywhere
        return array.astype(dtype, copy=False)


def _large_integers(values: list[object]) -> Array:
    """Convert integers of which some need all 64 bits; other values stay objects."""
    array = np.array(values, dtype=object)
    if all(type(value) is int for value in array.flat):
        return array.astype(np.uint64)
    return array


def _is_in_range(array: Array, dtype: np.dtype[Any]) -> bool:
    if not array.size:
        return True
    limits = np.iinfo(dtype)
    return int(array.min()) >= limits.min and int(array.max()) <= limits.max


def _split_bytes(name: str, raw: bytes | memoryview) -> list[bytes]:
    """Split a BYTES tensor: each element is a 4-byte length and so many bytes."""
    view, items, offset = memoryview(raw), [], 0
    while offset < len(view):
        start = offset + _LENGTH.size
        if start > len(view):
            raise InvalidRequest(f"tensor '{name}': BYTES data ends inside a length")
        offset = start + _LENGTH.unpack_from(view, offset)[0]
        if offset > len(view):
            raise InvalidRequest(f"tensor '{name}': BYTES data ends inside an element")
        items.append(bytes(view[start:offset]))
    return items


def _texts(name: str, values: list[object], depth: int = _MAX_NESTING) -> list[bytes]:
    """Flatten a JSON list of texts."""
    if not depth:
        raise InvalidRequest(f"tensor '{name}': data is nested more than {_MAX_NESTING} deep")
    flat: list[bytes] = []
    for value in values:
        if isinstance(value, str):
            flat.append(value.encode())
        elif isinstance(value, list):
            flat.extend(_texts(name, value, depth - 1))
        else:
            raise InvalidRequest(f"tensor '{name}': BYTES data in JSON must be texts")
    return flat


def _objects(items: list[bytes], name: str, shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), dtype=np.object_)
    array[:] = items
    return shaped(name, array, shape)
