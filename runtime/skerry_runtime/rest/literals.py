"""Numbers that JSON has not: NaN, Infinity and -Infinity, written and read as Triton does.

JSON has no word for them, and a null would make one of the three. So they are bare words, which
Triton's server and client, MLServer's types and Python's own parser read; a strict parser fails on
them and gets no wrong number.
"""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import Any

import numpy as np
import orjson

from skerry_runtime.protocol.tensors import Array

_WORDS = (b"NaN", b"Inf")  # one of them is in every text that has a literal
_SHORT = re.compile(rb'"(?:[^"\\]|\\.)*"|-NaN|Inf(?!inity)')
"""Texts, which are left alone, and what Triton's parser takes besides the words of Python's."""
_NULL = b"null"  # what the encoder writes instead

_SEARCHED_BYTES = 4 * 1024
"""Up to here looking for the encoder's nulls costs less than looking at every number."""


def dumps(answer: dict[str, Any], outputs: list[dict[str, Any]]) -> bytes:
    """Return an answer as JSON; the data of its outputs may hold numbers that JSON has not."""
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if len(text) <= _SEARCHED_BYTES and _NULL not in text:
        return text
    odd = [output for output in outputs if _is_odd(output.get("data"))]
    if not odd:
        return text
    for output in odd:
        output["data"] = orjson.Fragment(_spelled(output["data"]))
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def loads(text: bytes | memoryview | bytearray) -> object:
    """Return what a JSON text says that may hold such numbers.

    Raises:
        ValueError: it is not valid even so.
    """
    plain = bytes(text)
    if not any(word in plain for word in _WORDS):
        raise ValueError("no valid JSON")
    try:
        return json.loads(_SHORT.sub(_in_full, plain))
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _in_full(found: re.Match[bytes]) -> bytes:
    return {b"-NaN": b"NaN", b"Inf": b"Infinity"}.get(found[0], found[0])


def _is_odd(data: object) -> bool:
    """Tell whether an output's data hold a number that JSON has not."""
    if not isinstance(data, np.ndarray) or data.dtype.kind != "f":
        return False
    return not bool(np.isfinite(data).all())


def _spelled(data: Array) -> bytes:
    """Return a flat list as JSON with its literals: the encoder's nulls, each with its word."""
    pieces = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY).split(_NULL)
    values = data[~np.isfinite(data)]
    words = [_word(value) for value in values.tolist()]
    return b"".join(chain.from_iterable(zip(pieces, [*words, b""], strict=True)))


def _word(value: float) -> bytes:
    if value != value:  # noqa: PLR0124 only NaN differs from itself
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"
