"""Whole agents against a real HTTP server, real ONNX files and a ConfigMap-like mount."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from documents import with_file, with_model
from serving.fakes import Gate
from skerry_runtime.agent import machine
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.state import NodeState
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import (
    FailureReason,
    Format,
    RevisionContent,
    StatusReport,
    SwapMode,
)
from skerry_runtime.errors import NotReady
from unit.runtime.agent import engines
from unit.runtime.agent.support import (
    FAST,
    Pod,
    Source,
    classifier,
    content,
    environment,
    golden,
    until,
)

GOOD = classifier()
OTHER = classifier(features=5)
WRONG = classifier(bias=1)
EXAM = golden()
EXAM_OF_OTHER = golden(features=5)


@pytest.fixture
def contents(source: Source) -> dict[str, RevisionContent]:
    """v1 and v2 are good, v3 answers wrongly, v4 has another digest than its file."""
    exam_uri = source.add("golden.npz", EXAM)
    other_uri = source.add("other.npz", EXAM_OF_OTHER)
    good, other = source.add("good.onnx", GOOD), source.add("other.onnx", OTHER)
    wrong = source.add("wrong.onnx", WRONG)
    return {
        "v1": content(GOOD, good, exam=EXAM, exam_uri=exam_uri),
        "v2": content(OTHER, other, exam=EXAM_OF_OTHER, exam_uri=other_uri),
        "v3": content(WRONG, wrong, exam=EXAM, exam_uri=exam_uri),
        "v4": content(b"something else", good),
    }


def pod(root: Path, tuning: Tuning = FAST) -> Pod:
    return Pod(root, OnnxBackend(), tuning)


class Hammer:
    """Clients that never rest; counts what they got."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.served: set[str] = set()
        self.failures: list[Exception] = []

    def __enter__(self) -> Hammer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._pod.registry.acquire() as serving:
                    features = serving.model.metadata.inputs[0].shape[1]
                    serving.model.infer({"x": np.ones((1, features), np.float32)})
                    self.served.add(serving.served.revision)
            except Exception as err:  # noqa: BLE001 (whatever a client may see)
                self.failures.append(err)


async def test_a_first_revision_is_fetched_examined_and_served(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        digest = one.mount.assign("v1", contents)
        status = await one.until_serving("v1")
        assert status.assignment == digest
        assert status.assigned == "v1"
        assert (status.deployment, status.cell) == ("shop/digits", "cpu-amd64")
        assert status.serving
        assert status.serving.exam
        assert status.serving.exam.value == 1.0
        assert status.serving.acceleration
        assert status.progress
        assert status.progress.phase == "Serving"
        assert status.on_disk == ("v1",)
        assert status.last_swap
        assert status.last_swap.fetched
        assert status.last_swap.from_revision is None
        assert status.counters[0].revision == "v1"


async def test_a_swap_under_traffic_fails_no_request(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        with Hammer(one) as hammer:
            one.mount.assign("v2", contents)
            status = await one.until_serving("v2")
            await one.until(lambda _: "v2" in hammer.served)
        assert hammer.failures == []
        assert hammer.served == {"v1", "v2"}
        assert status.last_swap
        assert status.last_swap.mode is SwapMode.OVERLAP
        assert status.last_swap.outage_ms == 0
        assert status.on_disk == ("v1", "v2")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [("v3", FailureReason.EXAM_FAILED), ("v4", FailureReason.DIGEST_MISMATCH)],
)
async def test_a_bad_revision_leaves_the_good_one_serving(
    tmp_path: Path, contents: dict[str, RevisionContent], bad: str, reason: FailureReason
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        with Hammer(one) as hammer:
            one.mount.assign(bad, contents)
            status = await one.until_failed(bad)
        assert hammer.failures == []
        assert hammer.served == {"v1"}
        assert one.revision == "v1"
        assert status.failures[0].reason is reason
        assert status.failures[0].revision == bad
        await one.until(lambda s: s.on_disk == ("v1",))


async def test_a_failed_exam_reports_its_figures(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v3", contents)
        status = await one.until_failed("v3")
        assert status.serving is None
        assert status.progress
        assert status.progress.message == "Accuracy 0 is under the threshold 0.95 (40 samples)"
        assert status.progress.exam
        assert not status.progress.exam.passed


async def test_going_back_fetches_nothing(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    async with pod(tmp_path) as one:
        for revision in ("v1", "v2"):
            one.mount.assign(revision, contents)
            await one.until_serving(revision)
        asked = len(source.requests)
        one.mount.assign("v1", contents)
        status = await one.until_serving("v1")
        one.mount.assign("v2", contents)
        await one.until_serving("v2")
        assert len(source.requests) == asked
        assert status.last_swap
        assert not status.last_swap.fetched


async def test_nothing_assigned_serves_nothing(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign(None, contents)
        status = await one.until(lambda s: s.serving is None)
        assert status.assigned is None
        assert status.progress is None
        with pytest.raises(NotReady), one.registry.acquire():
            pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no valid assignment"),
        ("[]", "no valid assignment"),
        (
            '{"schema": 9, "deployment": "a/b", "cell": "c", "execution": {"profile": "cpu"}}',
            "reads schema 2 and 3, and not 9",
        ),
        (
            '{"schema": 2, "deployment": "a/b", "cell": "c", "execution": {"profile": "cpu"},'
            ' "default": "v9"}',
            "'v9' is assigned to node-1 but not described",
        ),
    ],
)
async def test_an_unreadable_assignment_keeps_what_runs(
    tmp_path: Path, contents: dict[str, RevisionContent], text: str, words: str
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.write(text)
        status = await one.until(lambda s: s.assignment_error)
        assert words in (status.assignment_error or "")
        assert one.revision == "v1"
        one.mount.assign("v2", contents)
        status = await one.until_serving("v2")
        assert status.assignment_error is None


async def test_a_restart_without_a_network_serves_the_assigned_revision_from_disk(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
    asked = len(source.requests)
    async with pod(tmp_path) as again:
        status = await again.until_serving("v1")
        assert len(source.requests) == asked
        assert status.last_swap
        assert not status.last_swap.fetched
        assert status.boot_id != one.status.boot_id


async def test_a_restart_serves_the_last_good_one_while_the_assigned_one_cannot_be_fetched(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    async def down(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
    source.handle("other.onnx", down)
    async with pod(tmp_path) as again:
        again.mount.assign("v2", contents)
        await again.until_serving("v1")
        status = await again.until(lambda s: s.progress and s.progress.attempt > 1)
        assert status.assigned == "v2"
        assert status.progress
        assert status.progress.phase == "Fetching"
        status = await again.until(lambda s: s.progress and s.progress.reason)
        assert status.progress
        assert status.progress.reason is FailureReason.FETCH_FAILED
        assert "HTTP 503; next try in" in status.progress.message
        del source.handlers["other.onnx"]
        await again.until_serving("v2")


async def test_a_restart_with_no_assignment_file_serves_the_last_good_one(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
    (tmp_path / "assignment" / "assignment.json").unlink()
    async with pod(tmp_path) as again:
        status = await again.until_serving("v1")
        assert "cannot be read" in (status.assignment_error or "")


async def test_a_file_damaged_on_disk_is_fetched_again(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
    (blob,) = (tmp_path / "slots" / "blobs").glob("*/model.onnx")
    blob.write_bytes(GOOD[:-1] + b"?")
    asked = len(source.requests)
    async with pod(tmp_path) as again:
        await again.until_serving("v1")
        assert len(source.requests) == asked + 1


async def test_an_assignment_that_moves_on_in_mid_fetch_wins(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    begun = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(GOOD))})
        await response.prepare(request)
        await response.write(GOOD[:10])
        begun.set()
        await asyncio.sleep(60)
        return response

    source.handle("good.onnx", hang)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await begun.wait()
        one.mount.assign("v2", contents)
        status = await one.until_serving("v2")
        assert status.failures == ()
        assert status.on_disk == ("v2",)


async def test_a_download_that_was_taken_back_goes_on_when_its_revision_is_given_again(
    tmp_path: Path,
    contents: dict[str, RevisionContent],
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skerry_runtime.agent.fetch._FLUSH_S", 0.0)
    whole = source.files["other.onnx"]
    begun = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(whole)), "ETag": '"e"'})
        await response.prepare(request)
        await response.write(whole[:100])
        begun.set()
        await asyncio.sleep(60)
        return response

    ranges: list[str] = []

    async def rest(request: web.Request) -> web.StreamResponse:
        ranges.append(request.headers.get("Range", ""))
        headers = {"Content-Range": f"bytes 100-{len(whole) - 1}/{len(whole)}", "ETag": '"e"'}
        return web.Response(status=206, body=whole[100:], headers=headers)

    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        source.handle("other.onnx", drip)
        one.mount.assign("v2", contents)
        await begun.wait()
        await one.until(lambda told: (told.progress and told.progress.fetched_bytes) == 100)
        one.mount.assign("v1", contents)
        await one.until(lambda told: told.progress and told.progress.revision == "v1")
        source.handle("other.onnx", rest)
        again = contents["v2"].model_copy(update={"retry": "again"})
        one.mount.assign("v2", contents | {"v2": again})
        await one.until_serving("v2")
    assert ranges == ["bytes=100-"]


async def test_a_failed_revision_is_tried_again_when_its_retry_text_changes(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    patient = FAST.model_copy(update={"slow_backoff_min_s": 600.0, "slow_backoff_max_s": 600.0})
    async with pod(tmp_path, patient) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        source.files["other.onnx"] = b"not it"
        one.mount.assign("v2", contents)
        await one.until_failed("v2")
        source.files["other.onnx"] = OTHER
        asked = len(source.requests)
        one.mount.assign("v1", contents)
        await one.until(lambda s: s.assigned == "v1")
        one.mount.assign("v2", contents)
        await one.until_failed("v2")
        assert len(source.requests) == asked  # away and back alone does not try again
        again = contents["v2"].model_copy(update={"retry": "once more"})
        one.mount.assign("v2", {**contents, "v2": again})
        await one.until_serving("v2")


async def test_a_refusal_outlives_a_restart(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v3", contents)
        await one.until_failed("v3")
    asked = len(source.requests)
    async with pod(tmp_path) as again:
        await again.until_serving("v1")
        await again.until_failed("v3")
        assert len(source.requests) == asked


async def test_a_missing_file_is_tried_again_slowly_while_nothing_serves(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    del source.files["good.onnx"]
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        status = await one.until_failed("v1")
        assert status.failures[0].reason is FailureReason.FETCH_FAILED
        assert "HTTP 404" in status.failures[0].message
        source.files["good.onnx"] = GOOD
        status = await one.until_serving("v1")
        assert status.failures == ()


async def test_a_sequential_swap_measures_its_outage(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    sequential = {
        name: c.model_copy(update={"swap": SwapMode.SEQUENTIAL}) for name, c in contents.items()
    }
    async with pod(tmp_path) as one:
        one.mount.assign("v1", sequential)
        await one.until_serving("v1")
        one.mount.assign("v2", sequential)
        status = await one.until_serving("v2")
        assert status.last_swap
        assert status.last_swap.mode is SwapMode.SEQUENTIAL
        assert status.last_swap.from_revision == "v1"
        assert status.last_swap.outage_ms > 0


async def test_a_sequential_swap_that_fails_brings_the_old_model_back(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    contents["v3"] = contents["v3"].model_copy(update={"swap": SwapMode.SEQUENTIAL})
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v3", contents)
        status = await one.until_failed("v3")
        status = await one.until_serving("v1")
        assert status.last_swap
        assert status.last_swap.to_revision == "v1"
        assert status.last_swap.outage_ms > 0
        assert status.progress
        assert status.progress.phase == "Failed"


async def test_two_revisions_with_one_file_fetch_it_once(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    contents["v5"] = contents["v1"].model_copy(update={"version": "1.0.1", "threads": 2})
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        asked = len(source.requests)
        one.mount.assign("v5", contents)
        status = await one.until_serving("v5")
        assert len(source.requests) == asked
        assert status.on_disk == ("v1", "v5")


async def test_the_slots_hold_the_current_and_the_last_good_one_only(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    settling = FAST.model_copy(update={"settle_s": 0.0})
    contents["v5"] = contents["v1"].model_copy(update={"version": "1.0.1"})
    async with Pod(tmp_path, OnnxBackend(), settling) as one:
        for revision in ("v1", "v2", "v5"):
            one.mount.assign(revision, contents)
            await one.until_serving(revision)
        await one.until(lambda s: s.on_disk == ("v2", "v5"))


def declared(content_: RevisionContent, memory_bytes: int, **more: object) -> RevisionContent:
    return with_model(content_, memory_bytes=memory_bytes).model_copy(update=more)


async def test_a_model_that_fits_nowhere_is_refused_with_figures(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    contents["v2"] = declared(contents["v2"], 1 << 50)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v2", contents)
        status = await one.until_failed("v2")
        assert status.failures[0].reason is FailureReason.INSUFFICIENT_MEMORY
        assert "the model needs 1024.0 TiB" in status.failures[0].message
        assert one.revision == "v1"


async def test_auto_swaps_in_sequence_when_two_models_do_not_fit(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    huge = 1 << 50
    contents["v1"] = declared(contents["v1"], 1)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        # What serves is said to free as much as the next one needs.
        one.agent._board.serving = replace(
            one.agent._board.serving, content=declared(contents["v1"], huge)
        )
        contents["v2"] = declared(contents["v2"], huge)
        one.mount.assign("v2", contents)
        status = await one.until_serving("v2")
        assert status.last_swap
        assert status.last_swap.mode is SwapMode.SEQUENTIAL
        assert status.last_swap.outage_ms > 0


async def test_a_missing_file_is_tried_again_slowly_while_an_older_model_serves(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    other = source.files.pop("other.onnx")
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v2", contents)
        status = await one.until_failed("v2")
        assert status.failures[0].reason is FailureReason.FETCH_FAILED
        assert one.revision == "v1"
        source.files["other.onnx"] = other
        status = await one.until_serving("v2")
        assert status.failures == ()


async def test_a_failure_says_under_which_retry_text_and_another_text_tries_at_once(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    other = source.files.pop("other.onnx")
    patient = FAST.model_copy(update={"slow_backoff_min_s": 900.0, "slow_backoff_max_s": 900.0})
    async with Pod(tmp_path, OnnxBackend(), patient) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v2", contents)
        status = await one.until_failed("v2")
        assert status.failures[0].retry == ""
        source.files["other.onnx"] = other
        contents["v2"] = contents["v2"].model_copy(update={"retry": "again"})
        one.mount.assign("v2", contents)
        status = await one.until_serving("v2")
        assert status.failures == ()
        assert status.progress
        assert status.progress.retry == "again"


async def test_a_full_volume_is_refused_and_leaves_what_serves(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    big = bytes(2 * 1024 * 1024)
    contents["v6"] = content(big, source.add("big", big))
    small = FAST.model_copy(update={"slots_limit_bytes": 1024 * 1024})
    async with Pod(tmp_path, OnnxBackend(), small) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v6", contents)
        status = await one.until_failed("v6")
        assert status.failures[0].reason is FailureReason.INSUFFICIENT_DISK
        assert "raise the size limit" in status.failures[0].message
        assert one.revision == "v1"


async def test_a_model_that_crashes_its_engine_harms_only_the_probe(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    tests = str(Path(__file__).parents[3])
    with environment(PYTHONPATH=tests):
        async with Pod(tmp_path, engines.CrashesInChild(), FAST) as one:
            one.mount.assign("v1", contents)
            status = await one.until_failed("v1")
            assert status.failures[0].reason is FailureReason.PROBE_FAILED
            assert "SIGSEGV" in status.failures[0].message


async def test_a_probe_that_was_passed_is_not_repeated_after_a_restart(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
    # An engine whose probe would fail: it is not asked.
    with environment(PYTHONPATH=str(Path(__file__).parents[3])):
        async with Pod(tmp_path, engines.CrashesInChild(), FAST) as again:
            await again.until_serving("v1")


async def test_an_unexpected_error_ends_in_a_refusal(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.agent._swap._stages.backend = engines.Broken()
        with environment(PYTHONPATH=str(Path(__file__).parents[3])):
            one.mount.assign("v2", contents)
            status = await one.until_failed("v2")
        assert status.failures[0].reason is FailureReason.PROBE_FAILED
        assert one.revision == "v1"


async def test_an_agent_that_was_never_run_reports_and_stops(tmp_path: Path) -> None:
    one = pod(tmp_path)
    assert one.status.serving is None
    assert one.status.unit == "node-1"
    await one.agent.stop()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Holds every exam of `engines.Pausing` until the test ends it."""
    held = Gate()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setattr(engines.Pausing, "gate", held)
    yield held
    held.open.set()


def activation(root: Path) -> object:
    return json.loads((root / "slots" / "state.json").read_text())["activation"]


async def test_an_orderly_stop_in_a_long_exam_is_no_crash(
    tmp_path: Path, contents: dict[str, RevisionContent], gate: Gate
) -> None:
    one = Pod(tmp_path, engines.Pausing(), FAST)
    one.mount.assign("v1", contents)
    running = asyncio.create_task(one.agent.run())
    await asyncio.to_thread(gate.wait_entered)
    assert activation(tmp_path)
    stop = asyncio.create_task(one.agent.stop())
    await until(lambda: activation(tmp_path) is None)
    assert not gate.open.is_set()
    gate.open.set()
    await asyncio.gather(stop, running)


async def test_an_exam_without_an_end_is_not_passed_and_holds_up_nothing(
    tmp_path: Path, contents: dict[str, RevisionContent], gate: Gate
) -> None:
    impatient = FAST.model_copy(update={"exam_timeout_s": 2.0})
    async with Pod(tmp_path, engines.Pausing(), impatient) as one:
        gate.open.set()
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        gate.open.clear()
        one.mount.assign("v2", contents)
        status = await one.until_failed("v2")
        assert status.progress
        assert status.progress.reason is FailureReason.EXAM_FAILED
        assert "did not end within 2 s" in status.progress.message
        assert one.revision == "v1"
        again = contents["v2"].model_copy(update={"retry": "once more"})
        one.mount.assign("v2", {**contents, "v2": again})
        gate.open.set()  # lets the first exam end as well, which nobody waits for any more
        await one.until_serving("v2")


async def test_a_revision_that_was_taken_back_in_its_exam_did_not_crash(
    tmp_path: Path, contents: dict[str, RevisionContent], gate: Gate
) -> None:
    async with Pod(tmp_path, engines.Pausing(), FAST) as one:
        gate.open.set()
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        await until(lambda: activation(tmp_path))
        served = activation(tmp_path)
        gate.open.clear()
        gate.wait_entered()
        one.mount.assign("v2", contents)
        await asyncio.to_thread(gate.wait_entered)
        assert activation(tmp_path) != served
        one.mount.assign("v1", contents)
        gate.open.set()
        await until(lambda: activation(tmp_path) == served)
        assert one.status.failures == ()


async def test_a_volume_with_something_unexpected_in_it_does_not_end_the_agent(
    tmp_path: Path, contents: dict[str, RevisionContent], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pod(tmp_path)
    opened, tries = one.agent._slots.open, iter([True])

    def stumble() -> NodeState:
        if next(tries, False):
            raise KeyError("unexpected")
        return opened()

    monkeypatch.setattr(one.agent._slots, "open", stumble)
    monkeypatch.setattr("skerry_runtime.agent.agent._AFTER_ERROR_S", 0.01)
    async with one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")


async def test_a_report_with_a_long_address_can_be_read(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    async def down(_: web.Request) -> web.Response:
        return web.Response(status=503)

    name = "a" * 1010
    far = with_file(contents["v1"], uri=source.handle(name, down))
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": far})
        status = await one.until(lambda s: s.progress and s.progress.reason)
        StatusReport.model_validate_json(status.model_dump_json(by_alias=True))


async def test_a_format_that_this_runtime_does_not_read_is_refused(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    contents["v2"] = with_model(contents["v2"], format=Format.CUSTOM)
    async with pod(tmp_path) as here:
        here.mount.assign("v1", contents)
        await here.until_serving("v1")
        here.mount.assign("v2", contents)
        status = await here.until_failed("v2")
        assert status.progress
        assert status.progress.reason is FailureReason.INVALID_MODEL
        assert "Custom" in status.progress.message
        assert status.serving


async def test_a_stop_in_the_moment_of_breaking_off_still_ends_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skerry_runtime.agent.machine.decide", lambda _: machine.Abandon())
    is_tidying, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_tidying.set()
            await may_end.wait()

    agent = Pod(tmp_path, OnnxBackend(), FAST).agent
    drive = asyncio.create_task(agent._interruptible(work()))
    await is_tidying.wait()
    drive.cancel()
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.wait({drive})
    assert drive.cancelled()


async def test_a_revision_of_several_models_is_refused_and_fetches_nothing(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    models = {"digits": contents["v2"].model, "letters": contents["v1"].model}
    contents["v2"] = contents["v2"].model_copy(update={"models": models})
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        asked = len(source.requests)
        one.mount.assign("v2", contents)
        status = await one.until_failed("v2")
        assert "has 2 models, this runtime serves one" in status.failures[0].message
        assert (one.revision, len(source.requests)) == ("v1", asked)


# --- names ---


async def test_a_model_that_gets_another_name_answers_to_it_and_is_not_loaded_again(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        before = one.registry.current
        one.mount.assign("v1", renamed(contents, "letters"))
        status = await one.until(lambda s: s.serving and s.serving.name == "letters")
        assert status.serving
        assert status.serving.exam
        assert one.registry.current is before
        assert before
        assert before.name == "letters"
        assert status.last_swap
        assert status.last_swap.from_revision is None


async def test_a_restart_keeps_the_new_name(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", renamed(contents, "letters"))
        await one.until(lambda s: s.serving and s.serving.name == "letters")
        one.mount.write("{")
    async with pod(tmp_path) as again:
        status = await again.until_serving("v1")
        assert status.serving
        assert status.serving.name == "letters"


async def test_a_rename_in_the_middle_of_requests_fails_none(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        with one.registry.acquire() as serving:
            one.mount.assign("v1", renamed(contents, "letters"))
            await one.until(lambda s: s.serving and s.serving.name == "letters")
            assert serving.model.infer({"x": np.eye(4, dtype=np.float32)})


async def test_another_name_opens_no_refused_revision_again(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v3", contents)
        first = await one.until_failed("v3")
        digest = one.mount.assign("v3", renamed(contents, "letters"))
        status = await one.until(lambda s: s.assignment == digest)
        assert status.failures == first.failures
        assert status.progress
        assert status.progress.phase == "Failed"


def renamed(contents: dict[str, RevisionContent], name: str) -> dict[str, RevisionContent]:
    return {
        revision: one.model_copy(update={"models": {name: one.model}})
        for revision, one in contents.items()
    }
