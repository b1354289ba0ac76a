"""Where models may come from, and what a status tells of the network around a pod."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import ValidationError

from skerry_runtime.agent.addresses import MAX_ALLOWED, as_networks, forbidden_kind
from skerry_runtime.agent.fetch import Download, Fetcher
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import AgentError, Refused, Transient
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import FailureReason
from unit.runtime.agent.support import FAST, LOOPBACK, Source, sha256

BODY = b"a model"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("100.100.100.200", "cloud metadata"),
        ("168.63.129.16", "cloud metadata"),
        ("fd00:ec2::254", "cloud metadata"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("192.0.0.192", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("::127.0.0.1", "loopback"),
        ("::ffff:0:169.254.169.254", "link-local"),
        ("64:ff9b::169.254.169.254", "link-local"),
        ("64:ff9b:1::169.254.169.254", "link-local"),
        ("64:ff9b:1:a9fe:a9:fe00::", "link-local"),
        ("2002:7f00:1::1", "loopback"),
        ("2002:a9fe:a9fe::", "link-local"),
        ("2001:0:7f00:1::", "loopback"),
        ("2001:0:808:808:0:0:80ff:fffe", "loopback"),
        ("2001:db8::5efe:127.0.0.1", "loopback"),
        ("fd00::200:5efe:127.0.0.1", "loopback"),
    ],
)
def test_what_only_the_pod_or_its_node_may_ask_is_out_of_bounds(address: str, kind: str) -> None:
    assert forbidden_kind(ip_address(address)) == kind


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "8.8.8.8", "fd00::1", "fc00::1",
     "2001:4860::8888", "::ffff:10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::10.0.0.1",
     "64:ff9b:1:a00:0:100::", "2002:0a00:0001::1"],
)  # fmt: skip
def test_where_model_servers_live_is_in_bounds(address: str) -> None:
    assert forbidden_kind(ip_address(address)) is None


@pytest.mark.parametrize(
    ("allowed", "address"),
    [("127.0.0.0/8", "127.0.0.1"), ("127.0.0.1/32", "::ffff:127.0.0.1"),
     ("fe80::/10", "fe80::1"), ("64:ff9b::/96", "64:ff9b::169.254.169.254")],
)  # fmt: skip
def test_an_operator_may_allow_more(allowed: str, address: str) -> None:
    assert forbidden_kind(ip_address(address), [ip_network(allowed)]) is None


def test_an_allowed_network_allows_no_other() -> None:
    assert forbidden_kind(ip_address("127.0.0.2"), [ip_network("127.0.0.1/32")]) == "loopback"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "host bits set: write networks such as"),
        ("model.example", "write networks such as"),
        (",".join(["10.0.0.0/8"] * (MAX_ALLOWED + 1)), f"at most {MAX_ALLOWED}"),
    ],
)
def test_a_list_of_networks_that_is_none_is_refused_with_the_remedy(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        Tuning.from_env({"SKERRY_FETCH_ALLOW": text})
    assert caught.value.errors()[0]["loc"] == ("fetch_allow",)


def test_a_list_of_networks_comes_from_the_environment() -> None:
    tuning = Tuning.from_env({"SKERRY_FETCH_ALLOW": " 127.0.0.0/8, fe80::/10,"})
    assert tuning.fetch_allow == (ip_network("127.0.0.0/8"), ip_network("fe80::/10"))
    assert as_networks(tuning.fetch_allow) == tuning.fetch_allow


# Fetches

Fetch = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def fetch(tmp_path: Path) -> AsyncIterator[Fetch]:
    """Fetches with loopback out of bounds, and returns what a status would tell."""
    worker = Worker("test")

    async def told(uri: str, allow: object = (), kind: type[AgentError] = Refused) -> str:
        more = {"fetch_allow": allow, "connect_timeout_s": 2.0, "idle_timeout_s": 2.0}
        fetcher = Fetcher(FAST.model_copy(update=more), worker, lambda: 1 << 40)
        download = Download(uri, sha256(BODY), tmp_path / "part", tmp_path / "model")
        with pytest.raises(kind) as caught:
            await fetcher.fetch(download, lambda *_: None)
        assert getattr(caught.value, "reason", None) is FailureReason.FETCH_FAILED
        return str(caught.value)

    yield told
    worker.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "0",
                                  "2130706433", "0x7f.1", "127.1"])  # fmt: skip
async def test_nothing_of_the_pod_itself_is_fetched_whatever_it_is_called(
    fetch: Fetch, source: Source, host: str
) -> None:
    text = await fetch(source.add("model", BODY).replace("127.0.0.1", host), kind=AgentError)
    assert not source.requests
    if "address" in text:  # some of these names no resolver takes
        assert "fetch.allowCIDRs" in text or "could not be reached" in text


async def test_the_refusal_names_the_host_the_class_and_the_remedy(
    fetch: Fetch, source: Source
) -> None:
    text = await fetch(source.add("model", BODY).replace("127.0.0.1", "localhost"))
    assert "localhost" in text
    assert "loopback address" in text
    assert "fetch.allowCIDRs" in text


async def test_a_redirect_leads_to_no_place_out_of_bounds(fetch: Fetch, source: Source) -> None:
    """The first server is allowed, what it names is not; and where it leads is not told."""

    async def away(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://127.9.9.9/secret-path"})

    text = await fetch(source.handle("model", away), [ip_network("127.0.0.1/32")])
    assert "loopback address" in text
    assert "secret-path" not in text
    assert "127.9.9.9" not in text


async def test_a_name_that_changes_between_two_questions_opens_no_door(
    fetch: Fetch, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer of the name server is harmless, all others are the pod itself."""
    asked = 0

    async def rebind(self: object, host: str, port: int, *_: object, **__: object) -> object:
        nonlocal asked
        asked += 1
        address = "192.0.2.1" if asked == 1 else "127.0.0.1"
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET,
                 "proto": 0, "flags": 0}]  # fmt: skip

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", rebind)
    monkeypatch.setattr("aiohttp.resolver.DefaultResolver.resolve", rebind)
    port = source.url.rpartition(":")[2]
    for _ in range(3):
        await fetch(f"http://models.example:{port}/model", kind=AgentError)
    assert asked >= 2
    assert not source.requests


async def test_a_model_server_that_is_allowed_is_asked(fetch: Fetch, source: Source) -> None:
    text = await fetch(f"{source.url}/nothing", LOOPBACK)
    assert "HTTP 404" in text


@asynccontextmanager
async def answering(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    under_way: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            under_way.add(task)
        try:
            await answer(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    # else a connection that ends after its loop is a warning in whatever test comes next
    await asyncio.gather(*under_way, return_exceptions=True)


async def test_a_status_does_not_tell_what_is_behind_a_port(
    fetch: Fetch, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """Closed, closing, resetting, silent, speaking something else, dripping: one text."""
    over = asyncio.Event()

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not over.is_set():
            writer.write(b"y")
            await asyncio.sleep(0.01)
        writer.close()

    texts = set()

    async def note(uri: str, port: int) -> None:
        text = await fetch(uri, LOOPBACK, Transient)
        texts.add(text.replace(str(port), "PORT").replace("https", "http"))

    closed = unused_tcp_port_factory()
    await note(f"http://127.0.0.1:{closed}/model", closed)
    for answer in (close, reset, silence, other, drip):
        async with answering(answer) as port:
            await note(f"http://127.0.0.1:{port}/model", port)
            if answer is other:
                await note(f"https://127.0.0.1:{port}/model", port)
            over.set()
        over.clear()
    (text,) = texts
    assert "could not be reached" in text
