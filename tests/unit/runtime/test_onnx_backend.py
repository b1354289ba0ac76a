"""ONNX Runtime behind the seam: what loads, what is refused and why."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from hostile.bombs import endless_loop
from serving import models
from serving.fakes import load
from skerry_runtime.backends.base import LoadError, ProviderMissing
from skerry_runtime.contract import Execution
from skerry_runtime.errors import InferenceFailed, InvalidRequest


@pytest.mark.parametrize("datatype", sorted(set(models.ONNX_TYPES) - {"BYTES"}))
def test_a_tensor_of_every_datatype_passes_through(tmp_path: Path, datatype: str) -> None:
    model = load(models.identity(tmp_path / "m.onnx", datatype))
    assert model.metadata.inputs[0].datatype == datatype
    assert model.metadata.inputs[0].shape == (-1, 2)
    dtype = (
        np.uint16
        if datatype == "BF16"
        else onnx.helper.tensor_dtype_to_np_dtype(models.ONNX_TYPES[datatype])
    )
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    result = model.infer({"x": array})["y"]
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)


def test_texts_pass_through_as_bytes(tmp_path: Path) -> None:
    model = load(models.identity(tmp_path / "m.onnx", "BYTES"))
    array = np.array([["é".encode(), b""], [b"a\nb", b"c"]], dtype=object)
    assert model.infer({"x": array})["y"].tolist() == array.tolist()


def test_a_text_that_is_not_utf8_is_the_client_s_mistake(tmp_path: Path) -> None:
    model = load(models.identity(tmp_path / "m.onnx", "BYTES"))
    with pytest.raises(InvalidRequest, match="'x'"):
        model.infer({"x": np.array([[b"\xff", b""]], dtype=object)})


def test_only_the_wanted_outputs_are_computed(tmp_path: Path) -> None:
    model = load(models.product(tmp_path / "m.onnx"))
    assert list(model.infer({"x": np.ones((1, 4), np.float32)}, ["z"])) == ["z"]


def test_the_share_on_the_wanted_provider_is_measured(tmp_path: Path) -> None:
    model = load(models.product(tmp_path / "m.onnx"))
    assert model.acceleration.effective == "CPUExecutionProvider"
    assert model.acceleration.delegated_percent == 100.0


def test_a_missing_accelerator_with_fallback_is_visible(tmp_path: Path) -> None:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    model = load(
        models.product(tmp_path / "m.onnx"), Execution(profile="nvidia-gpu", providers=wanted)
    )
    assert model.acceleration.requested == wanted
    assert model.acceleration.effective == "CPUExecutionProvider"
    assert model.acceleration.delegated_percent == 0.0


def test_a_missing_accelerator_without_fallback_is_refused(tmp_path: Path) -> None:
    execution = Execution(profile="x", providers=("CUDAExecutionProvider",), fallback=False)
    with pytest.raises(ProviderMissing, match="CUDAExecutionProvider is not part"):
        load(models.product(tmp_path / "m.onnx"), execution)


def test_an_accelerator_that_takes_nothing_without_fallback_is_refused(tmp_path: Path) -> None:
    """This build's second provider takes no ordinary node: an accelerator that does nothing."""
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this build of onnxruntime has only the CPU")
    execution = Execution(
        profile="x", providers=("AzureExecutionProvider", "CPUExecutionProvider"), fallback=False
    )
    with pytest.raises(ProviderMissing, match="fallback is forbidden"):
        load(models.product(tmp_path / "m.onnx"), execution)


def test_the_cpu_first_needs_no_fallback(tmp_path: Path) -> None:
    model = load(models.product(tmp_path / "m.onnx"), Execution(profile="cpu", fallback=False))
    assert model.acceleration.delegated_percent == 100.0


def test_an_ort_file_loads_whatever_it_is_called(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(models.product(tmp_path / "m.onnx"), options)
    model = load(tmp_path / "m.ort")
    assert model.infer({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[18, 22, 26]]
    assert model.acceleration.delegated_percent == 100.0


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000)])
def test_a_file_that_is_no_model_is_refused_without_its_path(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(LoadError) as refused:
        load(tmp_path / "m.onnx")
    assert str(tmp_path) not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_an_output_that_is_no_tensor_is_refused_with_the_remedy(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_value_info(
                "y",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(
                        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
                    )
                ),
            )
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(LoadError, match="zipmap=False"):
        load(tmp_path / "m.onnx")


def test_a_failure_inside_the_engine_shows_no_path(tmp_path: Path) -> None:
    model = load(models.gather(tmp_path / "m.onnx"))
    with pytest.raises(InvalidRequest) as failed:
        model.infer({"index": np.array([7], np.int64)})
    assert "indices element out of data bounds" in str(failed.value)
    assert "/onnxruntime" not in str(failed.value)


def test_a_closed_model_fails_and_does_not_crash(tmp_path: Path) -> None:
    model = load(models.product(tmp_path / "m.onnx"))
    model.close()
    with pytest.raises(InferenceFailed, match="closed"):
        model.infer({"x": np.ones((1, 4), np.float32)})


def test_a_run_without_an_end_can_be_broken_off(tmp_path: Path) -> None:
    (tmp_path / "loop.onnx").write_bytes(endless_loop(1 << 62))
    model = load(tmp_path / "loop.onnx")
    timer = threading.Timer(0.2, model.interrupt)
    timer.start()
    with pytest.raises(InferenceFailed):
        model.infer({"x": np.ones((1, 4), np.float32)})
    timer.join()
