"""The cache as clients know it: files by their hash, one asker who fetches, others who follow."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from site_cache import SiteCache, read_answer, sha256_of, site_cache
from skerry_runtime.cache import disk
from skerry_runtime.tickets import TICKET_HEADER

BODY = random.Random(1).randbytes(300_000)  # the same in every process that collects tests
NAME = sha256_of(BODY)


async def feeding(
    cache: SiteCache, claim: object, sent: bytes, total: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin to feed, and leave the connection open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cache.port)
    head = (
        f"PUT /sha256/{NAME} HTTP/1.1\r\n{TICKET_HEADER}: {cache.ticket(NAME)}\r\n"
        f"Skerry-Claim: {claim}\r\nContent-Length: {total}\r\n\r\n"
    )
    writer.write(head.encode() + sent)
    await writer.drain()
    return reader, writer


async def until(look: Callable[[], object], what: str) -> None:
    del what
    async with asyncio.timeout(20):
        while not look():  # noqa: ASYNC110 (what it looks at has no event)
            await asyncio.sleep(0.01)


def open_below(folder: Path) -> list[Path]:
    """Return the files in a folder that this process has open."""
    found = [one.resolve() for one in Path("/proc/self/fd").iterdir()]
    return [one for one in found if one.is_relative_to(folder)]


def begun_bytes(cache: SiteCache) -> int:
    begun = cache.store.ledger.begun.get(("shop", NAME))
    return begun.size if begun else 0


async def test_a_file_is_brought_once_and_read_by_all(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        assert (await cache.get(NAME)).status == 404
        await cache.bring(BODY)
        told = await cache.get(NAME)
        assert (told.status, told.body) == (200, BODY)
        assert told.headers["etag"] == f'"{NAME}"'
        assert (await cache.claim(NAME))["state"] == "here"
        head = await cache.ask("HEAD", f"/sha256/{NAME}")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(BODY))


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-", 206, BODY),
        ("bytes=100-", 206, BODY[100:]),
        ("bytes=100-199", 206, BODY[100:200]),
        (f"bytes={len(BODY) - 1}-", 206, BODY[-1:]),
        ("bytes=5-99999999", 206, BODY[5:]),
        (f"bytes={len(BODY)}-", 416, None),
        ("bytes=9-3", 416, None),
        ("bytes=-5", 200, BODY),
        ("bytes=0-1,4-5", 200, BODY),
        ("lines=0-1", 200, BODY),
        ("bytes=" + "9" * 400 + "-", 200, BODY),
    ],
)
async def test_ranges(tmp_path: Path, asked: str, status: int, part: bytes | None) -> None:
    async with site_cache(tmp_path) as cache:
        await cache.bring(BODY)
        told = await cache.get(NAME, Range=asked)
        assert told.status == status
        if part is not None:
            assert told.body == part
        else:
            assert told.headers["content-range"] == f"bytes */{len(BODY)}"


async def test_one_fetches_and_the_others_read_while_it_comes(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        assert claim["state"] == "fetch"
        assert (await cache.claim(NAME))["state"] == "follow"
        follower = asyncio.create_task(cache.get(NAME, "shop"))
        _, feeder = await feeding(cache, claim["claim"], BODY[:200_000], len(BODY))
        late = asyncio.create_task(cache.get(NAME, "shop", Range="bytes=1000-"))
        await until(lambda: begun_bytes(cache) >= 200_000, "half")
        feeder.write(BODY[200_000:])
        assert (await follower).body == BODY
        assert (await late).body == BODY[1000:]
        feeder.close()


async def test_another_namespace_neither_reads_nor_continues_what_is_not_proved(
    tmp_path: Path,
) -> None:
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        _, feeder = await feeding(cache, claim["claim"], BODY[:1000], len(BODY))
        await until(lambda: ("shop", NAME) in cache.store.ledger.begun, "begun")
        assert (await cache.get(NAME, "other")).status == 404
        waiting = asyncio.create_task(cache.claim(NAME, "other"))
        feeder.write(BODY[1000:])
        assert (await waiting)["state"] == "here"
        assert (await cache.get(NAME, "other")).body == BODY
        feeder.close()


async def test_what_was_begun_is_read_and_continued_by_the_next(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        _, feeder = await feeding(cache, claim["claim"], BODY[:200_000], len(BODY))
        await until(lambda: begun_bytes(cache) >= 200_000, "half")
        feeder.close()
        await until(lambda: not cache.store.claims, "the claim ends with its connection")
        assert (await cache.claim(NAME))["state"] == "follow"
        told = await cache.get(NAME, "shop")
        assert told.body == BODY[: len(told.body)]
        assert len(told.body) == 200_000
        assert told.headers["content-length"] == str(len(BODY))
        claim = await cache.claim(NAME, at=200_000)
        assert (claim["state"], claim["at"]) == ("fetch", 200_000)
        rest = BODY[200_000:]
        place = f"bytes 200000-{len(BODY) - 1}/{len(BODY)}"
        assert (await cache.put(NAME, rest, claim["claim"], Content_Range=place)).status == 201
        assert (await cache.get(NAME)).body == BODY


async def test_a_gap_is_refused(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        place = f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"
        told = await cache.put(NAME, BODY[1000:], claim["claim"], Content_Range=place)
        assert told.status in (0, 409)  # 0: the answer was lost with the bytes that nobody read
        assert not cache.store.ledger.begun


async def test_bytes_of_another_hash_are_dropped_and_followers_get_no_whole_file(
    tmp_path: Path,
) -> None:
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        follower = asyncio.create_task(cache.get(NAME, "shop"))
        told = await cache.put(NAME, b"x" * len(BODY), claim["claim"])
        assert told.status == 422
        assert len((await follower).body) < len(BODY)
        assert (await cache.get(NAME)).status == 404
        assert not cache.store.ledger.begun
        assert not [one for one in (tmp_path / "data").rglob("*") if one.is_file()]
        assert (await cache.claim(NAME))["state"] == "fetch"


async def test_a_claim_that_is_not_fed_or_too_slow_passes_on(tmp_path: Path) -> None:
    async with site_cache(tmp_path, window_bytes=1000) as cache:
        await cache.claim(NAME)
        follower = asyncio.create_task(cache.get(NAME, "shop"))
        cache.pass_time(61)
        assert (await follower).status == 404  # it asks again
        claim = await cache.claim(NAME)
        assert claim["state"] == "fetch"
        reader, feeder = await feeding(cache, claim["claim"], BODY[:10], len(BODY))
        await until(lambda: ("shop", NAME) in cache.store.ledger.begun, "begun")
        cache.pass_time(61)
        async with asyncio.timeout(20):
            assert b"201" not in await reader.read()
        feeder.close()
        assert (await cache.claim(NAME, at=10))["state"] == "fetch"


async def test_a_claim_may_be_given_back(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        path, ticket = f"/sha256/{NAME}/claim", {TICKET_HEADER: cache.ticket(NAME)}
        assert (await cache.ask("DELETE", path, ticket)).status == 409
        mine = {**ticket, "Skerry-Claim": str(claim["claim"])}
        assert (await cache.ask("DELETE", path, mine)).status == 200
        assert (await cache.claim(NAME, "other"))["state"] == "fetch"


async def test_a_restart_keeps_files_pins_and_begun_ones(tmp_path: Path) -> None:
    other = os.urandom(5000)
    async with site_cache(tmp_path) as cache:
        await cache.bring(other)
        assert (await cache.pin(sha256_of(other))).status == 200
        claim = await cache.claim(NAME)
        _, feeder = await feeding(cache, claim["claim"], BODY[:150_000], len(BODY))
        await until(lambda: begun_bytes(cache) >= 150_000, "half")
        feeder.close()
        await until(lambda: not cache.store.claims, "the claim ends")
    async with site_cache(tmp_path, cache.key) as cache:
        assert (await cache.get(sha256_of(other))).body == other
        assert cache.store.ledger.is_pinned(sha256_of(other))
        assert (await cache.claim(NAME))["state"] == "follow"
        claim = await cache.claim(NAME, at=150_000)
        assert (claim["state"], claim["at"]) == ("fetch", 150_000)


async def test_a_begun_file_without_its_book_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "data/begun").mkdir(parents=True)
    (tmp_path / f"data/begun/shop.{NAME}").write_bytes(BODY[:100])
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        assert (claim["state"], claim["at"]) == ("fetch", 0)


async def test_a_damaged_file_is_dropped_when_somebody_doubts_it(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        await cache.bring(BODY)
        path, ticket = f"/sha256/{NAME}/doubt", {TICKET_HEADER: cache.ticket(NAME)}
        assert (await cache.ask("POST", path, ticket)).status == 200
        file = tmp_path / "data/whole" / NAME
        file.write_bytes(b"!" + BODY[1:])
        assert (await cache.ask("POST", path, ticket)).status == 200  # it was read a moment ago
        cache.pass_time(61)
        assert (await cache.ask("POST", path, ticket)).status == 404
        assert (await cache.get(NAME)).status == 404
        assert not file.exists()


async def test_a_full_volume_is_told_and_costs_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site_cache(tmp_path) as cache:
        kept = await cache.bring(b"kept" * 100)
        monkeypatch.setattr("skerry_runtime.cache.disk.Disk.free_bytes", lambda _: 1000)
        claim = await cache.claim(NAME)
        told = await cache.put(NAME, BODY, claim["claim"])
        assert told.status in (0, 507)
        assert (await cache.get(kept)).status == 200
        assert not cache.store.ledger.begun


async def test_health_and_figures(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        await cache.bring(BODY)
        assert (await cache.ask("GET", "/healthz")).status == 200
        told = await cache.ask("GET", "/metrics")
        assert f"skerry_cache_bytes {len(BODY)}\n".encode() in told.body


def test_an_answer_without_a_head_is_none() -> None:
    assert read_answer(b"").status == 0


async def test_a_claim_that_is_lost_while_its_file_is_opened_leaves_none_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, closed = threading.Event(), threading.Event()
    usual = disk.Growing.__init__

    def slowly(self: disk.Growing, *of: object) -> None:
        usual(self, *of)  # type: ignore[arg-type] # as it is called
        opened.set()
        closed.wait(20)

    monkeypatch.setattr(disk.Growing, "__init__", slowly)
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        reader, feeder = await feeding(cache, claim["claim"], BODY[:10], len(BODY))
        await until(opened.is_set, "the file is being opened")
        cache.pass_time(61)
        cache.pass_time(61)
        closed.set()
        async with asyncio.timeout(20):
            await reader.read()
        feeder.close()
        monkeypatch.setattr(disk.Growing, "__init__", usual)
        await cache.bring(BODY)  # and who comes next is not kept waiting
    assert not open_below(tmp_path)
