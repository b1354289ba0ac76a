"""The stage between exam and switch, on whole agents under live traffic."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import RevisionContent, Shadow, SwapMode, SwapPhase
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.protocol.types import InferRequest, Tensor
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content

SAMPLES = 5
WANTED = Shadow(samples=SAMPLES, timeout_s=60, threshold=0.98)


def contents(source: Source, shadow: Shadow = WANTED, **more: object) -> dict[str, RevisionContent]:
    """v1 serves; v2 answers alike, and v3 wrongly; none has an exam."""
    same, wrong = classifier(features=4, batch=1), classifier(bias=1)
    good_uri, same_uri = source.add("good", classifier()), source.add("same", same)
    return {
        "v1": content(classifier(), good_uri),
        "v2": content(same, same_uri, shadow=shadow, **more),
        "v3": content(wrong, source.add("wrong", wrong), shadow=shadow, **more),
    }


@contextlib.asynccontextmanager
async def traffic(pod: Pod) -> AsyncIterator[list[str]]:
    """Send requests without a rest; the list holds the revisions that answered."""
    plane = Dataplane("digits", pod.registry, pod.metrics, workers=1, queue_limit=8)
    answered: list[str] = []

    async def send() -> None:
        x = Tensor("x", "FP32", np.eye(4, dtype=np.float32)[:1])
        while True:
            request = InferRequest("digits", None, (x,), None, "", time.perf_counter())
            answered.append((await plane.infer(request)).revision)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(send())
    try:
        yield answered
        assert not task.done() or task.exception() is None
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        plane.close()


async def start(pod: Pod, revisions: dict[str, RevisionContent]) -> None:
    pod.mount.assign("v1", revisions)
    await pod.until_serving("v1")


async def test_a_model_that_agrees_serves_after_its_samples_and_reports_them(
    source: Source, tmp_path: Path
) -> None:
    revisions = contents(source)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        await start(pod, revisions)
        async with traffic(pod):
            pod.mount.assign("v2", revisions)
            status = await pod.until_serving("v2")
    assert status.serving
    found = status.serving.agreement
    assert found
    assert (found.compared >= SAMPLES, found.agreed, found.errors) == (True, found.compared, 0)


async def test_a_model_that_disagrees_is_refused_before_it_ever_serves(
    source: Source, tmp_path: Path
) -> None:
    revisions = contents(source)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        await start(pod, revisions)
        async with traffic(pod) as answered:
            pod.mount.assign("v3", revisions)
            status = await pod.until_failed("v3")
        assert set(answered) == {"v1"}
        assert pod.revision == "v1"
    assert status.failures[0].reason == "OutputDisagrees"
    assert "0 of 5 live answers agree with what serves: 0 is under 0.98" in (
        status.failures[0].message
    )
    assert status.progress
    assert status.progress.agreement
    assert status.progress.agreement.agreed == 0


async def test_without_requests_the_time_passes_and_the_model_serves_with_what_there_is(
    source: Source, tmp_path: Path
) -> None:
    brief = Shadow(samples=SAMPLES, timeout_s=0.2, threshold=0.98)
    revisions = contents(source, brief)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        await start(pod, revisions)
        pod.mount.assign("v3", revisions)
        status = await pod.until_serving("v3")
    assert status.serving
    assert status.serving.agreement
    assert status.serving.agreement.message == "0 of 5 in 0.2 s: too few requests"


async def test_a_rollback_does_not_wait_for_the_shadow(source: Source, tmp_path: Path) -> None:
    revisions = contents(source)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        await start(pod, revisions)
        pod.mount.assign("v2", revisions)
        await pod.until(lambda s: s.progress and s.progress.phase is SwapPhase.SHADOWING)
        pod.mount.assign("v1", revisions)
        await pod.until(lambda s: s.progress and s.progress.phase is SwapPhase.SERVING)
        assert pod.revision == "v1"
        await pod.until(lambda _: pod.registry.current and pod.registry.current.shadow is None)


async def test_a_pod_that_ends_in_the_shadow_counts_no_crash(
    source: Source, tmp_path: Path
) -> None:
    revisions = contents(source)
    for _ in range(3):
        async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
            pod.mount.assign("v1", revisions)
            await pod.until_serving("v1")
            pod.mount.assign("v2", revisions)
            await pod.until(lambda s: s.progress and s.progress.phase is SwapPhase.SHADOWING)
            assert pod.status.failures == ()


async def test_alone_in_the_process_nothing_is_compared_and_the_report_says_why(
    source: Source, tmp_path: Path
) -> None:
    revisions = contents(source, swap=SwapMode.SEQUENTIAL)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        await start(pod, revisions)
        async with asyncio.timeout(30):
            pod.mount.assign("v2", revisions)
            status = await pod.until_serving("v2")
    assert status.serving
    assert status.serving.agreement
    assert "no other model served beside it" in status.serving.agreement.message


async def test_what_was_compared_outlives_a_restart_and_the_restart_is_counted(
    source: Source, tmp_path: Path
) -> None:
    revisions = contents(source)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        await start(pod, revisions)
        async with traffic(pod):
            pod.mount.assign("v2", revisions)
            before = await pod.until_serving("v2")
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        after = await pod.until_serving("v2")
    assert before.serving
    assert after.serving
    assert after.serving.agreement == before.serving.agreement
    assert (before.restarts, after.restarts) == ({}, {"v2": 1})
