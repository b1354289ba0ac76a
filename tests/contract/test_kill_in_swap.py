"""kill -9 in every phase of a swap; then the model server is gone, and the pod starts again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from documents import make_content
from hostile.building import varint
from serving import models
from serving.deployed import Deployed, FileServer, deployed, eventually, file_server
from skerry_runtime.contract import (
    GoldenExam,
    GoldenMetric,
    RevisionContent,
    StatusReport,
    SwapPhase,
)
from unit.runtime.agent.support import npz, sha256

UNKNOWN_FIELD = 1999
PADDING = 128 << 20
"""Bytes behind a model that take time to hash and no place on the disk: zeros of a sparse file."""


@dataclass
class Kill:
    """One phase: how the second revision is made slow there, and how it looks from outside."""

    phase: str
    model: Callable[[Path], bytes] = field(default=lambda folder: plain(folder, 2.0))
    exam: Callable[[], bytes | None] = lambda: None
    is_held: bool = False
    """True: the model server stops in the middle of the file."""
    may_serve_new: bool = True

    def is_there(self, status: StatusReport) -> bool:
        if self.phase == "Serving":
            return bool(status.serving and status.serving.revision == "r2")
        progress = status.progress
        return bool(progress and progress.revision == "r2" and progress.phase == self.phase)


def plain(folder: Path, value: float) -> bytes:
    return models.constant(folder / "m.onnx", value).read_bytes()


def long_chain(folder: Path) -> bytes:
    """Answers 2.0 after thousands of nodes, each of which an engine looks at when it loads."""
    made = onnx.load_model_from_string(plain(folder, 2.0))
    last = made.graph.node[-1]
    links = 4000
    steps = [helper.make_node("Identity", [f"a{i}"], [f"a{i + 1}"]) for i in range(links)]
    outputs = [helper.make_node("Identity", [f"a{links}"], [last.output[0]])]
    last.output[0] = "a0"
    made.graph.node.extend([*steps, *outputs])
    return made.SerializeToString()


def long_exam() -> bytes:
    return npz(x=np.zeros((400_000, 4), np.float32), labels=np.zeros(400_000, np.int64))


KILLS = [
    Kill("Fetching", is_held=True, may_serve_new=False),
    Kill("Probing"),
    Kill("Loading", model=long_chain),
    Kill("Examining", exam=long_exam),
    Kill("Serving"),
]


@pytest.fixture
def source() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def content(body: bytes, uri: str, golden: GoldenExam | None = None) -> RevisionContent:
    return make_content(uri, sha256(body), golden=golden)


def good(source: FileServer, folder: Path) -> dict[str, RevisionContent]:
    body = plain(folder, 1.0)
    return {"r1": content(body, source.add("r1.onnx", body))}


def second(source: FileServer, folder: Path, kill: Kill) -> RevisionContent:
    body, exam = kill.model(folder), kill.exam()
    golden = None
    if exam is not None:
        golden = GoldenExam(
            uri=source.add("exam", exam),
            sha256=sha256(exam),
            metric=GoldenMetric.ACCURACY,
            threshold="0.9",
        )
    return content(body, source.add("r2.onnx", body), golden)


def bring_up_first(pod: Deployed, revisions: dict[str, RevisionContent], folder: Path) -> None:
    """Serve r1 until it counts as good."""
    pod.assign("r1", revisions)
    pod.until_serving("r1")
    state = folder / "slots" / "state.json"
    pod.until(lambda _: '"settled":true' in state.read_text())


def answer(pod: Deployed) -> float:
    status, body = pod.infer()
    assert status == 200, body
    values: set[float] = {v for output in body["outputs"] for v in output["data"]}
    assert len(values) == 1
    return values.pop()


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.phase)
def test_after_a_kill_the_pod_serves_from_its_disk_with_the_model_server_down(
    tmp_path: Path, source: FileServer, kill: Kill
) -> None:
    revisions = good(source, tmp_path)
    with deployed(tmp_path, SKERRY_SETTLE_S="0.1") as pod:
        bring_up_first(pod, revisions, tmp_path)
        revisions["r2"] = second(source, tmp_path, kill)
        if kill.is_held:
            source.held.clear()
        pod.assign("r2", revisions)
        pod.until(kill.is_there)
        if kill.is_held:
            eventually(lambda: "r2.onnx" in source.asked, "a begun download")
        pod.kill()
    source.close()
    with deployed(tmp_path) as again:
        allowed = {"r1": 1.0, "r2": 2.0} if kill.may_serve_new else {"r1": 1.0}
        status = again.until(lambda s: s.serving and s.serving.revision in allowed)
        assert status.serving
        assert answer(again) in allowed.values()
        assert status.failures == ()
        if kill.may_serve_new:
            again.until_serving("r2")  # all of it was on the disk
            assert answer(again) == 2.0


def test_after_a_kill_while_a_file_is_verified_the_pod_serves_from_its_disk(
    tmp_path: Path, source: FileServer
) -> None:
    revisions = good(source, tmp_path)
    body = plain(tmp_path, 2.0)
    head = body + varint(UNKNOWN_FIELD << 3 | 2) + varint(PADDING)
    digest = digest_of_padded(head)
    uri = "http://127.0.0.1:9/gone"
    with deployed(tmp_path, SKERRY_SETTLE_S="0.1") as pod:
        bring_up_first(pod, revisions, tmp_path)
        place = tmp_path / "slots" / "blobs" / digest
        place.mkdir()
        (place / "model.onnx").write_bytes(head)
        os.truncate(place / "model.onnx", len(head) + PADDING)
        revisions["r2"] = make_content(uri, digest, version="2")
        pod.assign("r2", revisions)
        pod.until(lambda s: s.progress and s.progress.phase is SwapPhase.VERIFYING)
        pod.kill()
    source.close()
    with deployed(tmp_path) as again:
        status = again.until(lambda s: s.serving)
        assert status.failures == ()
        assert answer(again) in (1.0, 2.0)


def digest_of_padded(head: bytes) -> str:
    digest, megabyte = hashlib.sha256(head), bytes(1 << 20)
    for _ in range(PADDING >> 20):
        digest.update(megabyte)
    return digest.hexdigest()
