"""An execution provider other than the CPU's, for real: OpenVINO on its CPU device.

The locked packages of the image runtime-openvino are installed beside the development
environment, and models are loaded in a child process that finds them first.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serving import models
from skerry_cluster import images
from skerry_cluster.settings import REPOSITORY, Layout

OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"
BOTH = (OPENVINO, CPU)

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="OpenVINO's build of ONNX Runtime is for x86-64"
)


@dataclass(frozen=True)
class Case:
    """A model, and how it is to be run."""

    path: Path
    device: str | None = "CPU"
    fallback: bool = True
    input_shapes: dict[str, tuple[int, ...]] | None = None
    static_shapes: bool = False
    more_options: dict[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        options = {"device_type": self.device} if self.device else {}
        execution = {
            "profile": "openvino-cpu",
            "providers": BOTH,
            "providerOptions": {OPENVINO: {**options, **(self.more_options or {})}},
            "fallback": self.fallback,
            "staticShapes": self.static_shapes,
        }
        shapes = self.input_shapes or {}
        return {"path": str(self.path), "execution": execution, "input_shapes": shapes}


Ask = Callable[[Case], dict[str, Any]]


@pytest.fixture(scope="module")
def packages() -> Path:
    (image,) = images.choose("runtime-openvino", everything=False)
    return images.ensure_libraries(Layout.from_environment(), images.read_inputs(image))


@pytest.fixture
def ask(packages: Path) -> Ask:
    path = [packages, REPOSITORY / "runtime", REPOSITORY / "tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}

    def load(case: Case) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "serving.provider_child"],
            input=json.dumps([case.as_json()]),
            env=environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])[0]
        return answer

    return load


def test_the_device_takes_the_whole_graph_and_computes_the_same(tmp_path: Path, ask: Ask) -> None:
    answer = ask(Case(models.product(tmp_path / "m.onnx"), fallback=False))
    assert answer["acceleration"] == {
        "requested": list(BOTH),
        "effective": OPENVINO,
        "delegated_percent": 100.0,
        "nodes": {OPENVINO: 2},
        "reason": "",
    }
    assert answer["outputs"]["y"] == [[0.0, 0.0, 0.0]]


def test_a_missing_device_is_visible_when_fallback_is_allowed(tmp_path: Path, ask: Ask) -> None:
    acceleration = ask(Case(models.product(tmp_path / "m.onnx"), device="GPU"))["acceleration"]
    assert acceleration["effective"] == CPU
    assert acceleration["delegated_percent"] == 0
    assert acceleration["nodes"] == {CPU: 2}
    assert "device_type GPU" in acceleration["reason"]


def test_a_missing_device_is_refused_when_fallback_is_forbidden(tmp_path: Path, ask: Ask) -> None:
    answer = ask(Case(models.product(tmp_path / "m.onnx"), device="GPU", fallback=False))
    assert answer["error"] == "ProviderMissing"
    assert "part of this runtime image" in answer["message"]
    assert "device_type GPU" in answer["message"]
    assert "driver" in answer["message"]


@pytest.mark.parametrize("device", ["NPU", "GPU.1"])
def test_no_device_of_another_kind_takes_its_place(tmp_path: Path, ask: Ask, device: str) -> None:
    answer = ask(Case(models.product(tmp_path / "m.onnx"), device=device, fallback=False))
    assert answer["error"] == "ProviderMissing"
    assert f"device_type {device}" in answer["message"]


def test_what_a_device_leaves_is_measured(tmp_path: Path, ask: Ask) -> None:
    answer = ask(Case(models.normalized_product(tmp_path / "m.onnx")))
    assert answer["acceleration"]["nodes"] == {OPENVINO: 1, CPU: 1}
    assert answer["acceleration"]["delegated_percent"] == 50.0


def test_what_a_device_leaves_is_named_when_fallback_is_forbidden(tmp_path: Path, ask: Ask) -> None:
    answer = ask(Case(models.normalized_product(tmp_path / "m.onnx"), fallback=False))
    assert answer["error"] == "ProviderMissing"
    assert "takes 50 % of the graph and leaves Normalizer to the CPU" in answer["message"]
    assert "fallback Allow" in answer["message"]


@pytest.mark.parametrize("device", [None, "AUTO", "AUTO:GPU,CPU", "HETERO:GPU,CPU", "gpu"])
def test_a_device_that_openvino_would_choose_itself_is_refused(
    tmp_path: Path, ask: Ask, device: str | None
) -> None:
    """It would take the CPU, and call it acceleration."""
    answer = ask(Case(models.product(tmp_path / "m.onnx"), device=device, fallback=False))
    assert answer["error"] == "ProviderMissing"
    assert f"providerOptions.{OPENVINO}.device_type" in answer["message"]


def test_nor_is_it_used_when_fallback_is_allowed(tmp_path: Path, ask: Ask) -> None:
    acceleration = ask(Case(models.product(tmp_path / "m.onnx"), device="AUTO"))["acceleration"]
    assert acceleration["effective"] == CPU
    assert f"providerOptions.{OPENVINO}.device_type" in acceleration["reason"]


def test_an_unknown_option_is_named(tmp_path: Path, ask: Ask) -> None:
    case = Case(models.product(tmp_path / "m.onnx"), fallback=False, more_options={"speed": "high"})
    answer = ask(case)
    assert answer["error"] == "ProviderMissing"
    assert "option: speed" in answer["message"]


def test_a_file_that_is_no_model_is_not_the_accelerator_s_fault(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    answer = ask(Case(tmp_path / "m.onnx", fallback=False))
    assert answer["error"] == "LoadError"


def test_dynamic_axes_are_fixed_for_the_device(tmp_path: Path, ask: Ask) -> None:
    path = models.doubled(tmp_path / "m.onnx", ["n", 4])
    case = Case(path, fallback=False, input_shapes={"x": (3, 4)}, static_shapes=True)
    answer = ask(case)
    assert answer["shapes"] == {"x": [3, 4]}
    assert answer["acceleration"]["delegated_percent"] == 100.0
