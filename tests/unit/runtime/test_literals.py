"""Numbers that JSON has not: as Triton writes them, and never as null."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.tensors import DTYPES
from skerry_runtime.protocol.types import InferResponse, Tensor
from skerry_runtime.rest import literals, numbers
from skerry_runtime.rest.codec import Decoder, Encoder, Limits, OutputForm

FLOATS = ("FP16", "FP32", "FP64")
ODD = [1.5, math.nan, math.inf, -math.inf, -0.0]


def written(*tensors: Tensor, binary: dict[str, bool] | None = None) -> bytes:
    response = InferResponse("m", "1", "r1", "", list(tensors))
    return Encoder().encode(response, OutputForm(False, binary or {})).body


def read(values: str, datatype: str = "FP32", pad: int = 0) -> np.ndarray[Any, Any]:
    shape = f"[{values.count(',') + 1}]"
    entry = f'{{"name": "x", "datatype": "{datatype}", "shape": {shape}, "data": {values}}}'
    text = f'{{"id": "NaN Inf \\" -NaN", "inputs": [{entry}]}}' + " " * pad
    header, tensors = Decoder(Limits(16, 64)).decode(text.encode(), None)
    assert header.id == 'NaN Inf " -NaN'
    return tensors[0].array


@pytest.mark.parametrize("datatype", FLOATS)
@pytest.mark.parametrize("repeats", [1, 3000], ids=["short", "long"])
def test_each_of_the_three_has_its_own_word_in_an_answer(datatype: str, repeats: int) -> None:
    array = np.array(ODD * repeats, DTYPES[datatype])
    text = written(Tensor("y", datatype, array), Tensor("z", "INT8", np.zeros(1, np.int8)))
    assert b"[1.5,NaN,Infinity,-Infinity,-0.0" in text
    first, second = json.loads(text)["outputs"]
    np.testing.assert_array_equal(np.array(first["data"], array.dtype), array)
    assert second["data"] == [0]


@given(hnp.arrays(np.float32, st.integers(0, 2000)))
def test_any_floats_come_back_as_they_were(array: np.ndarray[Any, Any]) -> None:
    text = written(Tensor("y", "FP32", array))
    back = np.array(json.loads(text)["outputs"][0]["data"], np.float32)
    np.testing.assert_array_equal(back, array)
    assert b"null" not in text


def test_words_in_texts_and_names_are_no_numbers() -> None:
    texts = np.array([b"null", b"NaN"], object)
    array = np.float32([math.inf, 2])
    outputs = json.loads(written(Tensor("null", "BYTES", texts), Tensor("y", "FP32", array)))
    assert outputs["outputs"][0]["name"] == "null"
    assert outputs["outputs"][0]["data"] == ["null", "NaN"]
    assert outputs["outputs"][1]["data"] == [math.inf, 2]


def test_json_beside_binary_data_has_the_words_too() -> None:
    odd = Tensor("y", "FP32", np.float32([math.nan]))
    head = written(odd, Tensor("z", "FP32", np.float32([math.nan])), binary={"y": False, "z": True})
    assert b"[NaN]" in head
    assert b"binary_data_size" in head


@pytest.mark.parametrize("pad", [0, numbers.LONG], ids=["short", "long"])
@pytest.mark.parametrize("datatype", FLOATS)
def test_each_of_the_three_is_read_and_as_triton_s_parser_reads_it(datatype: str, pad: int) -> None:
    array = read("[1, NaN, Infinity, -Infinity, Inf, -Inf, -NaN]", datatype, pad)
    expected = [1, math.nan, math.inf, -math.inf, math.inf, -math.inf, math.nan]
    np.testing.assert_array_equal(array, np.array(expected, DTYPES[datatype]))


@pytest.mark.parametrize(
    ("values", "datatype"),
    [("[NaN]", "INT64"), ("[Infinity]", "UINT8"), ("[NaN]", "BOOL"), ("[NaN]", "BYTES")],
)
def test_only_floats_have_them(values: str, datatype: str) -> None:
    with pytest.raises(InvalidRequest, match="tensor 'x'"):
        read(values, datatype)


@pytest.mark.parametrize(
    "values",
    ["[nan]", "[NaNs]", "[+Infinity]", "[INF]", "[NaN", "[NaN,]", "[Infin]", "[" * 5000 + "NaN"],
)
@pytest.mark.parametrize("pad", [0, numbers.LONG], ids=["short", "long"])
def test_other_words_are_no_json(values: str, pad: int) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        read(values, "FP32", pad)


@pytest.mark.parametrize("pad", [0, numbers.LONG], ids=["short", "long"])
def test_null_in_floats_is_refused_with_the_remedy(pad: int) -> None:
    """KServe's and MLServer's clients write it for all three."""
    with pytest.raises(InvalidRequest, match="write NaN, Infinity or -Infinity, or send binary"):
        read("[1, null]", "FP32", pad)


@given(st.recursive(st.floats() | st.text(), st.lists, max_leaves=20))
def test_a_text_that_python_writes_is_read_as_python_reads_it(value: object) -> None:
    text = json.dumps([value, math.nan], ensure_ascii=False).encode("utf-8", "replace")
    np.testing.assert_equal(literals.loads(text), json.loads(text))


def test_finite_answers_are_written_by_the_fast_encoder_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(orjson, "Fragment", None)  # what only literals need
    for size in (1, 5000):
        array = np.ones(size, np.float32)
        assert json.loads(written(Tensor("y", "FP32", array)))["outputs"][0]["data"][0] == 1
