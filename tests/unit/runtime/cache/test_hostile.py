"""Who may reach the cache and means it ill."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from site_cache import sha256_of, site_cache
from skerry_runtime.tickets import TICKET_HEADER, BadTicket, Ticket

BODY = random.Random(1).randbytes(100_000)  # the same in every process that collects tests
NAME = sha256_of(BODY)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/sha256",
        "/sha256/",
        "/sha256/../../../etc/passwd",
        f"/sha256/..%2f{NAME}",
        f"/sha256/{NAME}/",
        f"/sha256/{NAME}/../{NAME}",
        f"/sha256/{NAME.upper()}",
        f"/sha256/{NAME}0",
        f"/sha256/{NAME[:-1]}",
        f"//sha256/{NAME}",
        f"/whole/{NAME}",
        "/book.json",
        f"/sha256/{NAME}/claim/more",
    ],
)
async def test_only_hashes_lead_to_files(tmp_path: Path, path: str) -> None:
    async with site_cache(tmp_path) as cache:
        await cache.bring(BODY)
        for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
            told = await cache.ask(method, path, {TICKET_HEADER: cache.ticket(NAME)})
            assert told.status in (404, 405), method


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop",
        "shop.",
        "shop.AAAA",
        "../x." + "A" * 86,
        "Shop." + "A" * 86,
        "shop." + "A" * 86,
        "shop." + "?" * 86,
        "a" * 64 + "." + "A" * 86,
        "shop." + "A" * 4000,
    ],
)
async def test_nobody_puts_claims_or_pins_without_the_operators_word(
    tmp_path: Path, text: str
) -> None:
    async with site_cache(tmp_path) as cache:
        for method, path in (
            ("PUT", ""),
            ("POST", "/claim"),
            ("POST", "/pin"),
            ("POST", "/doubt"),
            ("DELETE", "/claim"),
        ):
            told = await cache.ask(
                method, f"/sha256/{NAME}{path}", {TICKET_HEADER: text, "Content-Length": "0"}
            )
            assert told.status == 403, (method, path)
        told = await cache.ask("POST", f"/sha256/{NAME}/claim")
        assert told.status == 403
    with pytest.raises(BadTicket):
        Ticket.parse(text if len(text) != 91 else "")


async def test_a_ticket_is_for_one_namespace_and_one_file(tmp_path: Path) -> None:
    async with site_cache(tmp_path) as cache:
        other = cache.ticket("0" * 64)
        foreign = "other." + cache.ticket(NAME).partition(".")[2]
        for ticket in (other, foreign):
            told = await cache.ask("POST", f"/sha256/{NAME}/claim", {TICKET_HEADER: ticket})
            assert told.status == 403


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nBad Name: a\r\n\r\n", 400),
        (b"GET /" + b"a" * 600 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 200_000, 431),
        (b"GET /healthz HTTP/1.1\nHost: a\n\n", 0),
    ],
)
async def test_what_is_no_request_is_refused(tmp_path: Path, data: bytes, status: int) -> None:
    async with site_cache(tmp_path, head_s=1.0) as cache:
        answer = await cache.raw(data)
        if status and answer:  # a reset may take the answer with it
            assert f"HTTP/1.1 {status} ".encode() in answer
        assert (await cache.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Transfer-Encoding": "chunked"},
        {"Content-Length": "-1"},
        {"Content-Length": "1e9"},
        {"Content-Length": "9" * 400},
        {"Content-Length": "10", "Content-Range": "bytes 0-5/10"},
        {"Content-Length": "10", "Content-Range": "bytes 5-14/1000"},
        {"Content-Length": "10", "Content-Range": "bytes */10"},
        {"Content-Length": "10", "Content-Range": "bytes 9-0/10"},
    ],
)
async def test_a_body_that_says_two_things_is_refused(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with site_cache(tmp_path) as cache:
        claim = await cache.claim(NAME)
        told = await cache.ask(
            "PUT",
            f"/sha256/{NAME}",
            {TICKET_HEADER: cache.ticket(NAME), "Skerry-Claim": str(claim["claim"]), **headers},
        )
        assert told.status in (400, 411)


async def test_garbage_of_any_kind_leaves_it_alive(tmp_path: Path) -> None:
    dice = random.Random(11)
    good = f"POST /sha256/{NAME}/claim?at=0 HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\n\r\n".encode()
    async with site_cache(tmp_path, head_s=0.05) as cache:
        for _ in range(60):
            data = bytearray(good)
            for _ in range(dice.randrange(1, 8)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            await cache.raw(bytes(data[: dice.randrange(1, len(data) + 1)]))
        assert (await cache.ask("GET", "/healthz")).status == 200


async def test_a_head_that_drips_in_ends(tmp_path: Path) -> None:
    async with site_cache(tmp_path, head_s=0.3) as cache:
        reader, writer = await asyncio.open_connection("127.0.0.1", cache.port)
        writer.write(b"GET /healthz HT")
        async with asyncio.timeout(20):
            assert b"408" in await reader.read()
        writer.close()


async def test_one_address_gets_no_more_connections_than_it_may(tmp_path: Path) -> None:
    async with site_cache(tmp_path, max_connections_each=5) as cache:
        held = [await asyncio.open_connection("127.0.0.1", cache.port) for _ in range(5)]
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", cache.port)
            with pytest.raises((ConnectionError, AssertionError)):
                assert await reader.read()
            writer.close()
            for _, one in held:
                one.close()
            while (await cache.ask("GET", "/healthz")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_who_reads_nothing_is_ended(tmp_path: Path) -> None:
    body = os.urandom(40_000_000)
    async with site_cache(tmp_path, stall_s=0.5) as cache:
        name = await cache.bring(body)
        _, writer = await asyncio.open_connection("127.0.0.1", cache.port, limit=1024)
        writer.write(f"GET /sha256/{name} HTTP/1.1\r\n\r\n".encode())
        async with asyncio.timeout(20):
            while b"connections 1\n" not in (await cache.ask("GET", "/metrics")).body:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        writer.close()


async def test_one_tenant_who_does_all_it_may_takes_nothing_from_another(tmp_path: Path) -> None:
    """It claims, drips, puts rubbish, and pins all that it may."""
    async with site_cache(
        tmp_path, size="1Mi", quota="512Ki", window_bytes=10_000, turn_s=60.0
    ) as cache:
        mine = await cache.bring(BODY, "victim")
        assert (await cache.pin(mine, "victim")).status == 200
        for _ in range(12):
            junk = os.urandom(90_000)
            claim = await cache.claim(sha256_of(junk), "greedy")
            await cache.put(sha256_of(junk), junk, claim.get("claim"), "greedy")
            await cache.pin(sha256_of(junk), "greedy")
        assert (await cache.pin("0" * 64, "greedy")).status == 404
        assert cache.store.ledger.pinned_bytes("greedy") <= 512 * 1024
        assert (await cache.get(mine)).body == BODY
        rubbish = os.urandom(1000)
        claim = await cache.claim(sha256_of(rubbish), "greedy")
        if claim["state"] == "fetch":
            told = await cache.put(sha256_of(rubbish), b"r" * 1000, claim["claim"], "greedy")
            assert told.status == 422

        news = os.urandom(50_000)
        await cache.claim("1" * 64, "greedy")
        waits = asyncio.create_task(cache.claim(sha256_of(news), "victim"))
        while not waits.done():
            cache.pass_time(5)
            await asyncio.sleep(0)
        found = await waits
        if found["state"] == "wait":
            found = await cache.claim(sha256_of(news), "victim")
        assert found["state"] == "fetch"
        told = await cache.put(sha256_of(news), news, found["claim"], "victim")
        assert told.status == 201
