"""Shapes that real files have: none declared, scalars, no rows, many inputs, lengths that work."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from serving import models, tflite_models
from serving.asked import REFUSED, TRANSPORTS, ask
from serving.fakes import load, serving
from serving.running import InThread, running
from skerry_runtime.agent.sample import Unservable, require_servable, zeros
from skerry_runtime.backends.base import LoadError, LoadRequest, Model
from skerry_runtime.backends.litert import LiteRtBackend
from skerry_runtime.backends.tflitefile import read_facts
from skerry_runtime.batching import obstacle
from skerry_runtime.contract import Execution, Format
from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.tensors import MAX_TENSORS

RELU = schema.BuiltinOperator.RELU


@pytest.fixture(scope="module")
def server() -> Iterator[InThread]:
    with running() as server:
        yield server


def relu(path: Path, axes: list[int | str | None] | None) -> Path:
    """y = max(x, 0); None declares no shape."""
    return models.save(
        path,
        [helper.make_node("Relu", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)],
    )


def as_ort(path: Path) -> Path:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".ort"))
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(str(path), options)
    return path.with_suffix(".ort")


def load_tflite(path: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> Model:
    return LiteRtBackend().load(
        LoadRequest(path, Format.TFLITE, Execution(profile="cpu"), 1, shapes or {})
    )


SHAPES = [(), (3,), (2, 3), (1, 2, 3), (0, 4), (4, 0)]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("is_ort", [False, True])
def test_an_input_without_a_declared_shape_takes_every_shape(
    server: InThread, tmp_path: Path, transport: str, is_ort: bool
) -> None:
    path = relu(tmp_path / "m.onnx", None)
    server.registry.switch(serving(load(as_ort(path) if is_ort else path)))
    for shape in SHAPES:
        array = np.full(shape, -1, np.float32)
        answer = ask(transport, server, {"x": array})["y"]
        assert (answer.shape, answer.tolist()) == (shape, np.zeros(shape).tolist())


@pytest.mark.parametrize("is_ort", [False, True])
def test_a_scalar_is_told_from_an_input_without_a_shape(tmp_path: Path, is_ort: bool) -> None:
    scalar = relu(tmp_path / "scalar.onnx", [])
    free = relu(tmp_path / "free.onnx", None)
    a, b = (load(as_ort(path) if is_ort else path).metadata for path in (scalar, free))
    assert (a.inputs[0].shape, a.inputs[0].any_shape) == ((), False)
    assert (b.inputs[0].shape, b.inputs[0].any_shape) == ((-1,), True)
    assert obstacle(b) == "input 'x' has no declared shape"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_scalar_is_a_tensor_without_axes_and_nothing_else(
    server: InThread, tmp_path: Path, transport: str
) -> None:
    server.registry.switch(serving(load(relu(tmp_path / "m.onnx", []))))
    assert ask(transport, server, {"x": np.array(2, np.float32)})["y"].tolist() == 2
    with pytest.raises(InferenceServerException) as refused:
        ask(transport, server, {"x": np.ones((1, 2), np.float32)})
    assert refused.value.status() == REFUSED[transport]


def test_the_metadata_say_that_any_shape_is_taken(server: InThread, tmp_path: Path) -> None:
    server.registry.switch(serving(load(relu(tmp_path / "m.onnx", None))))
    client = TRANSPORTS["http"].InferenceServerClient(server.http)
    told = client.get_model_metadata("digits")["inputs"][0]
    client.close()
    assert (told["shape"], told["parameters"]) == ([-1], {"any_shape": True})


def wide(path: Path, count: int) -> Path:
    """y = all inputs side by side."""
    names = [f"c{number}" for number in range(count)]
    return models.save(
        path,
        [helper.make_node("Concat", names, ["y"], axis=1)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1]) for n in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", count])],
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_model_with_many_inputs_can_be_asked(
    server: InThread, tmp_path: Path, transport: str
) -> None:
    server.registry.switch(serving(load(wide(tmp_path / "m.onnx", 200))))
    inputs = {f"c{number}": np.full((1, 1), number, np.float32) for number in range(200)}
    assert ask(transport, server, inputs)["y"].tolist() == [list(range(200))]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_more_inputs_than_model_and_limit_have_are_refused(
    server: InThread, tmp_path: Path, transport: str
) -> None:
    server.registry.switch(serving(load(wide(tmp_path / "m.onnx", 2))))
    inputs = {f"c{number}": np.zeros((1, 1), np.float32) for number in range(65)}
    with pytest.raises(InferenceServerException, match="more than 64"):
        ask(transport, server, inputs)


def test_a_model_with_more_inputs_than_a_request_may_have_is_refused(tmp_path: Path) -> None:
    metadata = load(wide(tmp_path / "m.onnx", MAX_TENSORS + 1)).metadata
    with pytest.raises(Unservable, match=f"at most {MAX_TENSORS}"):
        require_servable(metadata)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_rows_are_answered_with_no_rows(
    server: InThread, tmp_path: Path, transport: str
) -> None:
    nothing = {"x": np.zeros((0, 4), np.float32)}
    tflite = load_tflite(tflite_models.product(tmp_path / "m.tflite"))
    for model in (load(models.product(tmp_path / "m.onnx")), tflite):
        server.registry.switch(serving(model))
        assert ask(transport, server, nothing)["y"].shape == (0, 3)


def pooled(path: Path, axes: tuple[int, int, int, int]) -> Path:
    """A convolution without padding: an axis shorter than its kernel cannot be prepared."""
    kernel = np.ones((1, 4, 4, 1), np.float32)
    tensors = [
        tflite_models.Tensor("x", np.float32, axes),
        tflite_models.Tensor("w", np.float32, kernel.shape, kernel),
        tflite_models.Tensor("b", np.float32, (1,), np.zeros(1, np.float32)),
        tflite_models.Tensor("y", np.float32, (-1, -1, -1, 1)),
    ]
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    return tflite_models.save(
        path,
        tensors,
        schema.BuiltinOperator.CONV_2D,
        options=(schema.BuiltinOptions.Conv2DOptions, options),
    )


def test_a_tflite_model_whose_axes_cannot_be_1_takes_the_shapes_of_its_requests(
    tmp_path: Path,
) -> None:
    model = load_tflite(pooled(tmp_path / "m.tflite", (-1, -1, -1, 1)))
    assert model.metadata.inputs[0].shape == (-1, -1, -1, 1)
    for side in (4, 9, 5):
        answer = model.infer({"x": np.ones((1, side, side, 1), np.float32)})["y"]
        assert answer.shape == (1, side - 3, side - 3, 1)
        assert (answer == 16).all()
    with pytest.raises(InvalidRequest):
        model.infer(zeros(model.metadata))
    assert model.infer({"x": np.ones((2, 4, 4, 1), np.float32)})["y"].shape == (2, 1, 1, 1)


def test_wanted_shapes_are_there_before_a_tflite_model_is_prepared(tmp_path: Path) -> None:
    path = pooled(tmp_path / "m.tflite", (-1, -1, -1, 1))
    model = load_tflite(path, {"x": (1, 6, 6, 1)})
    assert model.metadata.inputs[0].shape == (1, 6, 6, 1)
    assert model.metadata.outputs[0].shape == (1, 3, 3, 1)
    assert model.infer(zeros(model.metadata))["y"].shape == (1, 3, 3, 1)
    by_own_name = load_tflite(path, {"serving_default_x:0": (1, 5, 5, 1)})
    assert by_own_name.metadata.inputs[0].shape == (1, 5, 5, 1)
    with pytest.raises(LoadError, match="cannot take these inputShapes"):
        load_tflite(path, {"x": (1, 2, 2, 1)})


def test_a_tflite_model_that_no_length_prepares_names_the_remedy(tmp_path: Path) -> None:
    path = pooled(tmp_path / "m.tflite", (-1, -1, -1, 7))
    with pytest.raises(LoadError, match="inputShapes"):
        load_tflite(path)


def test_a_tflite_scalar_is_served_and_one_without_a_rank_takes_any_shape(tmp_path: Path) -> None:
    scalar = load_tflite(elementwise(tmp_path / "s.tflite", ()))
    assert scalar.infer({"x": np.array(-1, np.float32)})["y"].shape == ()
    assert not scalar.metadata.inputs[0].any_shape
    free = load_tflite(elementwise(tmp_path / "f.tflite", (), has_rank=False))
    assert free.metadata.inputs[0].any_shape
    for shape in ((2, 3), (), (4,), (2, 3)):
        assert free.infer({"x": np.ones(shape, np.float32)})["y"].shape == shape


def elementwise(path: Path, shape: tuple[int, ...], *, has_rank: bool = True) -> Path:
    tensors = [
        tflite_models.Tensor(name, np.float32, shape, has_rank=has_rank) for name in ("x", "y")
    ]
    return tflite_models.save(path, tensors, RELU)


def test_a_damaged_tflite_file_is_an_error_of_the_reader_s_own(tmp_path: Path) -> None:
    whole = tflite_models.product(tmp_path / "m.tflite").read_bytes()
    for place in range(0, len(whole) - 4, 3):
        damaged = bytearray(whole)
        struct.pack_into("<I", damaged, place, 0xFFFFFFF0)
        (tmp_path / "d.tflite").write_bytes(damaged)
        try:
            read_facts(tmp_path / "d.tflite")
        except ValueError as error:
            assert str(error) == "the file is damaged"  # noqa: PT017 many are not damaged enough
