"""Fixed shapes: what can be fixed, and what each refusal names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from serving import models
from serving.fakes import load
from skerry_runtime.backends.base import LoadError
from skerry_runtime.backends.shapes import Axes, Shapes, axis_values, is_fixed, require_static
from skerry_runtime.contract import Execution
from skerry_runtime.errors import InvalidRequest

IMAGE: Axes = {"image": ["n", 3, "h", "w"]}
STATIC = Execution(profile="npu", static_shapes=True)


def test_named_axes_get_their_lengths() -> None:
    assert axis_values(IMAGE, {"image": (1, 3, 8, 9)}) == {"n": 1, "h": 8, "w": 9}


def test_an_axis_that_is_fixed_already_needs_no_name() -> None:
    assert axis_values({"x": [1, 4]}, {"x": (1, 4)}) == {}
    assert is_fixed({"x": [1, 4]}, {"x": (1, 4)})


WRONG: dict[str, tuple[Axes, Shapes, str]] = {
    "an input that does not exist": (IMAGE, {"img": (1,)}, "'img'.*inputs are image"),
    "too few axes": (IMAGE, {"image": (1, 3)}, r"has 4 axes \[n, 3, h, w\].*\[1, 3\]"),
    "an axis of another length": (IMAGE, {"image": (1, 1, 8, 8)}, "axis 1 .* is 3 .* 1 is given"),
    "one axis with two lengths": (
        {"a": ["n"], "b": ["n"]},
        {"a": (1,), "b": (2,)},
        "'n' .* both 1 and 2",
    ),
    "an axis without a name": ({"x": [None, 4]}, {"x": (1, 4)}, "axis 0 of input 'x'.*export"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=list(WRONG))
def test_shapes_that_contradict_the_model_are_refused(wrong: str) -> None:
    axes, shapes, words = WRONG[wrong]
    with pytest.raises(LoadError, match=words) as refused:
        axis_values(axes, shapes)
    assert "inputShapes" in str(refused.value)


def test_every_axis_that_is_still_dynamic_is_named() -> None:
    with pytest.raises(LoadError, match=r"image\[0\] \('n'\), image\[3\]; set .*inputShapes"):
        require_static({"image": ["n", 3, 8, None]})


def test_the_served_metadata_shows_the_fixed_shape(tmp_path: Path) -> None:
    path = models.doubled(tmp_path / "m.onnx", ["n", 4])
    model = load(path, STATIC, {"x": (2, 4)})
    assert model.metadata.inputs[0].shape == (2, 4)
    assert model.metadata.outputs[0].shape == (2, 4)
    assert model.infer({"x": np.ones((2, 4), np.float32)})["y"].tolist() == [[2] * 4] * 2
    with pytest.raises(InvalidRequest):
        model.infer({"x": np.ones((1, 4), np.float32)})


def test_a_dynamic_axis_is_refused_where_the_hardware_needs_static_shapes(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"x\[0\] \('n'\)"):
        load(models.doubled(tmp_path / "m.onnx", ["n", 4]), STATIC)


def test_a_static_model_needs_no_shapes(tmp_path: Path) -> None:
    assert load(models.doubled(tmp_path / "m.onnx", [1, 4]), STATIC).metadata.inputs[0].shape == (
        1,
        4,
    )


def test_the_axes_of_an_ort_file_cannot_be_fixed(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(models.doubled(tmp_path / "m.onnx", ["n", 4]), options)
    with pytest.raises(LoadError, match=r"an \.ort file"):
        load(tmp_path / "m.ort", None, {"x": (1, 4)})
