"""Files fetched ahead while another revision serves: no failure, no eviction, one trial at most."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from documents import with_file
from skerry_runtime.agent.memory import Room
from skerry_runtime.agent.needs import Needs
from skerry_runtime.agent.pace import SHUT
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.stages import Stages
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import DownloadRules, Execution, FailureReason, RevisionContent, Trial
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


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The revisions that were tried in a child, one after the other."""
    found: list[str] = []
    real = Stages.probe

    async def probe(self: Stages, goal, **more):  # type: ignore[no-untyped-def]
        found.append(goal.revision)
        return await real(self, goal, **more)

    monkeypatch.setattr(Stages, "probe", probe)
    return found


async def test_a_trial_ahead_spares_the_one_of_the_step(
    tmp_path: Path, contents: dict[str, RevisionContent], probed: list[str]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)
        assert probed == ["v1"]
        one.mount.assign("v1", contents, prepare="v2", try_prepared=True)
        status = await one.until(lambda s: s.prefetch and s.prefetch.is_tried)
        assert (one.revision, status.failures, probed) == ("v1", (), ["v1", "v2"])
        one.mount.assign("v2", contents)
        status = await one.until_serving("v2")
        assert probed == ["v1", "v2"]
        assert status.serving
        assert status.serving.models["digits"].memory  # as it was measured ahead


async def test_a_trial_ahead_of_other_settings_or_another_file_counts_for_nothing(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent], probed: list[str]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2", try_prepared=True)
        await one.until(lambda s: s.prefetch and s.prefetch.is_tried)
        other = content(NEWER, source.add("other.onnx", NEWER))
        one.mount.assign("v2", {**contents, "v2": other})
        await one.until_serving("v2")
        assert probed == ["v1", "v2", "v2"]


async def test_what_was_tampered_with_after_its_trial_ahead_is_fetched_and_never_loaded_as_it_is(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2", try_prepared=True)
        await one.until(lambda s: s.prefetch and s.prefetch.is_tried)
        [blob] = one.slots_dir.joinpath("blobs").rglob(f"*{sha256(NEW)}*")
        path = blob if blob.is_file() else next(blob.iterdir())
        path.write_bytes(OLD)
        one.mount.assign("v2", contents)
        await one.until_serving("v2")
        assert path.read_bytes() == NEW


async def test_a_trial_without_the_device_that_another_holds_counts_in_this_process_only(
    tmp_path: Path, contents: dict[str, RevisionContent], probed: list[str]
) -> None:
    providers = ("OpenVINOExecutionProvider", "CPUExecutionProvider")
    device = Execution(profile="npu", providers=providers)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents, execution=device)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, execution=device, prepare="v2", try_prepared=True)
        await one.until(lambda s: s.prefetch and s.prefetch.is_tried)
        one.mount.assign("v2", contents, execution=device)
        await one.until_serving("v2")
        assert probed == ["v1", "v2"]
        one.mount.assign("v1", contents, execution=device, prepare="v3", try_prepared=True)
        await one.until_serving("v1")
        await one.until(lambda s: s.prefetch and s.prefetch.is_tried)
    async with pod(tmp_path) as again:
        await again.until_serving("v1")
        again.mount.assign("v3", contents, execution=device)
        await again.until_serving("v3")
    assert probed[-2:] == ["v3", "v3"]


async def test_a_trial_ahead_that_fails_is_a_note_and_is_made_again_by_the_step(
    tmp_path: Path,
    contents: dict[str, RevisionContent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = 0

    async def probe(self: Stages, goal, **more):  # type: ignore[no-untyped-def]
        nonlocal tried
        tried += goal.revision == "v2"
        if goal.revision == "v2":
            raise Refused(FailureReason.PROBE_FAILED, "the model crashed its probe")
        return Trial()

    monkeypatch.setattr(Stages, "probe", probe)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2", try_prepared=True)
        status = await one.until(lambda s: s.prefetch and s.prefetch.message)
        assert status.prefetch
        assert status.prefetch.message == "tried ahead: the model crashed its probe"
        assert (status.prefetch.is_done, status.prefetch.is_tried) == (True, False)
        assert (one.revision, status.failures, tried) == ("v1", (), 1)
        one.mount.assign("v2", contents)
        await one.until_failed("v2")
        assert (one.revision, tried) == ("v1", 2)


async def test_without_room_beside_what_serves_nothing_is_tried_ahead(
    tmp_path: Path,
    contents: dict[str, RevisionContent],
    probed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        monkeypatch.setattr(Needs, "room", lambda *_, **__: Room(needed=2, available=1, freed=9))
        one.mount.assign("v1", contents, prepare="v2", try_prepared=True)
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)
        await until(lambda: not one.agent._prefetch.is_due)
        assert (one.revision, probed) == ("v1", ["v1"])
        assert one.status.prefetch
        assert not one.status.prefetch.is_tried


async def test_a_trial_under_way_gives_way_to_its_step(
    tmp_path: Path, contents: dict[str, RevisionContent], monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, is_first = asyncio.Event(), True
    real = Stages.probe

    async def probe(self: Stages, goal, **more):  # type: ignore[no-untyped-def]
        nonlocal is_first
        if goal.revision == "v2" and is_first:
            is_first = False
            under_way.set()
            await asyncio.Event().wait()  # until it is cancelled
        return await real(self, goal, **more)

    monkeypatch.setattr(Stages, "probe", probe)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2", try_prepared=True)
        async with asyncio.timeout(30):
            await under_way.wait()
        one.mount.assign("v2", contents)
        await one.until_serving("v2")


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
