"""Files fetched ahead while another revision serves: no engine, no failure, no eviction."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from documents import with_file
from skerry_runtime.agent.pace import SHUT
from skerry_runtime.agent.stages import Stages
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import DownloadRules, FailureReason, RevisionContent
from unit.runtime.agent.support import (
    FAST,
    Pod,
    Source,
    classifier,
    content,
    golden,
    ranged,
    sha256,
    until,
)

OLD, NEW, NEWER = classifier(), classifier(features=5), classifier(features=6)
EXAM = golden(features=5)


@pytest.fixture
def contents(source: Source) -> dict[str, RevisionContent]:
    exam = source.add("exam.npz", EXAM)
    return {
        "v1": content(OLD, source.add("old.onnx", OLD)),
        "v2": content(NEW, source.add("new.onnx", NEW), exam=EXAM, exam_uri=exam),
        "v3": content(NEWER, source.add("newer.onnx", NEWER)),
    }


def pod(root: Path, **tuned: object) -> Pod:
    return Pod(root, OnnxBackend(), FAST.model_copy(update=tuned))


def blobs(one: Pod) -> set[str]:
    return {path.name for path in one.slots_dir.joinpath("blobs").iterdir()}


async def test_the_files_are_there_before_the_step_and_no_engine_saw_them(
    tmp_path: Path,
    source: Source,
    contents: dict[str, RevisionContent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        probed: list[str] = []
        real = Stages.probe

        async def probe(self: Stages, goal, **more):  # type: ignore[no-untyped-def]
            probed.append(goal.revision)
            return await real(self, goal, **more)

        monkeypatch.setattr(Stages, "probe", probe)
        one.mount.assign("v1", contents, prepare="v2")
        status = await one.until(lambda s: s.prefetch and s.prefetch.is_done)
        assert status.prefetch
        assert (status.prefetch.revision, status.prefetch.message) == ("v2", "")
        assert (one.revision, probed) == ("v1", [])
        assert {sha256(NEW), sha256(EXAM)} <= blobs(one)
        source.files.clear()  # the source is gone before the step comes
        one.mount.assign("v2", contents)
        status = await one.until_serving("v2")
        assert probed == ["v2"]
        assert status.last_swap
        assert not status.last_swap.fetched


async def test_current_and_last_good_stay_beside_it(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path, settle_s=0.05) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v2", contents)
        await one.until_serving("v2")
        one.mount.assign("v2", contents, prepare="v3")
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)
        assert one.status.on_disk == ("v1", "v2")
        assert {sha256(OLD), sha256(NEW), sha256(NEWER)} <= blobs(one)


async def test_no_room_is_a_note_that_evicts_nothing_and_fails_nothing(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path, slots_limit_bytes=len(OLD) + 4000) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        room = one.agent._swap._stages.slots.used_bytes() + len(EXAM)
        one.agent._swap._stages.tuning = one.agent._tuning.model_copy(
            update={"slots_limit_bytes": room}
        )
        one.mount.assign("v1", contents, prepare="v2")
        status = await one.until(lambda s: s.prefetch and "still to come" in s.prefetch.message)
        assert (one.revision, status.failures) == ("v1", ())
        assert status.progress
        assert status.progress.phase == "Serving"
        assert sha256(OLD) in blobs(one)


async def test_what_cannot_be_had_counts_when_its_step_comes(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    contents["v2"] = with_file(contents["v2"], sha256="0" * 64)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        status = await one.until(lambda s: s.prefetch and s.prefetch.message)
        assert (one.revision, status.failures) == ("v1", ())
        one.mount.assign("v2", contents)
        status = await one.until_failed("v2")
        assert status.failures[0].reason is FailureReason.DIGEST_MISMATCH
        assert one.revision == "v1"


async def test_a_newer_target_takes_its_place(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    hangs = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await hangs.wait()
        return ranged(request, NEW)

    source.handle("new.onnx", hang)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        await until(lambda: any(r.path == "/new.onnx" for r in source.requests))
        one.mount.assign("v1", contents, prepare="v3")
        status = await one.until(lambda s: s.prefetch and s.prefetch.is_done)
        assert status.prefetch
        assert status.prefetch.revision == "v3"
        one.mount.assign("v1", contents)
        await one.until(lambda s: s.prefetch is None)
        hangs.set()


async def test_a_step_that_comes_in_the_middle_goes_on_with_what_is_there(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    half = len(NEW) // 2
    is_open = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if is_open.is_set():
            return ranged(request, NEW)
        response = web.StreamResponse()
        response.content_length = len(NEW)
        await response.prepare(request)
        await response.write(NEW[:half])
        await is_open.wait()
        return response

    source.handle("new.onnx", slow)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        await until(lambda: any(r.path == "/new.onnx" for r in source.requests))
        is_open.set()
        one.mount.assign("v2", contents)
        await one.until_serving("v2")


async def test_what_is_needed_now_goes_before_what_may_come(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)
        one.mount.assign("v3", contents, prepare="v2")
        await one.until_serving("v3")
        assert {sha256(NEWER), sha256(OLD)} <= blobs(one)
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)


async def test_it_waits_for_the_window_of_the_line(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    shut = DownloadRules(shut=("v2",))
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2", download=shut)
        await one.until(lambda s: s.prefetch and s.prefetch.message == SHUT)
        assert not any(request.path == "/new.onnx" for request in source.requests)
        one.mount.assign("v1", contents, prepare="v2")
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)


async def test_a_pod_that_restarts_keeps_what_it_fetched_ahead(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)
    source.files.clear()
    async with pod(tmp_path) as again:
        await again.until_serving("v1")
        await again.until(lambda s: s.prefetch and s.prefetch.is_done)
        again.mount.assign("v2", contents)
        await again.until_serving("v2")


async def test_a_revision_that_nobody_can_read_is_not_fetched_ahead(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents, prepare="v9")
        await one.until_serving("v1")
        assert one.status.prefetch is None
        assert one.status.assignment_error is None
