"""Tensor codecs: what goes out comes back, and nothing that does not fit comes in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.tensors import (
    DTYPES,
    checked_shape,
    from_raw,
    from_values,
    to_raw,
    to_values,
)

NUMBERS = sorted(set(DTYPES) - {"BYTES", "BF16"})
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def number_tensors(draw: st.DrawFn, *, is_finite: bool = False) -> tuple[str, np.ndarray[Any, Any]]:
    datatype = draw(st.sampled_from(NUMBERS))
    dtype = DTYPES[datatype]
    floats = {"allow_nan": False, "allow_infinity": False} if is_finite else {}
    elements = hnp.from_dtype(dtype, **floats) if dtype.kind == "f" else hnp.from_dtype(dtype)
    return datatype, draw(hnp.arrays(dtype, SHAPES, elements=elements))


@st.composite
def bytes_tensors(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = draw(SHAPES)
    items = draw(st.lists(st.binary(), min_size=math.prod(shape), max_size=math.prod(shape)))
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


@given(number_tensors(), st.integers(0, 7))
def test_numbers_survive_the_raw_form_at_any_offset(
    tensor: tuple[str, np.ndarray[Any, Any]], offset: int
) -> None:
    datatype, array = tensor
    raw = memoryview(bytes(offset) + to_raw(datatype, array))[offset:]
    back = from_raw("x", datatype, array.shape, raw)
    assert back.flags.aligned
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(number_tensors(is_finite=True))
def test_finite_numbers_survive_json(tensor: tuple[str, np.ndarray[Any, Any]]) -> None:
    datatype, array = tensor
    text = orjson.dumps(to_values("x", datatype, array), option=orjson.OPT_SERIALIZE_NUMPY)
    back = from_values("x", datatype, array.shape, orjson.loads(text))
    np.testing.assert_array_equal(back, array)


@given(bytes_tensors())
def test_bytes_survive_the_raw_form(array: np.ndarray[Any, Any]) -> None:
    back = from_raw("x", "BYTES", array.shape, to_raw("BYTES", array))
    assert back.shape == array.shape
    assert list(back.flat) == list(array.flat)


@given(st.binary(), st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 5), max_size=3))
def test_arbitrary_bytes_become_a_tensor_of_the_shape_or_a_refusal(
    raw: bytes, datatype: str, shape: list[int]
) -> None:
    try:
        array = from_raw("x", datatype, tuple(shape), raw)
    except InvalidRequest:
        return
    assert array.shape == tuple(shape)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES, st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 3), max_size=3))
def test_arbitrary_json_becomes_a_tensor_of_the_shape_or_a_refusal(
    values: object, datatype: str, shape: list[int]
) -> None:
    try:
        array = from_values("x", datatype, tuple(shape), values)
    except InvalidRequest:
        return
    assert array.shape == tuple(shape)
    assert array.dtype == DTYPES[datatype]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        pytest.param("INT8", [128], id="a number beyond the datatype's range"),
        pytest.param("UINT8", [-1], id="a negative number for an unsigned datatype"),
        pytest.param("INT64", [1.5], id="a fraction for an integer datatype"),
        pytest.param("UINT64", [0.5, 2**63], id="a fraction beside a 64-bit number"),
        pytest.param("UINT64", [2**64], id="a number beyond 64 bits"),
        pytest.param("FP32", ["1"], id="a text for a number"),
        pytest.param("FP32", [None], id="null for a number"),
        pytest.param("FP32", [True], id="a boolean for a number"),
        pytest.param("BOOL", [1], id="a number for a boolean"),
        pytest.param("FP32", [[1.0], [1.0, 2.0]], id="ragged lists"),
        pytest.param("BYTES", [1], id="a number for a text"),
        pytest.param("BF16", [1.0], id="BF16, which has no JSON form"),
        pytest.param("FP32", {"a": 1}, id="an object for a list"),
    ],
)
def test_json_data_is_refused_when_it_holds(datatype: str, values: object) -> None:
    with pytest.raises(InvalidRequest, match="tensor 'x'"):
        from_values("x", datatype, (len(values),), values)  # type: ignore[arg-type]


def test_large_unsigned_numbers_keep_every_bit_beside_small_ones() -> None:
    array = from_values("x", "UINT64", (2,), [1, 2**64 - 1])
    assert array.tolist() == [1, 2**64 - 1]


def test_nested_json_must_be_nested_as_the_shape_is() -> None:
    assert from_values("x", "INT32", (2, 1), [[1], [2]]).tolist() == [[1], [2]]
    with pytest.raises(InvalidRequest, match="nested as"):
        from_values("x", "INT32", (1, 2), [[1], [2]])


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param([-1], id="negative"),
        pytest.param([1.0], id="a float"),
        pytest.param([True], id="a boolean"),
        pytest.param(["2"], id="a text"),
        pytest.param([1] * 17, id="too many axes"),
        pytest.param([2**40, 2**40], id="a product beyond any memory"),
        pytest.param([0, 2**62], id="a product hidden behind a zero"),
    ],
)
def test_a_shape_is_refused_when_it_is(shape: list[object]) -> None:
    with pytest.raises(InvalidRequest):
        checked_shape("x", shape, 16)


def test_a_raw_bool_of_any_byte_is_true_or_false() -> None:
    assert from_raw("x", "BOOL", (3,), b"\x00\x01\xff").tobytes() == b"\x00\x01\x01"


def test_an_output_without_a_json_form_asks_for_binary_data() -> None:
    with pytest.raises(InvalidRequest, match="binary_data"):
        to_values("y", "BYTES", np.array([b"\xff"], dtype=object))
    with pytest.raises(InvalidRequest, match="binary_data"):
        to_values("y", "BF16", np.zeros(1, np.uint16))
