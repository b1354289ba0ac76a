"""Typed and raw contents in one message, as MLServer's converter writes them, and others might."""

from __future__ import annotations

import numpy as np
import pytest

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.rpc.generated import oip_pb2 as pb
from skerry_runtime.rpc.wire import RequestReader


def message(*inputs: tuple[str, list[float] | None], raws: list[list[float]]) -> bytes:
    """Inputs by name: with typed values, with contents that hold none, or (None) without."""
    request = pb.ModelInferRequest(model_name="digits")
    for name, typed in inputs:
        entry = request.inputs.add(name=name, datatype="FP32", shape=[1])
        if typed is not None:
            entry.contents.SetInParent()
            entry.contents.fp32_contents.extend(typed)
    request.raw_input_contents.extend(np.float32(raw).tobytes() for raw in raws)
    return request.SerializeToString()


def values(reader: RequestReader, data: bytes) -> tuple[dict[str, list[float]], bool]:
    request, is_raw = reader.read(data, 0.0)
    return {tensor.name: tensor.array.tolist() for tensor in request.inputs}, is_raw


@pytest.mark.parametrize(
    ("inputs", "raws", "expected"),
    [
        pytest.param([("a", [])], [[1]], {"a": [1]}, id="empty contents beside raw ones"),
        pytest.param(
            [("a", []), ("b", None)], [[1], [2]], {"a": [1], "b": [2]}, id="empty and none"
        ),
        pytest.param(
            [("a", [7]), ("b", [])], [[2]], {"a": [7], "b": [2]}, id="typed before a raw one"
        ),
        pytest.param(
            [("a", None), ("b", [7]), ("c", [])],
            [[1], [3]],
            {"a": [1], "b": [7], "c": [3]},
            id="typed between raw ones",
        ),
    ],
)
def test_raw_contents_go_to_the_inputs_without_typed_values(
    inputs: list[tuple[str, list[float] | None]],
    raws: list[list[float]],
    expected: dict[str, list[float]],
) -> None:
    reader = RequestReader(16, 64)
    for _ in range(3):  # the second is read by what was kept of the first
        assert values(reader, message(*inputs, raws=raws)) == (expected, True)
    others = [[raw[0] + 10] for raw in raws]
    fresh = values(RequestReader(16, 64), message(*inputs, raws=others))
    assert values(reader, message(*inputs, raws=others)) == fresh


@pytest.mark.parametrize(
    ("inputs", "raws"),
    [
        pytest.param([("a", [1])], [[1]], id="both for one input"),
        pytest.param([("a", [1]), ("b", [])], [[1], [2]], id="a raw one too many"),
        pytest.param([("a", None), ("b", [])], [[1]], id="a raw one too few"),
        pytest.param([], [[1]], id="a raw one for nothing"),
    ],
)
def test_an_input_has_one_or_the_other(
    inputs: list[tuple[str, list[float] | None]], raws: list[list[float]]
) -> None:
    with pytest.raises(InvalidRequest, match="raw contents for"):
        values(RequestReader(16, 64), message(*inputs, raws=raws))
