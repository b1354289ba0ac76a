"""The poller: whoever answers is heard soon, whoever does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random

import pytest

from builders import make_report, serving
from skerry_operator.decide.observed import Pod
from skerry_operator.reports.base import (
    BODY_LIMIT,
    DeploymentKey,
    Question,
    ReadError,
    ReadResult,
)
from skerry_operator.reports.cadence import Cadence
from skerry_operator.reports.poller import Clocks, Poller
from skerry_operator.telemetry import Telemetry

SLOTS = 64
DEADLINE_S = 30.0
KEY = ("edge", "digits")
Answer = Callable[[Question], Awaitable[bytes]]


def pod(unit: str) -> Pod:
    return Pod(f"p-{unit}", unit, "c", "t", ip="10.0.0.1", uid=unit, revision_label="v1-a")


async def good(question: Question) -> bytes:
    report = make_report(question.pod.unit, serving("v1-a"), assigned="v1-a")
    return report.model_dump_json(by_alias=True).encode()


async def silent(_: Question) -> bytes:
    await asyncio.sleep(3600)
    raise AssertionError


async def large(_: Question) -> bytes:
    return b"a" * (BODY_LIMIT + 1)


async def odd(question: Question) -> bytes:
    body = await good(question)
    exam = b'{"metric":"Accuracy","value":1,"threshold":1,"passed":true,"samples":-1}'
    return body.replace(b'"exam":null', b'"exam":' + exam)


async def broken(_: Question) -> bytes:
    raise RuntimeError("a mistake of ours")


class Ground:
    """A poller that runs, over pods that a test makes."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.woken: list[DeploymentKey] = []
        self.telemetry = Telemetry()
        self.most = self.now = 0
        self.poller = Poller(
            self._fetch,
            self.telemetry,
            slots=SLOTS,
            cadence=Cadence(Random(1), 60),
            clocks=Clocks(time.monotonic, lambda: datetime.now(UTC)),
            wake=self.woken.append,
        )

    async def _fetch(self, question: Question) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self.answers[question.deployment[0]](question)
        finally:
            self.now -= 1

    def count(self, result: ReadResult) -> float:
        return float(self.telemetry.pod_status_reads.labels(result)._value.get())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 (no event tells it)
                await asyncio.sleep(0)


@asynccontextmanager
async def running(**answers: Answer) -> AsyncIterator[Ground]:
    ground = Ground(answers)
    task = asyncio.create_task(ground.poller.run())
    yield ground
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ground.poller.close()


async def test_640_silent_pods_in_another_namespace_keep_nobody_waiting() -> None:
    async with running(mute=silent, edge=good) as ground:
        for number in range(4):
            mute = [pod(f"n{number}-{index}") for index in range(160)]
            ground.poller.follow(("mute", f"d{number}"), mute)
        await ground.until(lambda: ground.now == SLOTS * 3 // 4)
        pods = [pod(f"e{number}") for number in range(100)]
        ground.poller.follow(KEY, pods)  # not one of the silent ones has come to its timeout
        await ground.until(lambda: len(ground.poller.hearing(KEY, pods).reports) == 100)
        assert ground.now == SLOTS * 3 // 4
        assert ground.most <= SLOTS


async def test_pods_with_a_megabyte_are_refused_and_their_deployment_hears_why() -> None:
    async with running(edge=large, other=good) as ground:
        pods = [pod(str(number)) for number in range(8)]
        ground.poller.follow(KEY, pods)
        await ground.until(lambda: len(ground.poller.hearing(KEY, pods).refused) == 8)
        said = ground.poller.hearing(KEY, pods)
        assert said.reports == {}
        assert said.refused["0"] == (
            f"its report is refused as too_large: more than {BODY_LIMIT} bytes"
        )
        assert ground.woken


async def test_a_number_that_cannot_be_is_refused_counted_and_told() -> None:
    async with running(edge=odd) as ground:
        ground.poller.follow(KEY, [pod("n")])
        await ground.until(lambda: ground.poller.hearing(KEY, [pod("n")]).refused)
        why = ground.poller.hearing(KEY, [pod("n")]).refused["n"]
        assert why.startswith(
            "its report is refused as garbage: serving.models.digits.exam.samples: "
        )
        assert ground.count(ReadResult.GARBAGE) >= 1
        await ground.until(lambda: ground.count(ReadResult.GARBAGE) >= 2)
        assert ground.woken == [KEY]  # told once


async def test_a_large_body_is_parsed_beside_the_loop() -> None:
    async def padded(question: Question) -> bytes:
        return await good(question) + b" " * 40_000

    async with running(edge=padded) as ground:
        ground.poller.follow(KEY, [pod("n")])
        await ground.until(lambda: ground.poller.hearing(KEY, [pod("n")]).reports)


async def test_a_mistake_of_ours_with_one_pod_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(edge=good, bad=broken) as ground:
        ground.poller.follow(("bad", "d"), [pod("x")])
        await ground.until(lambda: ground.count(ReadResult.UNREACHABLE) >= 2)
        ground.poller.follow(KEY, [pod("n")])
        await ground.until(lambda: ground.poller.hearing(KEY, [pod("n")]).reports)
    assert "a mistake of ours" in caplog.text


async def test_another_producer_s_report_counts_like_a_polled_one() -> None:
    async with running(edge=silent) as ground:
        ground.poller.follow(KEY, [pod("n")])
        await ground.until(lambda: ground.now)
        async with running(edge=good) as gateway:
            gateway.poller.follow(KEY, [pod("n")])
            await gateway.until(lambda: gateway.poller.hearing(KEY, [pod("n")]).reports)
            report = gateway.poller.hearing(KEY, [pod("n")]).reports["n"]
        ground.poller.heard(Question(KEY, pod("n")), report, time.monotonic())
        assert ground.poller.hearing(KEY, [pod("n")]).reports == {"n": report}
        assert ground.woken == [KEY]


async def test_people_see_every_pod_that_is_followed_also_the_silent_ones() -> None:
    async def mixed(question: Question) -> bytes:
        if question.pod.unit == "b":
            raise ReadError(ReadResult.TIMEOUT, "no answer in time")
        return await good(question)

    async with running(edge=mixed) as ground:
        ground.poller.follow(KEY, [pod("a"), pod("b")])
        await ground.until(lambda: ground.poller.hearing(KEY, [pod("a"), pod("b")]).is_complete)
        seen = {one.question.pod.unit: one.report is None for one in ground.poller.voices()}
        assert seen == {"a": False, "b": True}


async def test_a_pod_that_is_no_longer_followed_is_asked_no_more() -> None:
    async with running(edge=good, other=good) as ground:
        ground.poller.follow(KEY, [pod("n")])
        await ground.until(lambda: ground.poller.hearing(KEY, [pod("n")]).reports)
        ground.poller.forget(KEY)
        assert ground.poller.hearing(KEY, [pod("n")]).reports == {}
        assert list(ground.poller.voices()) == []
