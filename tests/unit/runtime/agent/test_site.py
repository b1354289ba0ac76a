"""Downloads at a site with a cache: one line, many units, and a cache that may do its worst."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from site_cache import SiteCache, site_cache
from skerry_runtime.agent.fetch import Download, Fetcher
from skerry_runtime.agent.pace import SHUT, DownloadPace, WindowShut
from skerry_runtime.agent.refusal import AgentError, Refused
from skerry_runtime.agent.site import SiteLink
from skerry_runtime.agent.worker import Worker
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import CacheAccess, DownloadRules, RevisionContent
from skerry_runtime.tickets import TICKET_HEADER
from unit.runtime.agent.support import (
    FAST,
    Handler,
    Pod,
    Source,
    classifier,
    content,
    ranged,
    sha256,
)

BODY = random.Random(1).randbytes(1_500_000)  # the same in every process that collects tests
NAME = sha256(BODY)
TUNING = FAST.model_copy(
    update={"site_again_s": 0.02, "idle_timeout_s": 5.0, "trickle_window_s": 2.0}
)


class Unit:
    """A fetcher of one pod."""

    def __init__(self, root: Path, link: SiteLink, pace: DownloadPace | None = None) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.link = link
        self.worker = Worker(root.name)
        self.pace = pace
        self.tuning = TUNING

    async def fetch(self, uri: str, digest: str = NAME, revision: str = "") -> bytes:
        target = self.root / "model"
        fetcher = Fetcher(self.tuning, self.worker, lambda: 1 << 40, self.pace, self.link)
        try:
            await fetcher.fetch(
                Download(uri, digest, self.root / "part", target, revision=revision),
                lambda _, __: None,
            )
        finally:
            await self.worker.run(lambda: None)
        return target.read_bytes()


def access(url: str, ticket: str, sha: str = NAME) -> CacheAccess:
    return CacheAccess(sites={"here": url}, site="here", tickets={sha: ticket})


def link_to(cache: SiteCache, namespace: str = "shop", sha: str = NAME) -> SiteLink:
    link = SiteLink("unit")
    link.obey(access(cache.url, cache.ticket(sha, namespace), sha))
    return link


def slowly(body: bytes, pieces: int = 20, pause_s: float = 0.02) -> Handler:
    """Answer as a line does that takes its time."""

    async def answer(request: web.Request) -> web.StreamResponse:
        whole = ranged(request, body)
        assert isinstance(whole.body, bytes)
        response = web.StreamResponse(status=whole.status, headers=whole.headers)
        response.content_length = len(whole.body)
        await response.prepare(request)
        size = len(body) // pieces
        for start in range(0, len(whole.body), size):
            await response.write(whole.body[start : start + size])
            await asyncio.sleep(pause_s)
        return response

    return answer


async def test_many_units_take_one_file_over_the_line(tmp_path: Path, source: Source) -> None:
    uri = source.handle("model", slowly(BODY))
    async with site_cache(tmp_path / "cache") as cache:
        units = [Unit(tmp_path / f"u{n}", link_to(cache)) for n in range(8)]
        found = await asyncio.gather(*(unit.fetch(uri) for unit in units))
        assert set(found) == {BODY}
        assert len(source.requests) == 1
        del source.handlers["model"]  # the line is cut
        assert await Unit(tmp_path / "late", link_to(cache)).fetch(uri) == BODY


async def test_a_unit_whose_feed_broke_off_is_followed_by_one_who_goes_on(
    tmp_path: Path, source: Source
) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY)), "ETag": '"x"'})
        await response.prepare(request)
        await response.write(BODY[: len(BODY) // 2])
        assert request.transport is not None
        await asyncio.sleep(0.2)
        request.transport.close()
        return response

    uri = source.handle("model", half)
    async with site_cache(tmp_path / "cache") as cache:
        with pytest.raises(AgentError):
            await Unit(tmp_path / "first", link_to(cache)).fetch(uri)
        source.add("model", BODY)
        del source.handlers["model"]
        assert await Unit(tmp_path / "second", link_to(cache)).fetch(uri) == BODY
        starts = [one.http_range.start for one in source.requests]
        assert starts[0] is None
        assert starts[-1] is not None
        assert starts[-1] > len(BODY) // 3  # what was there came from the site
        assert cache.store.size_of(NAME) == len(BODY)


async def test_a_begun_download_feeds_what_it_has_on_disk(tmp_path: Path, source: Source) -> None:
    uri = source.add("model", BODY)
    async with site_cache(tmp_path / "cache") as cache:
        unit = Unit(tmp_path / "unit", link_to(cache))
        (unit.root / "part").write_bytes(BODY[:400_000])
        assert await unit.fetch(uri) == BODY
        assert source.requests[0].http_range.start == 400_000
        assert cache.store.size_of(NAME) == len(BODY)


async def test_a_source_without_ranges_or_size_is_no_obstacle(
    tmp_path: Path, source: Source
) -> None:
    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(BODY)
        return response

    uri = source.handle("model", chunked)
    async with site_cache(tmp_path / "cache") as cache:
        assert await Unit(tmp_path / "a", link_to(cache)).fetch(uri) == BODY
        assert cache.store.claims == 0


async def test_the_site_s_bytes_wait_for_no_rate(tmp_path: Path, source: Source) -> None:
    uri = source.add("model", BODY)
    async with site_cache(tmp_path / "cache") as cache:
        await cache.bring(BODY)
        waited: list[float] = []

        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        pace = DownloadPace(sleep=sleep)
        pace.obey(DownloadRules(bytes_per_s=1))
        assert await Unit(tmp_path / "a", link_to(cache), pace).fetch(uri) == BODY
        assert not waited
        assert not source.requests


def shut(revision: str = "v2") -> DownloadPace:
    pace = DownloadPace()
    pace.obey(DownloadRules(shut=(revision,)))
    return pace


async def test_what_the_site_has_waits_for_no_window(tmp_path: Path, source: Source) -> None:
    uri = source.add("model", BODY)
    async with site_cache(tmp_path / "cache") as cache:
        await cache.bring(BODY)
        unit = Unit(tmp_path / "a", link_to(cache), shut())
        assert await unit.fetch(uri, revision="v2") == BODY
        assert not source.requests


async def test_who_may_not_fetch_claims_nothing_and_stands_in_nobody_s_way(
    tmp_path: Path, source: Source
) -> None:
    uri = source.add("model", BODY)
    async with site_cache(tmp_path / "cache") as cache:
        with pytest.raises(WindowShut):
            await Unit(tmp_path / "a", link_to(cache), shut()).fetch(uri, revision="v2")
        assert cache.store.claims == 0
        assert not source.requests
        assert await Unit(tmp_path / "b", link_to(cache), shut()).fetch(uri, revision="v1") == BODY


async def break_off(cache: SiteCache, count: int) -> None:
    """Feed the cache the file's first bytes, and go."""
    claim = await cache.claim(NAME)
    head = {TICKET_HEADER: cache.ticket(NAME), "Skerry-Claim": str(claim["claim"])}
    head |= {"Host": "cache", "Content-Length": str(len(BODY))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", cache.port)
    writer.write(f"PUT /sha256/{NAME} HTTP/1.1\r\n{lines}\r\n".encode() + BODY[:count])
    writer.write_eof()
    async with asyncio.timeout(20):
        assert b" 400 " in await reader.readline()
    writer.close()


async def test_what_comes_in_meanwhile_is_read_along_and_its_rest_waits_for_the_window(
    tmp_path: Path, source: Source
) -> None:
    uri = source.add("model", BODY)
    async with site_cache(tmp_path / "cache") as cache:
        await break_off(cache, 500_000)
        pace = shut()
        unit = Unit(tmp_path / "a", link_to(cache), pace)
        with pytest.raises(WindowShut):
            await unit.fetch(uri, revision="v2")
        assert (unit.root / "part").stat().st_size == 500_000
        assert not source.requests
        pace.obey(None)
        assert await unit.fetch(uri, revision="v2") == BODY
        assert source.requests[0].http_range.start == 500_000


async def test_an_agent_that_waits_for_its_window_takes_what_others_bring_to_the_site(
    tmp_path: Path, source: Source
) -> None:
    old, new = classifier(), classifier(features=5)
    contents: dict[str, RevisionContent] = {
        "v1": content(old, source.add("old.onnx", old)),
        "v2": content(new, source.add("new.onnx", new)),
    }
    async with site_cache(tmp_path / "cache") as cache:
        tickets = {sha256(body): cache.ticket(sha256(body)) for body in (old, new)}
        told = {
            "download": DownloadRules(shut=("v2",)),
            "cache": CacheAccess(sites={"here": cache.url}, site="here", tickets=tickets),
        }
        tuning = FAST.model_copy(update={"site_shut_s": 0.05, "site_keep_s": 3600.0})
        async with Pod(tmp_path, OnnxBackend(), tuning) as one:
            one.mount.assign("v1", contents, **told)
            await one.until_serving("v1")
            one.mount.assign("v2", contents, **told)
            await one.until(lambda s: s.progress and s.progress.message == SHUT)
            await cache.bring(new)
            await one.until_serving("v2")
        assert not any(request.path == "/new.onnx" for request in source.requests)


async def test_a_volume_waits_for_no_window(tmp_path: Path) -> None:
    (tmp_path / "claims" / "models").mkdir(parents=True)
    (tmp_path / "claims" / "models" / "model").write_bytes(BODY)
    unit = Unit(tmp_path / "a", SiteLink("unit"), shut())
    unit.tuning = TUNING.model_copy(update={"claims_dir": tmp_path / "claims"})
    assert await unit.fetch("pvc://models/model", revision="v2") == BODY


@asynccontextmanager
async def wicked(handler: Handler) -> AsyncIterator[str]:
    """Run something that answers in the cache's place."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def says(state: str, get: Handler | None = None, put: Handler | None = None) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/claim"):
            return web.json_response({"state": state, "claim": "c", "at": 0})
        if request.method == "GET" and get:
            return await get(request)
        if request.method == "PUT" and put:
            return await put(request)
        return web.Response(status=404)

    return answer


async def _body(request: web.Request) -> web.StreamResponse:
    return ranged(request, b"x" * len(BODY))


async def _short(request: web.Request) -> web.StreamResponse:
    return ranged(request, BODY[:1000])


async def _nothing(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
    await response.prepare(request)
    assert request.transport is not None
    request.transport.close()
    return response


async def _drips(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
    await response.prepare(request)
    for _ in range(10_000):
        await response.write(b"x")
        await asyncio.sleep(0.05)
    return response


async def _redirect(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


async def _never(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def _refuse(_: web.Request) -> web.StreamResponse:
    return web.Response(status=507)


async def _rubbish(_: web.Request) -> web.StreamResponse:
    return web.Response(body=os.urandom(2000))


async def _odd(_: web.Request) -> web.StreamResponse:
    return web.Response(status=206, headers={"Content-Range": "bytes 7-8/9"}, body=b"ab")


WICKED: dict[str, Handler] = {
    "gives another file": says("here", _body),
    "gives a short file": says("here", _short),
    "promises and gives nothing": says("here", _nothing),
    "promises and has nothing": says("follow"),
    "gives another range": says("here", _odd),
    "drips": says("here", _drips),
    "redirects": says("here", _redirect),
    "answers rubbish": _rubbish,
    "refuses everything": _refuse,
    "says what nobody knows": says("dance"),
    "takes no feed": says("fetch", put=_refuse),
    "takes nothing of a feed": says("fetch", put=_never),
    "lets wait for ever": says("wait"),
}


@pytest.mark.parametrize("what", WICKED)
async def test_whatever_the_cache_does_the_file_comes_from_the_source(
    tmp_path: Path, source: Source, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skerry_runtime.agent.sitesource.STALL_S", 0.5)
    uri = source.add("model", BODY)
    async with wicked(WICKED[what]) as url:
        link = SiteLink("unit")
        link.obey(access(url, "shop.x"))
        unit = Unit(tmp_path / "unit", link)
        unit.tuning = TUNING.model_copy(update={"site_wait_s": 0.3, "trickle_window_s": 2.0})
        async with asyncio.timeout(60):
            for _ in range(3):  # a try that began with the cache's rubbish may have to be repeated
                try:
                    assert await unit.fetch(uri) == BODY
                    break
                except AgentError as err:
                    assert not isinstance(err, Refused)  # noqa: PT017 (it may be either)
            else:
                pytest.fail("the file did not come")


async def test_after_one_wrong_file_the_cache_is_not_asked_for_it_again(
    tmp_path: Path, source: Source
) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path.rpartition('/')[2]}")
        return await says("here", _body)(request)

    uri = source.add("model", BODY)
    async with wicked(answer) as url:
        link = SiteLink("unit")
        link.obey(access(url, "shop.x"))
        unit = Unit(tmp_path / "unit", link)
        assert await unit.fetch(uri) == BODY
        assert "POST doubt" in asked
        asked.clear()
        (unit.root / "model").unlink()
        assert await unit.fetch(uri) == BODY
        assert not asked


async def test_a_cache_that_is_not_there_costs_little(tmp_path: Path, source: Source) -> None:
    uri = source.add("model", BODY)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    link = SiteLink("unit")
    link.obey(access(f"http://127.0.0.1:{port}", "shop.x"))
    async with asyncio.timeout(20):
        assert await Unit(tmp_path / "unit", link).fetch(uri) == BODY


async def test_a_source_that_refuses_gives_the_claim_back(tmp_path: Path, source: Source) -> None:
    async with site_cache(tmp_path / "cache") as cache:
        with pytest.raises(Refused):
            await Unit(tmp_path / "unit", link_to(cache)).fetch(f"{source.url}/none")
        assert cache.store.claims == 0


@pytest.mark.parametrize(
    "told",
    [
        None,
        CacheAccess(),
        CacheAccess(sites={"a": "https://10.0.0.1:8443"}, tickets={NAME: "t"}),
        CacheAccess(sites={"a": "https://10.0.0.1:8443"}, site="b", tickets={NAME: "t"}),
        CacheAccess(sites={"a": "https://10.0.0.1:8443"}, site="a"),
    ],
)
def test_without_a_word_of_the_operator_no_cache_is_asked(told: CacheAccess | None) -> None:
    link = SiteLink("unit")
    link.obey(told)
    assert link.file(NAME) is None


def test_a_unit_of_another_site_than_most_asks_its_own() -> None:
    told = CacheAccess(
        sites={"a": "https://10.0.0.1:8443", "b": "https://10.0.0.2:8443"},
        site="a",
        units={"unit": "b"},
        tickets={NAME: "t"},
    )
    for unit, url in (("unit", "https://10.0.0.2:8443"), ("other", "https://10.0.0.1:8443")):
        link = SiteLink(unit)
        link.obey(told)
        found = link.file(NAME)
        assert found is not None
        assert found.url == url
