"""An execution provider other than the CPU's, on real pods: OpenVINO's on the CPU device.

A second profile asks OpenVINO for a GPU, which no node has: the accelerator that is missing.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient import http

from digits_demo import cluster
from digits_demo.cluster import Access
from e2e.conftest import HELM_WAITS, RELEASE
from e2e.lab import ANSWER_S, Lab
from serving import tflite_models
from skerry_operator.api.v1alpha1.edgedeployment_status import CellStatus

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="OpenVINO's build of ONNX Runtime is for x86-64"
)

NODE = "node-c"
OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"
ROOMY = {"threads": 1, "resources": {"memoryRequest": "192Mi", "memoryLimit": "768Mi"}}

ON_CPU = "cpu-openvino"
"""The built-in profile."""
ON_GPU = "test-openvino-gpu"
"""A profile for every node that asks for a GPU all the same."""
WITHOUT_GPU = {
    "name": ON_GPU,
    "class": "cpu",
    "onlyByName": True,
    "labels": [{}],
    "architectures": ["amd64"],
    "providers": [OPENVINO, CPU],
    "providerOptions": {OPENVINO: {"device_type": "GPU"}},
    "exclusive": False,
    "flavor": "openvino",
}


@pytest.fixture(scope="module")
def openvino_image(access: Access) -> str:
    """Build the image, which no other test needs, and bring it to the nodes."""
    command = [sys.executable, str(cluster.CLUSTER), "images", "--only", "runtime-openvino"]
    subprocess.run(command, check=True)
    found = subprocess.run([*command, "--print"], check=True, capture_output=True, text=True)
    return str(json.loads(found.stdout)["runtime-openvino"])


@pytest.fixture(scope="module")
def installed(settings_come_back: None, helm: list[str], openvino_image: str) -> None:
    """Give the operator the image of the flavor, and the profile that nothing fits."""
    upgrade = [*helm, "upgrade", RELEASE, str(cluster.CHART), "--reuse-values"]
    rows = f"--set-json=accelerators={json.dumps([WITHOUT_GPU])}"
    image = cluster.parse_image(openvino_image).settings("runtimeImages.openvino")
    subprocess.run([*upgrade, rows, *image, *HELM_WAITS], check=True)


@pytest.fixture(scope="module")
def source(lab: Lab, files: Path) -> dict[str, str]:
    """Publish the trained classifier in operators that every accelerator knows."""
    content = portable(onnx.load(files / lab.index.model("v1").file.name))
    (files / "portable.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"uri": f"{lab.server.url}/portable.onnx", "sha256": digest}


def parameters(trained: onnx.ModelProto) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return weights and bias of the trained LinearClassifier."""
    attributes = {item.name: item for item in trained.graph.node[0].attribute}
    weights = np.float32(attributes["coefficients"].floats).reshape(10, 64).T
    return weights, np.float32(attributes["intercepts"].floats)


def portable(trained: onnx.ModelProto) -> bytes:
    """Write a LinearClassifier as MatMul, Add, Softmax and ArgMax."""
    weights, bias = parameters(trained)
    constants = {"w": weights, "b": bias}
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "portable",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


def deployment(lab: Lab, profile: str, fallback: str) -> dict[str, Any]:
    placement = {
        "nodeSelector": {"kubernetes.io/hostname": NODE},
        "accelerators": [profile],
        "fallback": fallback,
    }
    return lab.deployment(runtime=ROOMY, placement=placement)


def wait_for_cell(lab: Lab, profile: str, provider: str) -> CellStatus:
    """Wait until the only cell is of this profile and served by this provider."""

    def look() -> CellStatus | None:
        cells = lab.status().cells
        fits = len(cells) == 1 and (cells[0].profile, cells[0].provider) == (profile, provider)
        return cells[0] if fits else None

    return lab.wait(look, f"one cell, {profile} on {provider}")


def answer(lab: Lab, output: str = "label") -> np.ndarray[Any, Any]:
    """Ask the node's pod what it sees in an empty image."""
    client = http.InferenceServerClient(f"{lab.pods()[NODE].ip}:8080", network_timeout=ANSWER_S)
    try:
        image = http.InferInput("image", [1, 64], "FP32")
        image.set_data_from_numpy(np.zeros((1, 64), np.float32))
        found: np.ndarray[Any, Any] = client.infer("digits", [image]).as_numpy(output)
        return found
    finally:
        client.close()


def test_the_whole_graph_runs_on_the_provider_that_the_profile_names(
    lab: Lab, installed: None, source: dict[str, str], openvino_image: str
) -> None:
    lab.apply(lab.model("v1", source=source), deployment(lab, ON_CPU, "Forbid"))
    lab.wait_stable(lab.index.model("v1").version)
    cell = wait_for_cell(lab, ON_CPU, OPENVINO)
    assert cell.accelerated_percent == 100
    assert lab.only_pod()["spec"]["containers"][0]["image"] == openvino_image
    report = lab.reports()[NODE]
    assert report.serving is not None
    assert report.serving.acceleration is not None
    assert set(report.serving.acceleration.nodes) == {OPENVINO}
    assert answer(lab).shape == (1,)


def test_a_missing_device_is_visible_where_fallback_is_allowed(
    lab: Lab, installed: None, source: dict[str, str]
) -> None:
    lab.apply(deployment(lab, ON_GPU, "Allow"))
    cell = wait_for_cell(lab, ON_GPU, CPU)
    assert cell.accelerated_percent == 0
    report = lab.reports()[NODE]
    assert report.serving is not None
    assert report.serving.acceleration is not None
    assert "device_type GPU" in report.serving.acceleration.reason
    assert answer(lab).shape == (1,)


def test_a_missing_device_fails_the_canary_where_fallback_is_forbidden(
    lab: Lab, installed: None, source: dict[str, str]
) -> None:
    before = lab.pods()[NODE]
    lab.apply(lab.model("v2", source=source), deployment(lab, ON_GPU, "Forbid"))
    status = lab.wait_rolled_back(lab.index.model("v2").version, "ProviderMissing")
    assert "device_type GPU" in status.failed_revisions[0].message
    assert lab.pods()[NODE] == before
    assert lab.versions() == {NODE: lab.index.model("v1").version}
    assert answer(lab).shape == (1,)


def test_a_tflite_variant_serves_from_the_plain_image(
    lab: Lab, operator: str, files: Path, images: dict[str, str]
) -> None:
    weights, bias = parameters(onnx.load(files / lab.index.model("v1").file.name))
    path = tflite_models.dense(files / "m.tflite", weights, bias, names=("image", "scores"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = {"uri": f"{lab.server.url}/{path.name}", "sha256": digest}
    model = lab.model("v1", version="lite", source=source, name="lite", format="TFLite")
    lab.apply(model, deployment(lab, "cpu", "Forbid"))
    lab.wait_stable("lite")
    cell = wait_for_cell(lab, "cpu", CPU)
    assert (cell.variant, cell.accelerated_percent) == ("lite", 100)
    assert lab.only_pod()["spec"]["containers"][0]["image"] == images["runtime"]
    assert answer(lab, "scores").shape == (1, 10)
