"""Long JSON requests: lists of numbers become arrays without a Python object per number."""

from __future__ import annotations

from typing import Any

import numpy as np
import simdjson

from skerry_runtime.protocol.tensors import Array

LONG = 16 * 1024
"""From this many bytes on the second parser pays."""

FLOATS = ("FP16", "FP32", "FP64")


def read(text: bytes | memoryview | bytearray) -> dict[str, Any] | None:
    """Return a request in which the flat data of floating inputs are FP64 arrays.

    None when this parser cannot say all there is to say: the text is not valid, or not a
    request. The other parser then finds the words for it.
    """
    try:
        root: Any = simdjson.Parser().parse(bytes(text))
        request = {key: _plain(root[key]) for key in root.keys() if key != "inputs"}  # noqa: SIM118
        request["inputs"] = [_input(entry) for entry in root["inputs"]]
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return None
    return request


def _input(entry: Any) -> dict[str, Any]:
    values = {key: _plain(entry[key]) for key in entry.keys() if key != "data"}  # noqa: SIM118
    if "data" in entry:
        data = entry["data"]
        flat = _flat(data) if values.get("datatype") in FLOATS else None
        values["data"] = _plain(data) if flat is None else flat
    return values


def _flat(data: Any) -> Array | None:
    """Return a list of numbers as an array; None for a nested list or one of other values."""
    try:
        array = np.frombuffer(data.as_buffer(of_type="d"), np.float64)
    except TypeError:
        return None
    return array if len(data) == len(array) else None


def _plain(value: Any) -> Any:
    """Return a value without the parser behind it."""
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value
