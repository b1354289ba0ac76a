"""A process that is killed while it activates a revision."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import FailureReason, RevisionContent
from unit.runtime.agent.support import (
    DEADLINE_S,
    FAST,
    Mount,
    Pod,
    Source,
    classifier,
    content,
    golden,
    until,
)

ROOT = Path(__file__).parents[4]


async def start(root: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "unit.runtime.agent.pod_process",
        str(root),
        stdout=PIPE,
        env={"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'runtime'}", "PATH": "/usr/bin:/bin"},
    )


async def says(process: Process, revision: str) -> None:
    assert process.stdout
    async with asyncio.timeout(DEADLINE_S):
        while (line := await process.stdout.readline()).decode().strip() != revision:
            assert line, "the process ended"


async def end(process: Process, number: signal.Signals) -> None:
    process.send_signal(number)
    async with asyncio.timeout(DEADLINE_S):
        await process.wait()


def contents(source: Source) -> dict[str, RevisionContent]:
    one, two, exam = classifier(), classifier(features=5), golden()
    return {
        "v1": content(
            one,
            source.add("one", one),
            exam=exam,
            exam_uri=source.add("exam", exam),
        ),
        "v2": content(two, source.add("two", two)),
    }


async def test_two_crashes_refuse_the_revision_and_the_one_before_serves(
    tmp_path: Path, source: Source
) -> None:
    mount, described = Mount(tmp_path / "assignment"), contents(source)
    mount.assign("v1", described)
    first = await start(tmp_path)
    await says(first, "v1")
    mount.assign("v2", described)
    await says(first, "v2")
    await end(first, signal.SIGKILL)
    second = await start(tmp_path)
    await says(second, "v2")
    await end(second, signal.SIGKILL)
    async with Pod(tmp_path, OnnxBackend(), FAST) as third:
        status = await third.until_serving("v1")
        assert status.assigned == "v2"
        assert status.progress
        assert status.progress.phase == "Failed"
        assert status.progress.reason is FailureReason.SELF_REVERTED
        assert status.failures[0].revision == "v2"
        again = described["v2"].model_copy(update={"retry": "the driver was updated"})
        mount.assign("v2", {**described, "v2": again})
        await third.until_serving("v2")


async def test_an_orderly_stop_is_no_crash(tmp_path: Path, source: Source) -> None:
    Mount(tmp_path / "assignment").assign("v2", contents(source))
    for _ in range(3):
        process = await start(tmp_path)
        await says(process, "v2")
        await end(process, signal.SIGTERM)
        assert process.returncode == 0
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        status = await pod.until_serving("v2")
        assert status.failures == ()


async def test_a_revision_that_settled_is_not_counted(tmp_path: Path, source: Source) -> None:
    quick = FAST.model_copy(update={"settle_s": 0.0})
    Mount(tmp_path / "assignment").assign("v1", contents(source))
    async with Pod(tmp_path, OnnxBackend(), quick) as pod:
        await pod.until_serving("v1")
        state = tmp_path / "slots" / "state.json"
        await until(lambda: '"settled":true' in state.read_text())
    for _ in range(2):
        process = await start(tmp_path)
        await says(process, "v1")
        await end(process, signal.SIGKILL)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        status = await pod.until_serving("v1")
        assert status.failures == ()
