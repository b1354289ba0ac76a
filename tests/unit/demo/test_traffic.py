"""The clients: what counts as an answer, no retries, and the process around them."""

import asyncio
import itertools

import numpy as np
import pytest

from digits_demo.errors import DemoError
from digits_demo.traffic import Answer, BadAnswer, Traffic, ask_once, drive, parse_answer

IMAGE = np.zeros(64, np.float32)
GOOD = {"parameters": {"revision": "r1"}, "model_version": "1.0.0"}


def test_an_answer_names_revision_version_and_digit():
    assert parse_answer(GOOD, np.array([7])) == Answer("r1", "1.0.0", 7)


@pytest.mark.parametrize(
    ("response", "labels"),
    [
        pytest.param({}, np.array([7]), id="no revision"),
        pytest.param(GOOD, None, id="no output"),
        pytest.param(GOOD, np.array([10]), id="not a digit"),
        pytest.param(GOOD, np.array([-1]), id="negative"),
        pytest.param(GOOD, np.array([1, 2]), id="two answers"),
    ],
)
def test_anything_else_is_a_bad_answer(response, labels):
    with pytest.raises(BadAnswer):
        parse_answer(response, labels)


async def answer_seven(_):
    return Answer("r1", "1.0.0", 7)


async def refuse(_):
    raise ConnectionRefusedError("nobody listens")


async def test_a_right_answer():
    sample = await ask_once("a", answer_seven, IMAGE, 7)
    assert (sample.right, sample.error, sample.revision) == (True, None, "r1")


async def test_a_wrong_answer_is_no_error():
    sample = await ask_once("a", answer_seven, IMAGE, 3)
    assert (sample.right, sample.error) == (False, None)


async def test_a_failure_is_told_with_its_cause():
    sample = await ask_once("a", refuse, IMAGE, 3)
    assert sample.error == "ConnectionRefusedError: nobody listens"
    assert sample.revision is None


async def test_a_hanging_pod_is_a_failure(monkeypatch):
    monkeypatch.setattr("digits_demo.traffic.TIMEOUT_S", 0.01)
    sample = await ask_once("a", lambda _: asyncio.Event().wait(), IMAGE, 3)
    assert sample.error is not None
    assert sample.error.startswith("TimeoutError")


async def run_client(ask, enough, rate=1000.0):
    """Drive one node until `enough` requests are reported."""
    stop, reported = asyncio.Event(), []

    def report(sample):
        reported.append(sample)
        if len(reported) >= enough:
            stop.set()

    await drive("a", ask, itertools.repeat((IMAGE, 7)), rate, report, stop)
    return reported


async def test_a_failed_request_is_not_tried_again():
    calls = itertools.count()

    async def ask(image):
        next(calls)
        return await refuse(image)

    reported = await run_client(ask, enough=5)
    assert [sample.error is not None for sample in reported] == [True] * 5
    assert next(calls) == 5


async def test_a_slow_pod_gets_one_request_at_a_time_and_no_burst_afterwards():
    under_way, most = 0, 0

    async def ask(_):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return Answer("r1", "1.0.0", 7)

    reported = await run_client(ask, enough=10)
    assert (most, len(reported)) == (1, 10)


@pytest.fixture
def traffic(tmp_path):
    np.savez(tmp_path / "clients.npz", image=np.zeros((3, 64), np.float32), labels=np.arange(3))
    running = Traffic(tmp_path / "clients.npz", "digits", tmp_path / "traffic.log", rate=100)
    yield running
    running.stop()


def test_the_process_reports_requests_that_nobody_answers(traffic):
    traffic.add("a", "127.0.0.1:9")  # the discard port: nobody listens
    while not traffic.tally.all():
        traffic.require_alive()
    traffic.stop()
    assert traffic.nodes == {"a"}
    assert all(sample.node == "a" and sample.error for sample in traffic.tally.all())


def test_a_process_that_ended_is_noticed(traffic):
    traffic.stop()
    with pytest.raises(DemoError, match="traffic process ended with status 0"):
        traffic.require_alive()
