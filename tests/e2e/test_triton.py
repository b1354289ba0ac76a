"""Triton as the engine, on a real pod: a real server beside the agent, whose only engine is Python.

The image says what it is by its name: its backend `onnxruntime` is a stand-in, and no GPU is here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tritonclient import grpc, http

from digits_demo import cluster
from digits_demo.cluster import Access
from e2e.lab import Lab
from serving.tritonserver import IS_POSSIBLE

pytestmark = pytest.mark.skipif(
    not IS_POSSIBLE, reason="the image's Python backend is for Python 3.11 on x86-64"
)

IMAGE = "tritonserver-python-test"
NODE = "node-c"
PLACEMENT = {"nodeSelector": {"kubernetes.io/hostname": NODE}, "accelerators": ["cpu"]}


@pytest.fixture(scope="module")
def image(access: Access) -> str:
    """Build the server's image, which no other test needs, and bring it to the nodes."""
    command = [sys.executable, str(cluster.CLUSTER), "images", "--only", IMAGE]
    subprocess.run(command, check=True)
    found = subprocess.run([*command, "--print"], check=True, capture_output=True, text=True)
    return str(json.loads(found.stdout)[IMAGE])


def deployment(lab: Lab, **runtime: Any) -> dict[str, Any]:
    return lab.deployment(
        placement=PLACEMENT,
        runtime={"threads": 1, "engine": "Triton", **runtime},
    )


def labels(lab: Lab) -> set[int]:
    """Ask over both protocols what the pod sees in an empty image."""
    ip = lab.pods()[NODE].ip
    found = set()
    for protocol, port in ((http, 8080), (grpc, 8081)):
        with protocol.InferenceServerClient(f"{ip}:{port}") as client:
            image = protocol.InferInput("image", [1, 64], "FP32")
            image.set_data_from_numpy(np.zeros((1, 64), np.float32))
            found.add(int(client.infer("digits", [image]).as_numpy("label")[0]))
    return found


def end_the_server(lab: Lab) -> None:
    """End it as if it had failed, and wait until its kubelet and the runtime have it back."""
    pod, before = lab.pods()[NODE].name, lab.reports()[NODE]
    assert before.serving
    end = ("python3", "-c", "import os; os.kill(1, 15)")
    lab.kubectl("exec", pod, "--container=triton", "--", *end)

    def look() -> bool:
        report = lab.report(NODE)
        serving, swap = (report.serving, report.last_swap) if report else (None, None)
        is_again = (
            serving is not None and swap is not None and swap.from_revision == swap.to_revision
        )
        return is_again and lab.versions() == {NODE: before.serving.version}

    lab.wait(look, "the server is there again with its model")
    after = lab.reports()[NODE]
    assert after.boot_id == before.boot_id  # the runtime itself went on


def test_a_server_serves_swaps_in_place_and_takes_a_bad_model_back(lab: Lab, image: str) -> None:
    v1, v2 = (lab.index.model(key).version for key in ("v1", "v2"))
    lab.apply(lab.model("v1"), deployment(lab))
    lab.wait(lambda: "tritonImage" in lab.condition("Ready")[2], "no image is the reason")
    assert lab.pods() == {}

    lab.apply(deployment(lab, tritonImage=image))
    lab.wait_stable(v1)
    assert len(labels(lab)) == 1
    before = lab.pods()[NODE]
    report = lab.reports()[NODE]
    assert report.serving
    assert report.serving.exam
    assert report.serving.exam.passed

    lab.apply(lab.model("v2"))
    lab.wait_stable(v2)
    assert lab.pods()[NODE] == before
    assert len(labels(lab)) == 1

    end_the_server(lab)
    assert len(labels(lab)) == 1

    lab.apply(lab.model("v3"))
    lab.wait_rolled_back(lab.index.model("v3").version, "ExamFailed")
    assert lab.versions() == {NODE: v2}
    assert lab.pods()[NODE] == before
    assert len(labels(lab)) == 1
