"""Queries to Prometheus: what goes out, and what each answer of a real server comes to."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from skerry_operator.decide.analysis.queries import Query
from skerry_operator.decide.observed import Sample, SampleState
from skerry_operator.metricsource.prometheus import (
    BODY_LIMIT,
    Prometheus,
    PrometheusAddress,
    read_answer,
)
from skerry_operator.metricsource.sampler import PATIENCE_S, Ask, Sampler
from skerry_operator.telemetry import Telemetry

TIMEOUT_S = 0.5
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[Prometheus]]


def answer(kind: str, result: Any) -> bytes:
    data = {"resultType": kind, "result": result}
    return json.dumps({"status": "success", "data": data}).encode()


def series(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1700000000.1, value]}


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, answer("vector", []), SampleState.EMPTY, "no series"),
        (200, answer("vector", [series("1"), series("2")]), SampleState.ODD, "gives 2 series"),
        (200, answer("matrix", []), SampleState.ODD, "is a matrix"),
        (200, b"<html>", SampleState.DOWN, "no answer of Prometheus"),
        (200, b"[" * 100_000, SampleState.DOWN, "no answer of Prometheus"),
        (200, b'{"status": "success"}', SampleState.DOWN, "no answer of Prometheus"),
        (200, answer("vector", [series("many")]), SampleState.DOWN, "no answer of Prometheus"),
        (200, b"a" * (BODY_LIMIT + 1), SampleState.ODD, "too long"),
        (400, b'{"status": "error", "error": "parse error"}', SampleState.ODD, "parse error"),
        (422, b'{"error": "too many samples"}', SampleState.ODD, "too many samples"),
        (302, b"", SampleState.DOWN, "HTTP 302"),
        (401, b"", SampleState.DOWN, "HTTP 401"),
        (503, b'{"error": "query timed out"}', SampleState.DOWN, "HTTP 503"),
    ],
)
def test_an_answer_without_one_number_says_why(
    status: int, body: bytes, state: SampleState, words: str
) -> None:
    sample = read_answer(status, body)
    assert sample.state is state
    assert words in sample.problem


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (answer("scalar", [1700000000, "0.25"]), 0.25),
        (answer("vector", [series("12", job="a")]), 12.0),
        (answer("vector", [series("+Inf")]), math.inf),
    ],
)
def test_a_scalar_and_a_single_series_are_numbers(body: bytes, value: float) -> None:
    assert read_answer(200, body) == Sample(SampleState.READ, value)


def test_nan_is_read_as_what_it_is() -> None:
    assert math.isnan(read_answer(200, answer("vector", [series("NaN")])).value)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    closers: list[Callable[[], Awaitable[None]]] = []

    async def start(handler: Handler, token_file: Path | None = None) -> Prometheus:
        app = web.Application()
        app.add_routes([web.post("/base/api/v1/query", handler)])
        server = TestServer(app, host="127.0.0.1")
        await server.start_server(shutdown_timeout=0.1)
        address = PrometheusAddress(str(server.make_url("/base/")), TIMEOUT_S, token_file)
        prometheus = Prometheus(address, Telemetry())
        closers.extend((prometheus.close, server.close))
        return prometheus

    yield start
    for close in closers:
        await close()


async def test_a_query_goes_out_as_a_form_with_the_token_of_the_moment(
    serve: Serve, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        seen.append((str(form["query"]), request.headers["Authorization"]))
        assert form["timeout"] == "0.5"  # a number of seconds: "0.5s" is no duration of Prometheus
        return web.Response(body=answer("vector", [series("1")]))

    token = tmp_path / "token"
    token.write_text("first\n")
    prometheus = await serve(handler, token)
    assert (await prometheus.ask('up{a="b&c"}')).value == 1
    token.write_text("second")
    await prometheus.ask("up")
    assert seen == [('up{a="b&c"}', "Bearer first"), ("up", "Bearer second")]


async def test_a_token_that_is_gone_is_a_source_that_is_down(serve: Serve, tmp_path: Path) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        raise AssertionError("asked without a token")

    prometheus = await serve(handler, tmp_path / "gone")
    assert (await prometheus.ask("up")).state is SampleState.DOWN


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def redirecting(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(b"a" * (BODY_LIMIT // 8))
    return response


@pytest.mark.parametrize(
    ("handler", "state", "words"),
    [
        (hanging, SampleState.DOWN, "no answer in 0.5 s"),
        (redirecting, SampleState.DOWN, "HTTP 302"),
        (endless, SampleState.ODD, "too long"),
    ],
)
async def test_a_server_that_misbehaves_harms_nobody(
    serve: Serve, handler: Handler, state: SampleState, words: str
) -> None:
    sample = await (await serve(handler)).ask("up")
    assert sample.state is state
    assert words in sample.problem


async def test_a_server_that_is_not_there_is_down() -> None:
    telemetry = Telemetry()
    prometheus = Prometheus(PrometheusAddress("http://127.0.0.1:9", TIMEOUT_S), telemetry)
    assert (await prometheus.ask("up")).state is SampleState.DOWN
    assert telemetry.prometheus_queries.labels("down")._value.get() == 1
    await prometheus.close()


class Asked:
    """A Prometheus that answers when it is let."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, text: str) -> Sample:
        self.texts.append(text)
        await self.open.wait()
        return Sample(SampleState.READ, float(len(self.texts)))


ONE = {"written": Query("sent")}


class Looks:
    """Looks at one deployment's numbers."""

    def __init__(self, ask: Ask | None) -> None:
        self.woken = 0
        self.sampler = Sampler(ask, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    async def __call__(
        self, seconds: float, queries: Mapping[str, Query] = ONE
    ) -> Mapping[str, Sample]:
        """Look, and once more when that was too early."""
        if self.sampler.refresh(queries, seconds, 10):
            for _ in range(5):
                await asyncio.sleep(0)
            self.sampler.refresh(queries, seconds, 10)
        return self.sampler.samples(queries)


async def test_an_answer_is_kept_for_the_interval_and_then_asked_for_again() -> None:
    look = Looks(Asked())
    values = [(await look(seconds))["written"].value for seconds in (0, 5, 10)]
    assert values == [1, 1, 2]


async def test_another_target_makes_another_query_and_gets_no_answer_of_the_old_one() -> None:
    ask = Asked()
    look = Looks(ask)
    await look(0)
    ask.open.clear()
    assert await look(1, {"written": Query("sent of v3")}) == {}
    look.sampler.close()


async def test_a_look_is_put_off_for_an_answer_and_not_for_long() -> None:
    ask = Asked()
    ask.open.clear()
    look = Looks(ask)
    assert look.sampler.refresh(ONE, 0, 10)
    assert look.sampler.refresh(ONE, 0.9 * PATIENCE_S, 10)
    assert not look.sampler.refresh(ONE, PATIENCE_S, 10)
    look.sampler.close()


async def test_a_server_that_hangs_holds_no_look_up_and_its_answer_wakes_the_next() -> None:
    ask = Asked()
    ask.open.clear()
    look = Looks(ask)
    assert await look(0) == {}
    assert look.woken == 0
    ask.open.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert look.woken == 1
    assert (await look(1))["written"].value == 1
    assert ask.texts == ["sent"]


async def test_without_a_prometheus_the_number_is_missing_and_says_which_setting_is() -> None:
    sample = (await Looks(None)(0))["written"]
    assert sample.state is SampleState.EMPTY
    assert "prometheus.url" in sample.problem


async def test_a_query_that_cannot_be_sent_is_not_sent() -> None:
    ask = Asked()
    found = await Looks(ask)(0, {"written": Query("", "a problem")})
    assert found == {"written": Sample(SampleState.ODD, problem=found["written"].problem)}
    assert ask.texts == []


async def test_a_defect_of_ours_is_a_source_that_is_down() -> None:
    async def broken(_: str) -> Sample:
        raise RuntimeError

    assert (await Looks(broken)(0))["written"].state is SampleState.DOWN
