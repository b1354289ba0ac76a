"""What a model needs is measured; what a large request took is given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from documents import with_model
from serving.fakes import load
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.memory import Need, need, resting_bytes
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.probe import ProbeRequest, probe
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import FailureReason, Format, MemoryNeed, SwapMode
from skerry_runtime.heap import Thrift, resident_bytes
from unit.runtime.agent.support import CPU, FAST, Pod, Source, classifier, content, environment

ROOT = Path(__file__).parents[4]
PATHS = ":".join(str(ROOT / part) for part in ("tests", "runtime", "operator"))


@pytest.fixture(autouse=True)
def _engines_can_be_found() -> Iterator[None]:
    with environment(PYTHONPATH=PATHS):
        yield


def spread(mib: int, rows: int | str = "n", parts: int = 1) -> bytes:
    """A model that spreads each row over so much memory while it runs, part by part."""
    wide = [f"wide{part}" for part in range(parts)]
    nodes = [
        *(helper.make_node("Expand", ["x", "shape"], [name]) for name in wide),
        helper.make_node("Max", wide, ["most"]),
        helper.make_node("ReduceMax", ["most"], ["y"], axes=[1]),
    ]
    each = mib * MIB // 4 // parts
    made = helper.make_graph(
        nodes,
        "spread",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 1])],
        [numpy_helper.from_array(np.array([1, each], np.int64), "shape")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    body: bytes = model.SerializeToString()
    return body


@pytest.mark.parametrize(
    ("known", "wanted", "resting"),
    [
        (MemoryNeed(declared_bytes=7, peak_bytes=9, resting_bytes=5), Need(7, "declared"), 7),
        (MemoryNeed(declared_bytes=7), Need(7, "declared"), 7),
        (
            MemoryNeed(peak_bytes=9, resting_bytes=5, at="x [1, 4]", estimated_bytes=1),
            Need(9, "measured in its trial with x [1, 4]"),
            5,
        ),
        (MemoryNeed(peak_bytes=9), Need(9, "measured in its trial"), 9),
        (MemoryNeed(estimated_bytes=3), Need(3, "estimated from the size of its files"), 3),
        (MemoryNeed(), Need(0, "estimated from the size of its files"), 0),
    ],
)
def test_what_is_declared_counts_before_what_was_measured_and_that_before_an_estimate(
    known: MemoryNeed, wanted: Need, resting: int
) -> None:
    assert need(known) == wanted
    assert resting_bytes(known) == resting


async def test_the_probe_measures_the_peak_of_a_run_and_what_is_left_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(spread(300))
    found = await probe(
        ProbeRequest(
            backend="skerry_runtime.backends.onnx:OnnxBackend",
            path=path,
            format=Format.ONNX,
            execution=CPU,
            threads=1,
            memory_bytes=4096 * MIB,
            timeout_s=60.0,
        ),
        Host(),
    )
    assert found.peak_bytes is not None
    assert found.resting_bytes is not None
    assert 300 * MIB <= found.peak_bytes < 700 * MIB
    assert found.resting_bytes < 100 * MIB
    assert found.at == "x [1, 1]"


async def test_the_status_says_what_was_measured_and_a_restart_keeps_it(
    tmp_path: Path, source: Source
) -> None:
    body = spread(100)
    described = {"v1": with_model(content(body, source.add("m", body)), memory_bytes=None)}
    found = []
    for _ in range(2):
        async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
            pod.mount.assign("v1", described)
            status = await pod.until_serving("v1")
            assert status.serving
            found.append(status.serving.model.memory)
    assert found[0]
    assert found[0] == found[1]
    assert found[0].peak_bytes
    assert found[0].peak_bytes >= 100 * MIB
    assert found[0].estimated_bytes is None


async def test_the_status_says_what_was_declared(tmp_path: Path, source: Source) -> None:
    body = classifier()
    described = {"v1": with_model(content(body, source.add("m", body)), memory_bytes=5 * MIB)}
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        pod.mount.assign("v1", described)
        status = await pod.until_serving("v1")
        assert status.serving
        assert status.serving.model.memory
        assert status.serving.model.memory.declared_bytes == 5 * MIB


async def test_a_model_that_does_not_run_beside_what_serves_is_tried_alone(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, large = classifier(), spread(400, parts=10)
    described = {
        "v1": content(first, source.add("a", first)),
        "v2": with_model(content(large, source.add("b", large)), memory_bytes=None),
    }
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        room = {True: 200 * MIB, False: 4096 * MIB}
        monkeypatch.setattr(
            Host, "available_bytes", lambda _: room[pod.registry.current is not None]
        )
        pod.mount.assign("v1", described)
        await pod.until_serving("v1")
        pod.mount.assign("v2", described)
        status = await pod.until_serving("v2")
        assert status.last_swap
        assert status.last_swap.mode is SwapMode.SEQUENTIAL
        assert status.failures == ()


@pytest.mark.parametrize("bound", ["an allocation beyond all memory", "a setting"])
async def test_what_serves_is_not_taken_away_for_a_trial_that_would_not_fit_alone_either(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    first, large = classifier(), spread(200 if bound == "a setting" else 1 << 20)
    described = {
        "v1": content(first, source.add("a", first)),
        "v2": with_model(content(large, source.add("b", large)), memory_bytes=None),
    }
    bytes_ = 200 * MIB if bound == "a setting" else 0
    tuning = FAST.model_copy(update={"probe_memory_bytes": bytes_})
    async with Pod(tmp_path, OnnxBackend(), tuning) as pod:
        serving: list[bool] = []

        def available(_: Host) -> int:
            serving.append(pod.registry.current is not None)
            return 4096 * MIB

        monkeypatch.setattr(Host, "available_bytes", available)
        pod.mount.assign("v1", described)
        await pod.until_serving("v1")
        serving.clear()
        pod.mount.assign("v2", described)
        status = await pod.until_failed("v2")
        assert status.progress
        assert status.progress.reason is FailureReason.INSUFFICIENT_MEMORY
        assert pod.revision == "v1"
        assert all(serving)


def test_thrift_trims_when_memory_has_moved_and_only_then() -> None:
    sizes = iter([100, 100, 104, 200, 150, 151, 90, 60, 61])
    trims: list[int] = []
    thrift = Thrift(lambda: next(sizes), lambda: trims.append(1))
    looks = [thrift.look() for _ in range(6)]
    assert looks == [True, False, True, False, True, False]
    assert len(trims) == 3


def test_what_a_large_request_took_goes_back_to_the_system(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(spread(64))
    model = load(path)
    model.infer({"x": np.zeros((1, 1), np.float32)})
    thrift = Thrift()
    thrift.look()
    before = resident_bytes()
    for rows in (6, 3, 5):
        model.infer({"x": np.zeros((rows, 1), np.float32)})
    thrift.look()
    assert resident_bytes() <= 1.3 * before
