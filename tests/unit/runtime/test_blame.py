"""Whose fault an engine's error is, by engine, and what the client and the counters are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from serving import models, tflite_models
from serving.asked import REFUSED, TRANSPORTS, ask
from serving.fakes import load, serving
from serving.running import InThread, running
from skerry_runtime.backends.base import LoadRequest, Model
from skerry_runtime.backends.blame import blamed
from skerry_runtime.backends.litert import MAX_SAID, LiteRtBackend
from skerry_runtime.backends.triton import names_argument
from skerry_runtime.contract import Execution, Format
from skerry_runtime.errors import InferenceFailed, InvalidRequest

FULL = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture(scope="module")
def server() -> Iterator[InThread]:
    with running() as server:
        yield server


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array([values], np.int64)


def value(name: str, axes: list[Any] | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, axes)


def one_operator(
    path: Path,
    operator: str,
    arrays: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    **attributes: Any,
) -> Model:
    """A model of one operator on inputs that are free in every axis."""
    axes = {n: [f"{n}{i}" for i in range(a.ndim)] for n, a in arrays.items()}
    names = [*weights, *arrays] if operator.startswith("Gather") else [*arrays, *weights]
    kind = helper.np_dtype_to_tensor_dtype
    output = TensorProto.INT64 if operator == "ArgMax" else TensorProto.FLOAT
    return load(
        models.save(
            path,
            [helper.make_node(operator, names, ["y"], **attributes)],
            [value(n, axes[n], kind(a.dtype)) for n, a in arrays.items()],
            [value("y", None, output)],
            weights,
        )
    )


TABLE = {"t": np.eye(4, dtype=np.float32)}
REFUSALS: dict[str, tuple[str, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]] = {
    "an unknown token": ("Gather", {"x": ints(9)}, TABLE, {}),
    "a negative token": ("Gather", {"x": ints(-5)}, TABLE, {}),
    "an index beyond a row": ("GatherElements", {"x": ints(9)}, TABLE, {}),
    "an index of several axes": ("GatherND", {"x": ints(9)}, TABLE, {}),
    "a text longer than the positions": (
        "Add",
        {"x": floats(1, 9, 4)},
        {"p": floats(1, 6, 4)},
        {},
    ),
    "a width that a product cannot take": ("MatMul", {"x": floats(1, 5)}, {"w": floats(4, 3)}, {}),
    "a width that Gemm cannot take": ("Gemm", {"x": floats(1, 5)}, {"w": floats(4, 3)}, {}),
    "a picture smaller than a kernel": (
        "Conv",
        {"x": floats(1, 3, 2, 2)},
        {"w": floats(2, 3, 5, 5)},
        {},
    ),
    "a picture with other channels": (
        "Conv",
        {"x": floats(1, 4, 9, 9)},
        {"w": floats(2, 3, 5, 5)},
        {},
    ),
    "a size that cannot be reshaped": ("Reshape", {"x": floats(1, 5)}, {"s": np.int64([2, 2])}, {}),
    "lengths that do not join": ("Concat", {"x": floats(2, 5)}, {"w": floats(1, 3)}, {"axis": 1}),
    "no rows, where a row is needed": ("ArgMax", {"x": floats(0, 4)}, {}, {"axis": 0}),
    "no rows for a recurrent model": (
        "LSTM",
        {"x": floats(3, 0, 4)},
        {"w": floats(1, 8, 4), "r": floats(1, 8, 2)},
        {"hidden_size": 2},
    ),
    "no steps for a recurrent model": (
        "GRU",
        {"x": floats(0, 1, 4)},
        {"w": floats(1, 6, 4), "r": floats(1, 6, 2)},
        {"hidden_size": 2},
    ),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("case", REFUSALS)
def test_an_input_that_onnx_runtime_cannot_take_is_the_client_s_mistake(
    server: InThread, tmp_path: Path, transport: str, case: str
) -> None:
    operator, arrays, weights, attributes = REFUSALS[case]
    revision = f"{transport}-{case}".replace(" ", "-").replace(",", "")
    model = one_operator(tmp_path / "m.onnx", operator, arrays, weights, **attributes)
    server.registry.switch(serving(model, revision))
    with pytest.raises(InferenceServerException) as refused:
        ask(transport, server, arrays)
    assert refused.value.status() == REFUSED[transport]
    total = server.metrics.of(revision).counters().total
    assert (total.requests, total.rejected) == (0, 1)


def test_an_empty_past_is_answered(tmp_path: Path) -> None:
    arrays = {"x": floats(1, 0, 4)}
    model = one_operator(tmp_path / "m.onnx", "Concat", arrays, {"w": floats(1, 2, 4)}, axis=1)
    assert model.infer(arrays)["y"].shape == (1, 2, 4)


def looked_up(path: Path) -> Model:
    """y = table[x], by LiteRT's operator."""
    tensors = [
        tflite_models.Tensor("x", np.int32, (-1,)),
        tflite_models.Tensor("t", np.float32, (3, 2), np.arange(6, dtype=np.float32)),
        tflite_models.Tensor("y", np.float32, (-1, 2)),
    ]
    tflite_models.save(path, tensors, schema.BuiltinOperator.EMBEDDING_LOOKUP)
    request = LoadRequest(path, Format.TFLITE, Execution(profile="cpu"), 1)
    return LiteRtBackend().load(request)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_unknown_token_of_a_tflite_model_is_the_client_s_mistake(
    server: InThread, tmp_path: Path, transport: str
) -> None:
    server.registry.switch(serving(looked_up(tmp_path / "m.tflite"), f"tflite-{transport}"))
    with pytest.raises(InferenceServerException, match="Got 9") as refused:
        ask(transport, server, {"x": np.array([9], np.int32)})
    assert refused.value.status() == REFUSED[transport]
    assert server.metrics.of(f"tflite-{transport}").counters().total.rejected == 1
    assert ask(transport, server, {"x": np.array([2], np.int32)})["y"].tolist() == [[4, 5]]


def test_an_error_of_litert_tells_nothing_of_the_requests_before(tmp_path: Path) -> None:
    model = looked_up(tmp_path / "m.tflite")
    for token in (9, 7, 8):
        with pytest.raises(InvalidRequest, match=f"Got {token}") as refused:
            model.infer({"x": np.array([token], np.int32)})
        assert str(refused.value).count("Got") == 1


def test_errors_without_end_do_not_fill_the_memory_of_litert(tmp_path: Path) -> None:
    model = looked_up(tmp_path / "m.tflite")
    errors = MAX_SAID // 100 + 100  # each is longer than 100 characters
    for token in range(10, 10 + errors):
        with pytest.raises(InvalidRequest) as refused:
            model.infer({"x": np.array([token], np.int32)})
        cause = refused.value.__cause__
        assert len(str(cause)) < MAX_SAID + 1000
    assert model.infer({"x": np.array([1], np.int32)})["y"].tolist() == [[2, 3]]


@pytest.mark.parametrize(
    "text",
    [
        "Failed to allocate memory for requested buffer of size 4398046511104, shape {1,2}",
        "CUDA failure 719: unspecified launch failure ; axis 0",
        "Exiting due to terminate flag being set to true.",
        "Non-zero status code returned while running Div node. Name:'/shape/index' "
        "Status Message: it went wrong",
        "something unexpected",
    ],
)
def test_an_error_that_names_no_input_is_the_model_s(text: str) -> None:
    assert isinstance(blamed(RuntimeError(text), FULL), InferenceFailed)


def test_memory_is_the_model_s_business_even_where_the_engine_blames_an_argument() -> None:
    error = blamed(RuntimeError("Failed to allocate memory"), FULL, is_argument=True)
    assert isinstance(error, InferenceFailed)


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        ("StatusCode.INVALID_ARGUMENT", "unexpected shape for input 'x'", True),
        ("StatusCode.OUT_OF_RANGE", "beyond", True),
        ("StatusCode.INTERNAL", "onnx runtime error 2: Non-zero status code", True),
        ("StatusCode.INTERNAL", "onnx runtime error 6: Non-zero status code", False),
        (None, "it went wrong", False),
    ],
)
def test_triton_blames_the_request_by_its_status_or_its_engine_s_code(
    status: str | None, text: str, expected: bool
) -> None:
    assert names_argument(status, text) is expected
