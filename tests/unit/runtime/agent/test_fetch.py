"""Downloads against servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from skerry_runtime.agent import part
from skerry_runtime.agent.fetch import Download, Fetcher
from skerry_runtime.agent.part import Part
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.urls import next_place, shown
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import FailureReason
from unit.runtime.agent.support import FAST, Handler, Source, ranged, sha256

BODY = bytes(range(256)) * 8192  # 2 MiB
TUNING = FAST.model_copy(update={"connect_timeout_s": 2.0, "idle_timeout_s": 30.0})


@dataclass
class Bench:
    """A fetcher and the place that it fetches to."""

    root: Path
    worker: Worker
    free: int = 1 << 40

    @property
    def target(self) -> Path:
        return self.root / "blobs" / "model.onnx"

    @property
    def part(self) -> Path:
        return self.root / "part"

    async def kept(self) -> int:
        """Size of the begun file, once the thread that closes it has done so; 0 without one."""
        is_there = await self.worker.run(self.part.exists)
        return self.part.stat().st_size if is_there else 0

    async def fetch(
        self, uri: str, digest: str = sha256(BODY), reserve: int = 0, **tuned: object
    ) -> list[int]:
        seen: list[int] = []
        tuning = TUNING.model_copy(update={"disk_reserve_bytes": reserve, **tuned})
        fetcher = Fetcher(tuning, self.worker, lambda: self.free)
        download = Download(uri, digest, self.part, self.target)
        await fetcher.fetch(download, lambda got, _: seen.append(got))
        assert self.target.read_bytes() == BODY
        assert not self.part.exists()
        return seen


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    worker = Worker("test")
    yield Bench(tmp_path, worker)
    worker.close()


def answers(*handlers: Handler) -> Handler:
    """Answer each request with the next handler; the last one stays."""
    left = list(handlers)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if len(left) > 1 else left[0])(request)

    return answer


def status(code: int, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, headers=headers)

    return answer


async def whole(request: web.Request) -> web.Response:
    return ranged(request, BODY)


async def no_ranges(_: web.Request) -> web.Response:
    return web.Response(body=BODY)


async def cut(request: web.Request) -> web.StreamResponse:
    """Send the first half of what was asked for, then hang up."""
    full = ranged(request, BODY)
    body = full.body
    assert isinstance(body, bytes)
    headers = {**full.headers, "Content-Length": str(len(body))}
    response = web.StreamResponse(status=full.status, headers=headers)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport
    request.transport.close()
    return response


async def hang(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
    await response.prepare(request)
    await response.write(BODY[:1000])
    await asyncio.sleep(60)
    return response


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(BODY)
    return response


async def test_a_file_lands_and_its_bytes_are_counted(bench: Bench, source: Source) -> None:
    seen = await bench.fetch(source.add("model", BODY))
    assert seen[0] == 0
    assert seen[-1] == len(BODY)
    assert seen == sorted(seen)


async def test_a_body_without_a_length_lands(bench: Bench, source: Source) -> None:
    await bench.fetch(source.handle("model", chunked))


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
async def test_a_clients_error_is_definitive(bench: Bench, source: Source, code: int) -> None:
    with pytest.raises(Refused, match=f"HTTP {code}") as caught:
        await bench.fetch(source.handle("model", status(code)))
    assert caught.value.reason is FailureReason.FETCH_FAILED


@pytest.mark.parametrize("code", [204, 304, 408, 425, 429, 500, 502, 503])
async def test_other_answers_pass(bench: Bench, source: Source, code: int) -> None:
    uri = source.handle("model", answers(status(code), whole))
    with pytest.raises(Transient, match=f"HTTP {code}"):
        await bench.fetch(uri)
    await bench.fetch(uri)


async def test_a_server_that_is_not_there_passes(
    bench: Bench, unused_tcp_port_factory: Callable[[], int]
) -> None:
    with pytest.raises(Transient, match="could not be reached"):
        await bench.fetch(f"http://127.0.0.1:{unused_tcp_port_factory()}/model")


async def test_a_hanging_server_is_left_and_the_bytes_are_kept(
    bench: Bench, source: Source
) -> None:
    uri = source.handle("model", answers(hang, no_ranges))
    with pytest.raises(Transient, match="no answer in time"):
        await bench.fetch(uri, idle_timeout_s=2.0)
    assert await bench.kept() == 1000
    await bench.fetch(uri)


async def test_a_download_that_ends_while_its_file_is_opened_leaves_none_open(
    bench: Bench, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, is_opening, may_open = source.handle("model", whole), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(path: Path) -> None:
        loop.call_soon_threadsafe(is_opening.set)
        assert may_open.wait(60)

    monkeypatch.setattr(part, "clear_unless_plain", wait)
    fetching = asyncio.create_task(bench.fetch(uri))
    await is_opening.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    may_open.set()
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        assert await bench.kept() == 0
        gc.collect()
    assert [str(complaint.message) for complaint in complaints] == []


async def test_a_download_that_broke_off_is_resumed(bench: Bench, source: Source) -> None:
    uri = source.handle("model", answers(cut, whole))
    with pytest.raises(Transient, match="in the middle of the file"):
        await bench.fetch(uri)
    kept = await bench.kept()
    assert kept > 0
    seen = await bench.fetch(uri)
    assert seen[0] == kept
    assert source.requests[-1].headers["Range"] == f"bytes={kept}-"
    assert source.requests[-1].headers["If-Range"]


async def test_a_file_that_changed_meanwhile_is_fetched_whole(bench: Bench, source: Source) -> None:
    async def changed(request: web.Request) -> web.Response:
        return ranged(request, BODY, etag='"new"')

    uri = source.handle("model", answers(cut, changed))
    with pytest.raises(Transient):
        await bench.fetch(uri)
    assert (await bench.fetch(uri))[0] == 0


async def test_damaged_bytes_of_an_earlier_try_are_fetched_again(
    bench: Bench, source: Source
) -> None:
    bench.part.write_bytes(b"?" * 1000)
    await bench.fetch(source.add("model", BODY))
    assert len(source.requests) == 2


async def test_a_complete_begun_file_is_taken(bench: Bench, source: Source) -> None:
    bench.part.write_bytes(BODY)
    await bench.fetch(source.add("model", BODY))
    assert len(source.requests) == 1


@pytest.mark.parametrize(
    "oddity",
    [
        status(416),
        status(416, **{"Content-Range": "bytes */7"}),
        status(304),
        status(206),
        status(206, **{"Content-Range": "bytes 0-9/10"}),
        no_ranges,
    ],
)
async def test_a_server_that_cannot_resume_is_asked_for_the_whole_file(
    bench: Bench, source: Source, oddity: Handler
) -> None:
    bench.part.write_bytes(BODY[:1000])
    await bench.fetch(source.handle("model", answers(oddity, whole)))
    assert "Range" not in source.requests[-1].headers or oddity is no_ranges


async def test_other_bytes_than_the_spec_names_are_refused(
    bench: Bench, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Refused, match="has another sha256") as caught:
        await bench.fetch(source.add("model", BODY[:-1]))
    assert sha256(BODY) in str(caught.value)
    assert sha256(BODY[:-1]) not in str(caught.value), "what a foreign address answers is not told"
    assert sha256(BODY[:-1]) in caplog.text
    assert caught.value.reason is FailureReason.DIGEST_MISMATCH
    assert len(source.requests) == 1
    assert not bench.target.exists()


async def test_redirects_are_followed(bench: Bench, source: Source) -> None:
    source.add("model", BODY)
    await bench.fetch(source.handle("moved", status(302, Location="/model")))


async def test_a_circle_of_redirects_is_refused(bench: Bench, source: Source) -> None:
    with pytest.raises(Refused, match="more than 5 redirects"):
        await bench.fetch(source.handle("model", status(302, Location="/model")))
    assert len(source.requests) == 6


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "gs://bucket/model", "ftp://host/x", "//host/x", "http://", ""]
)
async def test_other_schemes_are_refused(bench: Bench, uri: str) -> None:
    with pytest.raises(Refused, match="this runtime fetches http, https, s3, oci, hf and pvc"):
        await bench.fetch(uri)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://elsewhere/x", "http://elsewhere/x"]
)
def test_a_redirect_never_leads_to_a_weaker_scheme(location: str) -> None:
    with pytest.raises(Refused):
        next_place("https://source/model", location)


def test_nothing_secret_of_a_url_is_shown() -> None:
    uri = "https://user:secret@source:8443/a/model.onnx?token=secret#secret"
    assert shown(uri) == "https://source:8443/a/model.onnx"


async def test_credentials_appear_in_no_message(bench: Bench, source: Source) -> None:
    uri = source.handle("model", status(403)).replace("http://", "http://user:secret@")
    with pytest.raises(Refused) as caught:
        await bench.fetch(f"{uri}?token=secret")
    assert "secret" not in str(caught.value)
    assert source.requests[-1].headers["Authorization"].startswith("Basic ")


async def test_a_file_too_large_for_the_disk_is_refused_before_it_is_fetched(
    bench: Bench, source: Source
) -> None:
    bench.free = 3 * MIB
    with pytest.raises(Refused, match=r"2\.0 MiB.*3\.0 MiB are free.*2\.0 MiB stay") as caught:
        await bench.fetch(source.add("model", BODY), reserve=2 * MIB)
    assert caught.value.reason is FailureReason.INSUFFICIENT_DISK
    assert await bench.kept() == 0


async def test_a_file_of_unknown_size_stops_at_the_reserve(bench: Bench, source: Source) -> None:
    uri = source.handle("model", chunked)
    bench.free = 2 * MIB

    def shrinking() -> int:
        bench.free -= MIB
        return bench.free

    fetcher = Fetcher(TUNING, bench.worker, shrinking)
    download = Download(uri, sha256(BODY), bench.part, bench.target)
    with pytest.raises(Refused) as caught:
        await fetcher.fetch(download, lambda *_: None)
    assert caught.value.reason is FailureReason.INSUFFICIENT_DISK
    assert await bench.kept() == 0


@pytest.mark.parametrize("location", ["http://[", "//[x", "http://a\u2100b/", "http://a..b/"])
async def test_a_redirect_to_no_address_is_refused_as_a_failed_fetch(
    bench: Bench, source: Source, location: str
) -> None:
    uri = source.handle("m", status(302, Location=location))
    with pytest.raises(Refused) as refused:
        await bench.fetch(uri)
    assert refused.value.reason is FailureReason.FETCH_FAILED


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..b"])
async def test_a_host_that_no_name_server_can_be_asked_for_is_refused(
    bench: Bench, host: str
) -> None:
    with pytest.raises(Refused) as refused:
        await bench.fetch(f"http://{host}/m")
    assert refused.value.reason is FailureReason.FETCH_FAILED


async def test_a_disk_that_runs_full_in_the_middle_gets_its_bytes_back(
    bench: Bench, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    append = Part.append

    def full(part: Part, chunk: bytes) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(chunk)
        append(part, chunk)

    monkeypatch.setattr(Part, "append", full)
    with pytest.raises(Refused) as refused:
        await bench.fetch(source.handle("m", whole))
    assert refused.value.reason is FailureReason.INSUFFICIENT_DISK
    assert await bench.kept() == 0


@pytest.mark.parametrize("kind", ["link", "hardlink", "folder"])
async def test_a_begun_file_that_is_none_of_ours_is_replaced(
    bench: Bench, source: Source, kind: str
) -> None:
    other = bench.root / "other"
    other.write_bytes(b"not ours")
    match kind:
        case "link":
            bench.part.symlink_to(other)
        case "hardlink":
            bench.part.hardlink_to(other)
        case _:
            bench.part.mkdir()
    await bench.fetch(source.handle("m", whole))
    assert other.read_bytes() == b"not ours"


async def test_a_folder_in_the_file_s_place_gives_way(bench: Bench, source: Source) -> None:
    (bench.target / "inside").mkdir(parents=True)
    await bench.fetch(source.handle("m", whole))


def declaring(length: int, body: bytes = BODY) -> Handler:
    """Answer with a body of another length than the answer declares."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        request.transport.write(head.encode() + body)
        request.transport.close()
        return web.Response()

    return answer


@pytest.mark.parametrize("length", [1, len(BODY) - 1, len(BODY) + 1, 1 << 30])
async def test_a_length_that_is_not_the_body_s_lands_nothing(
    bench: Bench, source: Source, length: int
) -> None:
    with pytest.raises((Refused, Transient)):
        await bench.fetch(source.handle("m", declaring(length)))
    assert not bench.target.exists()
    assert await bench.kept() <= len(BODY)


async def test_a_range_of_a_file_that_is_smaller_than_what_comes_is_broken_off(
    bench: Bench, source: Source
) -> None:
    half = len(BODY) // 2

    async def lies(request: web.Request) -> web.StreamResponse:
        full = ranged(request, BODY)
        if full.status != 206:
            return full
        headers = {**full.headers, "Content-Range": f"bytes {half}-{half}/{half + 1}"}
        headers["Content-Length"] = str(len(BODY) - half)
        return web.Response(status=206, body=BODY[half:], headers=headers)

    uri = source.handle("m", answers(cut, lies, whole))
    with pytest.raises(Transient):
        await bench.fetch(uri)
    with pytest.raises((Refused, Transient)):
        await bench.fetch(uri)
    assert not bench.target.exists()
    await bench.fetch(uri)


async def test_a_download_that_only_drips_is_broken_off_and_its_bytes_are_kept(
    bench: Bench, source: Source
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
        await response.prepare(request)
        for byte in BODY:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.01)
        return response

    uri = source.handle("model", answers(drip, whole))
    with pytest.raises(Transient, match=r"bytes came within 0\.05 s"):
        await bench.fetch(uri, trickle_window_s=0.05, trickle_bytes=1000)
    assert 0 < await bench.kept() < 1000
    await bench.fetch(uri, trickle_window_s=0.05, trickle_bytes=1000)
