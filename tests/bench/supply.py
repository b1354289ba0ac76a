"""What a site takes over its line: many units, one model, one cache, behind 1.25 MB/s.

    python -P -m bench.supply [--units 50] [--megabytes 4.7]

The units are the agents' own fetchers; the cache is a process as in its pod, with TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from aiohttp import web

from bench.form import Row, at_most, figure, publish
from skerry_operator.sitekeys import make_keys, read_signer
from skerry_runtime.agent.fetch import Download, Fetcher
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.site import SiteLink
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import CacheAccess

RATE = 1_250_000
TUNING = Tuning(fetch_allow=(IPv4Network("127.0.0.0/8"),), disk_reserve_bytes=0)
MOST_UPSTREAM, MOST_MIB = 1.05, 40


@dataclass
class Line:
    """A source behind a line of so many bytes a second, for all together."""

    body: bytes
    sent: int = 0
    _free_at: float = field(default_factory=time.monotonic)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        start = request.http_range.start or 0
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = len(self.body) - start
        if start:
            total = len(self.body)
            response.headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        await response.prepare(request)
        for at in range(start, len(self.body), 16_384):
            piece = self.body[at : at + 16_384]
            self._free_at = max(self._free_at, time.monotonic()) + len(piece) / RATE
            self.sent += len(piece)
            await response.write(piece)
            await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
        return response


@asynccontextmanager
async def serving(line: Line) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/model", line.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/model"
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Cache:
    """The cache's process."""

    url: str
    pid: int

    def resident_mib(self, name: str = "VmHWM") -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0


@asynccontextmanager
async def caching(root: Path, keys: dict[str, bytes]) -> AsyncIterator[Cache]:
    folder = root / "keys"
    folder.mkdir(parents=True)
    for name, content in keys.items():
        (folder / name).write_bytes(content)
    told = {"DATA_DIR": str(root / "data"), "KEYS_DIR": str(folder), "PORT": "0", "SIZE": "1Gi"}
    told |= {"HOST": "127.0.0.1", "RESERVE": "0", "MAX_CONNECTIONS_EACH": "200"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "skerry_runtime",
        "cache",
        env=os.environ | {f"SKERRY_CACHE_{name}": value for name, value in told.items()},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async for said in process.stderr:
            if found := re.search(rb"listens at port (\d+)", said):
                yield Cache(f"https://127.0.0.1:{int(found[1])}", process.pid)
                return
        raise RuntimeError("the cache did not start")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


class BenchUnit:
    """The fetcher of one pod."""

    def __init__(self, root: Path, access: CacheAccess | None) -> None:
        self._root = root
        root.mkdir(parents=True)
        self._worker = Worker(root.name)
        self._link = SiteLink("unit")
        self._link.obey(access)

    async def fetch(self, uri: str, sha256: str) -> None:
        fetcher = Fetcher(TUNING, self._worker, lambda: 1 << 40, None, self._link)
        download = Download(uri, sha256, self._root / "part", self._root / "model")
        await fetcher.fetch(download, lambda _, __: None)
        self._worker.close()


async def fetch_all(
    root: Path, units: int, uri: str, sha256: str, access: CacheAccess | None
) -> float:
    """Return the seconds until all of them have the file."""
    began = time.monotonic()
    all_units = [BenchUnit(root / f"unit-{number}", access) for number in range(units)]
    async with asyncio.TaskGroup() as group:
        for unit in all_units:
            group.create_task(unit.fetch(uri, sha256))
    return time.monotonic() - began


async def measure(root: Path, units: int, size: int) -> list[Row]:
    body = os.urandom(size)
    sha256, keys = hashlib.sha256(body).hexdigest(), dict(make_keys())
    signer, line = read_signer(keys), Line(body)
    async with serving(line) as uri, caching(root / "cache", keys) as cache:
        at_rest = cache.resident_mib("VmRSS")
        access = CacheAccess(
            ca=signer.ca,
            sites={"here": cache.url},
            site="here",
            tickets={sha256: signer.ticket("shop", sha256)},
        )
        took_s = await fetch_all(root / "sited", units, uri, sha256, access)
        upstream, largest = line.sent, cache.resident_mib()
        later_s = await fetch_all(root / "later", units, uri, sha256, access)
        again = line.sent - upstream
        line.sent = 0
        direct_s = await fetch_all(root / "direct", 3, uri, sha256, None)
    of_one = size / RATE
    return [
        at_most("upstream bytes, of one file", upstream / size, MOST_UPSTREAM),
        at_most("upstream bytes of as many pods that are made anew", again, 0),
        at_most("largest resident memory of the cache", largest, MOST_MIB, "MiB"),
        figure("resident memory of the cache at rest", at_rest, "MiB"),
        figure("one file over the line", of_one, "s"),
        figure(f"{units} units with a cache", took_s, "s"),
        figure(f"{units} units when the cache has it", later_s, "s"),
        figure("3 units without a cache", direct_s, "s"),
        figure("upstream bytes without a cache, of one file", line.sent / size),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=50)
    parser.add_argument("--megabytes", type=float, default=4.7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder), asked.units, int(asked.megabytes * 1e6)))
    publish("supply", rows)


if __name__ == "__main__":
    main()
