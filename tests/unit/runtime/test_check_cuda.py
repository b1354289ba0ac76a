"""The check of CUDA, without a GPU: it says so, and what it measures with can be loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import onnxruntime as ort
import pytest

from serving.fakes import load
from serving.running import ROOT

SCRIPT = ROOT / "hack" / "check_cuda.py"

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this build has CUDA"
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("check_cuda", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_build_without_cuda_is_told_by_words_and_status() -> None:
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT / "runtime")}, capture_output=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["error"] == "CUDA is not part of this build"


def test_a_gpu_that_takes_nothing_is_a_failed_check(script: ModuleType, tmp_path: Path) -> None:
    """The provider that is missing stands in for one whose GPU is missing."""
    report = script.check(script.small_cnn(tmp_path / "cnn.onnx"), runs=1)
    (row,) = report["gpu"]
    assert row["effective"] == "CPUExecutionProvider"
    assert row["delegated_percent"] == 0
    assert row["largest_difference"] == 0
    assert "CUDAExecutionProvider" in row["reason"]


def test_the_model_of_the_check_needs_no_input_shapes(script: ModuleType, tmp_path: Path) -> None:
    model = load(script.small_cnn(tmp_path / "cnn.onnx"))
    assert model.metadata.inputs[0].shape == (1, 3, 224, 224)


def test_a_model_that_is_no_file_is_wrong_usage(script: ModuleType) -> None:
    assert script.main(["--model", "/nowhere/m.onnx"]) == 2
