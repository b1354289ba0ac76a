"""LiteRT behind the seam: what loads, what it answers, what is refused and why."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving import models, tflite_models
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sample import zeros
from skerry_runtime.agent.verify import check_format
from skerry_runtime.backends.base import LoadError, LoadRequest, Model, ProviderMissing, TensorSpec
from skerry_runtime.backends.engines import FormatBackend
from skerry_runtime.backends.litertopen import EDGE_TPU
from skerry_runtime.contract import Execution, Format
from skerry_runtime.errors import InferenceFailed, InvalidRequest

CPU = "CPUExecutionProvider"
STATIC = Execution(profile="npu", static_shapes=True)


def load(
    path: Path, execution: Execution | None = None, shapes: dict[str, tuple[int, ...]] | None = None
) -> Model:
    execution = execution or Execution(profile="cpu")
    return FormatBackend().load(LoadRequest(path, Format.TFLITE, execution, 1, shapes or {}))


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_inputs_and_outputs_have_the_names_of_the_signature(tmp_path: Path) -> None:
    metadata = load(tflite_models.product(tmp_path / "m.tflite")).metadata
    assert metadata.platform == "litert_tflite"
    assert metadata.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert metadata.outputs == (TensorSpec("y", "FP32", (-1, 3)),)


def test_without_a_signature_the_tensors_own_names_count(tmp_path: Path) -> None:
    path = tflite_models.product(tmp_path / "m.tflite", with_signature=False)
    model = load(path)
    assert [spec.name for spec in model.metadata.inputs] == ["serving_default_x:0"]
    answer = model.infer({"serving_default_x:0": ones(1, 4)})
    assert answer["serving_default_y:0"].tolist() == [[18, 22, 26]]


def test_every_length_of_a_dynamic_axis_is_answered_in_any_order(tmp_path: Path) -> None:
    model = load(tflite_models.product(tmp_path / "m.tflite"))
    for batch in (1, 3, 3, 2, 1):
        assert model.infer({"x": ones(batch, 4)})["y"].tolist() == [[18, 22, 26]] * batch


def test_an_answer_stays_as_it_was_when_the_next_is_computed(tmp_path: Path) -> None:
    model = load(tflite_models.product(tmp_path / "m.tflite"))
    first = model.infer({"x": ones(1, 4)})["y"]
    model.infer({"x": np.zeros((1, 4), np.float32)})
    assert first.tolist() == [[18, 22, 26]]


def test_int8_tensors_pass_as_they_are(tmp_path: Path) -> None:
    model = load(tflite_models.quantized_product(tmp_path / "m.tflite"))
    assert model.metadata.inputs[0] == TensorSpec("x", "INT8", (1, 4))
    answer = model.infer({"x": np.full((1, 4), 2, np.int8)})["y"]
    real = 4 * (answer.astype(float) + 100)
    assert answer.dtype == np.int8
    np.testing.assert_allclose(real, [[18, 22, 26]], atol=2)


def test_requests_side_by_side_get_their_own_answers(tmp_path: Path) -> None:
    model = load(tflite_models.product(tmp_path / "m.tflite"))

    def ask(number: int) -> bool:
        array = np.full((1 + number % 3, 4), number, np.float32)
        return bool((model.infer({"x": array})["y"] == array @ tflite_models.WEIGHTS).all())

    with ThreadPoolExecutor(4) as clients:
        assert all(clients.map(ask, range(100)))


def test_the_share_of_the_cpu_is_counted(tmp_path: Path) -> None:
    acceleration = load(tflite_models.product(tmp_path / "m.tflite")).acceleration
    assert acceleration.effective == CPU
    assert acceleration.nodes == {CPU: 1}
    assert acceleration.delegated_percent == 100


def test_a_delegate_that_the_image_lacks_is_visible_or_refused(tmp_path: Path) -> None:
    path = tflite_models.quantized_product(tmp_path / "m.tflite")
    wanted = Execution(profile="coral-usb", providers=(EDGE_TPU, CPU))
    acceleration = load(path, wanted).acceleration
    assert acceleration.effective == CPU
    assert acceleration.delegated_percent == 0
    assert "libedgetpu" in acceleration.reason
    with pytest.raises(ProviderMissing, match=r"libedgetpu.*fallback is forbidden"):
        load(path, wanted.model_copy(update={"fallback": False}))


def test_a_provider_of_another_engine_is_told_apart(tmp_path: Path) -> None:
    path = tflite_models.product(tmp_path / "m.tflite")
    wanted = Execution(profile="gpu", providers=("CUDAExecutionProvider",), fallback=False)
    with pytest.raises(ProviderMissing, match=r"CUDA.* runs no \.tflite file.*another format"):
        load(path, wanted)


def test_fixed_shapes_are_served(tmp_path: Path) -> None:
    model = load(tflite_models.product(tmp_path / "m.tflite"), STATIC, {"x": (2, 4)})
    assert model.metadata.inputs[0].shape == (2, 4)
    assert model.metadata.outputs[0].shape == (2, 3)
    assert model.infer(zeros(model.metadata))["y"].shape == (2, 3)


def test_a_dynamic_axis_is_refused_where_the_hardware_needs_static_shapes(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"x\[0\]; set .*inputShapes"):
        load(tflite_models.product(tmp_path / "m.tflite"), STATIC)


def test_shapes_that_contradict_the_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="axis 1 of input 'x' is 4"):
        load(tflite_models.product(tmp_path / "m.tflite"), None, {"x": (1, 5)})


def test_a_wrong_shape_fails_and_the_next_request_is_answered(tmp_path: Path) -> None:
    model = load(tflite_models.product(tmp_path / "m.tflite"))
    with pytest.raises(InvalidRequest, match="dimension 1"):
        model.infer({"x": ones(1, 5)})
    assert model.infer({"x": ones(1, 4)})["y"].tolist() == [[18, 22, 26]]


def test_a_closed_model_fails_and_does_not_crash(tmp_path: Path) -> None:
    model = load(tflite_models.product(tmp_path / "m.tflite"))
    model.close()
    with pytest.raises(InferenceFailed, match="closed"):
        model.infer({"x": ones(1, 4)})


def test_an_operator_of_somebodys_own_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="somebodys-own-op"):
        load(tflite_models.unknown_operator(tmp_path / "m.tflite"))


def test_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="input 'x' is text"):
        load(tflite_models.texts(tmp_path / "m.tflite"))


@pytest.mark.parametrize("content", [b"", b"no model" * 10, b"\0\0\0\0TFL3" + bytes(100)])
def test_a_damaged_file_is_refused_without_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(LoadError) as refused:
        load(tmp_path / "m.tflite")
    assert str(tmp_path) not in str(refused.value)


def test_a_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tflite_models.product(tmp_path / "m.tflite").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "part.tflite").write_bytes(whole[:length])
        with pytest.raises(LoadError):
            load(tmp_path / "part.tflite")


def test_the_format_is_known_by_its_content(tmp_path: Path) -> None:
    tflite = tflite_models.product(tmp_path / "m.tflite")
    onnx = models.product(tmp_path / "m.onnx")
    check_format(tflite, Format.TFLITE)
    with pytest.raises(Refused, match="ONNX is claimed, but this is a TFLite file"):
        check_format(tflite, Format.ONNX)
    with pytest.raises(Refused, match="TFLite is claimed, but this is no TFLite file"):
        check_format(onnx, Format.TFLITE)


def test_a_format_that_no_engine_here_runs_names_the_remedy(tmp_path: Path) -> None:
    request = LoadRequest(tmp_path / "m.hef", Format.CUSTOM, Execution(profile="hailo"), 1)
    with pytest.raises(LoadError, match="image that has it"):
        FormatBackend().load(request)
