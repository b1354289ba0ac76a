"""Long JSON is read by another parser: what it says is the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.types import Tensor
from skerry_runtime.rest import numbers
from skerry_runtime.rest.codec import Decoder, Limits

LONG = 5000


def decoded(entry: dict[str, Any], **more: Any) -> list[Tensor]:
    text = json.dumps({"inputs": [{"name": "x", **entry}], **more}).encode()
    return Decoder(Limits(16, 64)).decode(text, None)[1]


def both(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what each parser makes of an input: an array as a list, or the refusal."""
    results: list[object] = []
    for limit in (0, 2**40):
        monkeypatch.setattr(numbers, "LONG", limit)
        try:
            tensor = decoded(entry)[0]
            results.append((tensor.array.dtype, tensor.array.tolist()))
        except InvalidRequest as error:
            results.append(str(error))
    return results


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        pytest.param("FP32", [2, 2], [0.1, -3.4e38, 1e-45, 3.0], id="floats"),
        pytest.param("FP32", [3], [1, 2.5, 1e39], id="integers among floats, and infinity"),
        pytest.param("FP16", [2], [0.5, 65504], id="half floats"),
        pytest.param("FP64", [2], [0.1, 5e-324], id="double floats"),
        pytest.param("FP32", [2, 2], [[1.5, 2], [3, 4]], id="a nested list"),
        pytest.param("FP32", [3], [[1.5], [3, 4]], id="a ragged list"),
        pytest.param("FP32", [3], [1.5, [3, 4]], id="a list in a list"),
        pytest.param("FP32", [0], [], id="an empty list"),
        pytest.param("FP32", [2], [True, 1.5], id="a truth among floats"),
        pytest.param("FP32", [1], [True], id="a truth for a float"),
        pytest.param("FP32", [2], ["a", 1.5], id="a text among floats"),
        pytest.param("FP32", [2], [None, 1.5], id="nothing among floats"),
        pytest.param("FP32", [3], [1.5, 2.5], id="too few"),
        pytest.param("FP32", [1], 1.5, id="no list"),
        pytest.param("FP32", [1], {"a": 1}, id="an object"),
        pytest.param("INT64", [2], [2**63 - 1, -(2**63)], id="integers of all 64 bits"),
        pytest.param("UINT64", [2], [2**64 - 1, 0], id="unsigned integers of all 64 bits"),
        pytest.param("INT8", [2], [1, 200], id="an integer out of range"),
        pytest.param("BOOL", [2], [True, False], id="truths"),
        pytest.param("BYTES", [2], ["é", ""], id="texts"),
    ],
)
def test_both_parsers_say_the_same_of(
    datatype: str, shape: list[int], data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"datatype": datatype, "shape": shape, "data": data}
    ours, theirs = both(entry, monkeypatch)
    assert ours == theirs


def test_a_long_list_of_floats_needs_no_object_per_number() -> None:
    values = np.random.default_rng(0).random(LONG)
    entry = {"name": "x", "datatype": "FP32", "shape": [LONG], "data": values.tolist()}
    request = numbers.read(json.dumps({"id": "7", "inputs": [entry]}).encode())
    assert request is not None
    assert isinstance(request["inputs"][0]["data"], np.ndarray)
    tensor = decoded(entry, id="7", parameters={"a": {"b": [1]}}, outputs=[{"name": "y"}])[0]
    assert tensor.array.tolist() == values.astype(np.float32).tolist()


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"5", b'{"inputs": 5}', b'{"inputs": [5]}', b'{"a": 1}', b"\xff" * 9]
)
def test_what_is_no_request_is_left_to_the_parser_with_the_words(text: bytes) -> None:
    assert numbers.read(text) is None
    with pytest.raises(InvalidRequest):
        Decoder(Limits(16, 64)).decode(text + b" " * numbers.LONG, None)
