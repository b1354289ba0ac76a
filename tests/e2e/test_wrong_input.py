"""Whatever a person gets wrong: the reason stands in condition and event, and v1 goes on."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tritonclient import http

from e2e.lab import ANSWER_S, NODES, Lab, PodView

RESOURCES = {"memoryRequest": "128Mi", "memoryLimit": "512Mi", "diskLimit": "64Mi"}
RUNTIME = {"threads": 1, "resources": RESOURCES}
SOON = {"progressDeadline": "8s"}
"""For what ends with the deadline and with nothing else."""


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, PodView]:
    """V1 is stable on all nodes; the pods must be the same ones ever after."""
    lab.start_stable(runtime=RUNTIME)
    return lab.pods()


def published(lab: Lab, files: Path, name: str, content: bytes) -> dict[str, str]:
    """Put a file on the model server; return its source."""
    (files / name).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return {"uri": f"{lab.server.url}/{name}", "sha256": sha256}


def no_model(lab: Lab, files: Path) -> dict[str, str]:
    return published(lab, files, "letter.onnx", b"Dear all, this is a letter and no model.\n" * 50)


def truncated(lab: Lab, files: Path) -> dict[str, str]:
    whole = (files / lab.index.model("v2").file.name).read_bytes()
    return published(lab, files, "half.onnx", whole[: len(whole) // 2])


def wrong_digest(lab: Lab, files: Path) -> dict[str, str]:
    uri = f"{lab.server.url}/{lab.index.model('v2').file.name}"
    return {"uri": uri, "sha256": "0" * 64}


def not_there(lab: Lab, files: Path) -> dict[str, str]:
    return {"uri": f"{lab.server.url}/nobody-put-me-here.onnx", "sha256": "1" * 64}


def too_large_for_disk(lab: Lab, files: Path) -> dict[str, str]:
    return published(lab, files, "heavy.onnx", bytes(80 * 2**20))


def too_large_for_memory(lab: Lab, files: Path) -> dict[str, str]:
    """A file of a few bytes whose graph fills 2 GB when it runs."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [500_000_000])
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Constant", [], ["s"], value=shape),
        helper.make_node("ConstantOfShape", ["s"], ["big"], value=one),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=1),
        helper.make_node("Add", ["image", "sum"], ["out"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 64])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "greedy", [image], [out])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return published(lab, files, "greedy.onnx", model.SerializeToString())


WRONG: dict[str, tuple[Callable[[Lab, Path], dict[str, str]], str]] = {
    "a file that is no ONNX model": (no_model, "InvalidModel"),
    "a truncated file": (truncated, "InvalidModel"),
    "a sha256 that does not fit": (wrong_digest, "DigestMismatch"),
    "a server that answers 404": (not_there, "404"),
    "a file too large for the disk": (too_large_for_disk, "InsufficientDisk"),
    "a model too large for the memory": (too_large_for_memory, "InsufficientMemory"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=list(WRONG))
def test_a_bad_file_is_taken_back_and_says_why(
    lab: Lab, files: Path, pods: dict[str, PodView], wrong: str
) -> None:
    make, reason = WRONG[wrong]
    version = f"2.0.{list(WRONG).index(wrong)}"
    lab.apply(lab.model("v2", version=version, source=make(lab, files)))
    status = lab.wait_rolled_back(version, reason)
    assert_v1_was_never_harmed(lab, pods)
    failed = status.failed_revisions[0]
    assert reason in failed.message
    assert reason in lab.wait_event("RolledBack", failed.revision)
    assert lab.condition("Available")[0] == "True"


@contextmanager
def silent_server(host: str) -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server((host, 0)) as listener:
        held: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    held.append(listener.accept()[0])
            except OSError:
                return  # the listener was closed: the test is over

        taker = threading.Thread(target=take)
        taker.start()
        try:
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            taker.join(5)
            for connection in held:
                connection.close()


def test_a_server_that_hangs_runs_into_the_deadline_and_says_what_was_waited_for(
    lab: Lab, pods: dict[str, PodView]
) -> None:
    version = "2.0.0-slow"
    with silent_server(lab.access.host_address) as url:
        source = {"uri": f"{url}/slow.onnx", "sha256": "2" * 64}
        lab.apply(
            lab.model("v2", version=version, source=source),
            lab.deployment(rollout=SOON, runtime=RUNTIME),
        )
        status = lab.wait_rolled_back(version, "ProgressDeadlineExceeded")
    assert "Fetching" in status.failed_revisions[0].message
    assert_v1_was_never_harmed(lab, pods)


def test_an_unknown_model_is_named_and_harms_nothing(lab: Lab, pods: dict[str, PodView]) -> None:
    lab.apply(lab.deployment(runtime=RUNTIME, modelRef={"name": "nobody"}))
    lab.wait(lambda: lab.condition("Ready")[1] == "ModelNotFound", "Ready says ModelNotFound")
    assert "nobody" in lab.condition("Ready")[2]
    assert_v1_was_never_harmed(lab, pods)
    lab.apply(lab.model("v1"), lab.deployment(runtime=RUNTIME))
    lab.wait_stable(lab.index.model("v1").version)
    assert_v1_was_never_harmed(lab, pods)


def test_a_model_that_no_node_can_hold_names_every_node(lab: Lab, pods: dict[str, PodView]) -> None:
    lab.apply(lab.model("v2", memory="900Gi"))

    def rejected() -> dict[str, str] | None:
        found = {entry.node: entry.reason for entry in lab.status().rejected_nodes}
        return found if len(found) == len(NODES) else None

    reasons = lab.wait(rejected, "every node is rejected with a reason")
    assert set(reasons.values()) == {"InsufficientMemory"}
    assert_v1_was_never_harmed(lab, pods)


def assert_v1_was_never_harmed(lab: Lab, pods: dict[str, PodView]) -> None:
    """The same containers serve the same model, and answer."""
    assert lab.pods() == pods
    assert set(lab.versions().values()) == {lab.index.model("v1").version}
    for pod in pods.values():
        assert infer(pod.ip).shape == (1,)


def infer(ip: str) -> np.ndarray[Any, Any]:
    """Ask a pod for the digit of an empty image, with the protocol's reference client."""
    client = http.InferenceServerClient(f"{ip}:8080", network_timeout=ANSWER_S)
    try:
        image = http.InferInput("image", [1, 64], "FP32")
        image.set_data_from_numpy(np.zeros((1, 64), np.float32))
        answer = client.infer("digits", [image])
        label = next(
            o["name"] for o in answer.get_response()["outputs"] if o["datatype"] == "INT64"
        )
        found: np.ndarray[Any, Any] = answer.as_numpy(label)
        return found
    finally:
        client.close()
