"""Downloads at a rate and in windows: the mean over a file, small chunks, a line that is shut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_runtime.agent.fetch import Download, Fetcher
from skerry_runtime.agent.pace import SHUT, DownloadPace, WindowShut
from skerry_runtime.agent.worker import Worker
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import DownloadRules, SwapPhase
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, ranged, sha256, until

KIB = 1024
MIB = 1024 * KIB
BODY = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class FakeTime:
    """A clock that only a sleep, or the test, moves."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def paced(rate: int | None, *shut: str) -> tuple[DownloadPace, FakeTime]:
    clock = FakeTime()
    pace = DownloadPace(clock.clock, clock.sleep)
    pace.obey(DownloadRules(bytes_per_s=rate, shut=shut))
    return pace, clock


async def _take(pace: DownloadPace, sizes: list[int]) -> None:
    for size in sizes:
        await pace.took(size, "v2")


@given(st.lists(st.integers(1, 256 * KIB), min_size=1, max_size=200), st.integers(KIB, 64 * MIB))
@settings(max_examples=100, deadline=None)
def test_the_mean_over_a_file_is_the_rate_however_it_comes_in_pieces(
    sizes: list[int], rate: int
) -> None:
    pace, clock = paced(rate)
    asyncio.run(_take(pace, sizes))
    wanted = sum(sizes) / rate
    assert wanted - 0.07 <= clock.now - 100 <= wanted + 0.02


async def test_thousands_of_small_chunks_are_paid_for_together() -> None:
    pace, clock = paced(MIB)
    await _take(pace, [100] * 40_000)
    assert clock.now - 100 == pytest.approx(4_000_000 / MIB, rel=0.02)
    assert len(clock.slept) < 1_000


async def test_a_source_that_pauses_may_not_make_up_for_it() -> None:
    pace, clock = paced(MIB)
    await _take(pace, [64 * KIB])
    clock.now += 60
    at = clock.now
    await _take(pace, [64 * KIB] * 32)
    assert clock.now - at >= 2 - 0.1


async def test_without_a_rate_nothing_waits() -> None:
    pace, clock = paced(None)
    await _take(pace, [MIB] * 100)
    assert clock.slept == []
    assert pace.buffer_bytes == 0


async def test_a_rate_that_is_lifted_counts_at_once() -> None:
    pace = DownloadPace()
    pace.obey(DownloadRules(bytes_per_s=1))
    waiting = asyncio.create_task(pace.took(10**9, "v2"))
    await asyncio.sleep(0)
    pace.obey(None)
    async with asyncio.timeout(20):
        await waiting


async def test_what_is_shut_is_not_taken_and_others_are() -> None:
    pace, _ = paced(None, "v2")
    with pytest.raises(WindowShut):
        await pace.took(1, "v2")
    assert await pace.took(1, "v1") == 0


async def test_who_waits_for_a_window_goes_on_when_it_opens() -> None:
    pace, _ = paced(None, "v2")
    waiting = asyncio.create_task(pace.opened("v2"))
    pace.obey(DownloadRules(bytes_per_s=5, shut=("v2",)))
    await asyncio.sleep(0)
    assert not waiting.done()
    pace.obey(DownloadRules(bytes_per_s=5))
    async with asyncio.timeout(20):
        await waiting


def test_the_buffer_follows_the_rate_within_bounds() -> None:
    assert [paced(rate)[0].buffer_bytes for rate in (KIB, 2 * MIB, 1024 * MIB)] == [
        16 * KIB,
        2 * MIB // 5,
        MIB,
    ]


@dataclass
class Line:
    """A fetcher behind a rate."""

    root: Path
    worker: Worker

    async def fetch(self, uri: str, pace: DownloadPace, **tuned: float) -> None:
        tuning = FAST.model_copy(update=tuned)
        fetcher = Fetcher(tuning, self.worker, lambda: 1 << 40, pace)
        target = self.root / "model.onnx"
        await fetcher.fetch(
            Download(uri, sha256(BODY), self.root / "part", target, revision="v2"),
            lambda _got, _total: None,
        )
        assert target.read_bytes() == BODY


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    worker = Worker("test")
    yield Line(tmp_path, worker)
    worker.close()


async def test_a_whole_file_takes_as_long_as_its_rate_says(line: Line, source: Source) -> None:
    pace, clock = paced(128 * KIB)
    await line.fetch(source.add("model", BODY), pace)
    assert clock.now - 100 == pytest.approx(8, rel=0.1)


async def test_a_resumed_file_takes_as_long_as_its_rest(line: Line, source: Source) -> None:
    line.root.joinpath("part").write_bytes(BODY[: MIB // 2])
    pace, clock = paced(128 * KIB)
    await line.fetch(source.add("model", BODY), pace)
    assert source.requests[0].headers["Range"] == f"bytes={MIB // 2}-"
    assert clock.now - 100 == pytest.approx(4, rel=0.1)


async def test_a_slow_rate_is_not_taken_for_a_source_that_drips(
    line: Line, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One window of the rule that ends drips is far shorter than what the rate takes."""
    clock = FakeTime()
    monkeypatch.setattr("skerry_runtime.agent.fetch.time.monotonic", clock.clock)
    pace = DownloadPace(clock.clock, clock.sleep)
    pace.obey(DownloadRules(bytes_per_s=KIB))
    await line.fetch(
        source.add("model", BODY), pace, trickle_window_s=10.0, trickle_bytes=512 * KIB
    )
    assert clock.now - 100 == pytest.approx(1024, rel=0.1)


async def test_a_window_that_shuts_keeps_what_came_and_the_next_one_goes_on(
    line: Line, source: Source
) -> None:
    pace, _ = paced(None)
    first = True

    async def half(request: web.Request) -> web.StreamResponse:
        nonlocal first
        if not first:
            return ranged(request, BODY)
        first = False
        response = web.StreamResponse(headers={"ETag": f'"{sha256(BODY)[:8]}"'})
        response.content_length = len(BODY)
        await response.prepare(request)
        await response.write(BODY[: MIB // 2])
        await until(lambda: pace.is_shut("v2"))
        await response.write(BODY[MIB // 2 :])
        return response

    uri = source.handle("model", half)
    pace.obey(None)
    task = asyncio.create_task(line.fetch(uri, pace))
    await until(lambda: source.requests)
    pace.obey(DownloadRules(shut=("v2",)))
    with pytest.raises(WindowShut):
        await task
    await line.worker.run(lambda: None)  # behind the file's end
    assert line.root.joinpath("part").stat().st_size > 0
    pace.obey(None)
    await line.fetch(uri, pace)
    assert source.requests[-1].headers["Range"].startswith("bytes=")


async def test_an_agent_waits_while_its_window_is_shut_and_serves_what_it_has(
    tmp_path: Path, source: Source
) -> None:
    old, new = classifier(), classifier(features=5)
    contents = {
        "v1": content(old, source.add("old.onnx", old)),
        "v2": content(new, source.add("new.onnx", new)),
    }
    shut = DownloadRules(bytes_per_s=64 * MIB, shut=("v2",))
    async with Pod(tmp_path, OnnxBackend(), FAST) as one:
        one.mount.assign("v1", contents, download=shut)
        await one.until_serving("v1")
        one.mount.assign("v2", contents, download=shut)
        status = await one.until(lambda s: s.progress and s.progress.message == SHUT)
        assert status.progress
        assert (status.progress.phase, status.progress.revision) == (SwapPhase.FETCHING, "v2")
        assert (one.revision, status.failures) == ("v1", ())
        asked = len(source.requests)
        # another revision meanwhile, and back: nothing is asked for
        one.mount.assign("v1", contents, download=shut)
        await one.until_serving("v1")
        one.mount.assign("v2", contents, download=shut)
        await one.until(lambda s: s.progress and s.progress.message == SHUT)
        assert len(source.requests) == asked
        one.mount.assign("v2", contents)
        await one.until_serving("v2")


async def test_a_file_that_cannot_be_read_leaves_the_last_word_in_force(
    tmp_path: Path, source: Source
) -> None:
    old, new = classifier(), classifier(features=5)
    contents = {
        "v1": content(old, source.add("old.onnx", old)),
        "v2": content(new, source.add("new.onnx", new)),
    }
    async with Pod(tmp_path, OnnxBackend(), FAST) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v2", contents, download=DownloadRules(shut=("v2",)))
        await one.until(lambda s: s.progress and s.progress.message == SHUT)
        one.mount.write("{")
        status = await one.until(lambda s: s.assignment_error)
        assert status.progress
        assert status.progress.message == SHUT
        assert one.revision == "v1"


async def test_a_pod_that_serves_nothing_waits_for_no_window(
    tmp_path: Path, source: Source
) -> None:
    """A replaced canary: its disk is empty, and what it is given is on trial still."""
    new = classifier(features=5)
    contents = {"v2": content(new, source.add("new.onnx", new))}
    async with Pod(tmp_path, OnnxBackend(), FAST) as one:
        one.mount.assign("v2", contents, download=DownloadRules(bytes_per_s=MIB, shut=("v2",)))
        await one.until_serving("v2")
