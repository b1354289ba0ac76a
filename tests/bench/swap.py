"""Time of a swap in one process, file served from the same machine: fetched, and from the disk.

    make bench-swap

Every swap is a whole one: fetch, digest, probe in a child, load, exam, switch. Going back to a
revision that is on the disk and was probed is what a rollback costs. Then a pod's own process
swaps to and fro while a client measures each of its requests. Nothing fails.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from aiohttp import web

from bench.form import Row, at_most, figure, publish
from contract.test_swap_under_load import REFUSED, SETTLED, Ask, described, rest
from hostile.watch import resident_bytes
from serving.deployed import Deployed, deployed, file_server
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import RevisionContent
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, golden

SWAPS = 15
FEATURES = 1200
"""Makes files of about 6 MB."""
SWAPS_UNDER_LOAD = 100
WARM_SWAPS = 10
"""Swaps until pools and the allocator have what they keep."""
QUIET_REQUESTS = 3000


def revisions(source: Source) -> dict[str, RevisionContent]:
    """Describe revisions of different files with an exam each."""
    found = {}
    for number in range(SWAPS):
        features = FEATURES + number
        model, exam = classifier(features=features), golden(40, features)
        model_uri, exam_uri = source.add(f"{number}.onnx", model), source.add(f"{number}.npz", exam)
        found[f"v{number}"] = content(model, model_uri, exam=exam, exam_uri=exam_uri)
    return found


async def measure(folder: Path, source: Source) -> dict[str, list[float]]:
    """Return the milliseconds of fetched swaps and of those from the disk, by turns."""
    described, times = revisions(source), {"fetched": [], "from disk": []}
    async with Pod(folder, OnnxBackend(), FAST) as pod:
        first, *others = described
        pod.mount.assign(first, described)
        await pod.until_serving(first)
        for name in others:
            for kind, revision in (("fetched", name), ("from disk", first)):
                pod.mount.assign(revision, described)
                status = await pod.until_serving(revision)
                times[kind] += [status.last_swap.total_ms] if status.last_swap else []
    return times


class Client(threading.Thread):
    """Asks without a pause and notes the milliseconds of every request."""

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self.times: list[float] = []
        self.faults: list[str] = []
        self._ask = ask
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.is_set():
            try:
                self.times.append(timed(self._ask))
            except Exception as error:  # noqa: BLE001 counted, not raised
                self.faults.append(repr(error))

    def stop(self) -> None:
        self._is_over.set()
        self.join()


def timed(ask: Ask) -> float:
    """Ask once; return the milliseconds."""
    began = time.perf_counter()
    if ask() == REFUSED:
        raise ConnectionError(REFUSED)
    return (time.perf_counter() - began) * 1000.0


def under_load(folder: Path) -> dict[str, list[float]]:
    """Return [p50, p99] of quiet requests and of those during swaps, and [before, after] of RSS."""
    with file_server() as source, deployed(folder, **SETTLED) as pod, rest(pod) as ask:
        revisions = described(source, folder)

        def swap(times: int) -> None:
            for number in range(times):
                bring(pod, ("r2", "r1")[number % 2], revisions)

        bring(pod, "r1", revisions)
        swap(WARM_SWAPS)
        before = resident_bytes(pod.child.pid)
        quiet = [timed(ask) for _ in range(QUIET_REQUESTS)]
        client = Client(ask)
        client.start()
        swap(SWAPS_UNDER_LOAD)
        client.stop()
        after = resident_bytes(pod.child.pid)
    return {
        "quiet ms": percentiles(quiet),
        "swapping ms": percentiles(client.times),
        "failed": [len(client.faults)],
        "rss MB": [before / 1e6, after / 1e6],
    }


def bring(pod: Deployed, revision: str, revisions: dict[str, RevisionContent]) -> None:
    """Swap, and look seldom, because looking is work as well."""
    pod.assign(revision, revisions)
    while (served := pod.status().serving) is None or served.revision != revision:
        time.sleep(0.05)


def percentiles(times: list[float]) -> list[float]:
    """Return the median and the 99th percentile."""
    return [float(np.percentile(times, 50)), float(np.percentile(times, 99))]


async def main() -> None:
    """Measure, print a table and write the figures."""
    source, app = Source(), web.Application()
    app.router.add_get("/{name:.*}", source.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    source.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with tempfile.TemporaryDirectory() as folder:
        times = await measure(Path(folder), source)
    await runner.cleanup()
    with tempfile.TemporaryDirectory() as folder:
        loaded = under_load(Path(folder))
    publish("swap", rows_of(times, loaded), {"swaps": SWAPS, "swaps_under_load": SWAPS_UNDER_LOAD})


def rows_of(times: dict[str, list[float]], loaded: dict[str, list[float]]) -> list[Row]:
    """Return the figures."""
    quiet, busy = loaded["quiet ms"], loaded["swapping ms"]
    return [
        *(
            figure(f"swap, {kind}, {word}", one, "ms")
            for kind, found in times.items()
            for word, one in (("median", statistics.median(found)), ("longest", max(found)))
        ),
        at_most(f"requests that failed in {SWAPS_UNDER_LOAD} swaps", loaded["failed"][0], 0),
        figure("request while nothing is swapped, p50", quiet[0], "ms"),
        figure("request while nothing is swapped, p99", quiet[1], "ms"),
        figure("request while models are swapped, p50", busy[0], "ms"),
        figure("request while models are swapped, p99", busy[1], "ms"),
        at_most("p99 while models are swapped / quiet", busy[1] / quiet[1], 2.0),
        figure("RSS before the swaps", loaded["rss MB"][0], "MB"),
        figure("RSS after the swaps", loaded["rss MB"][1], "MB"),
    ]


if __name__ == "__main__":
    asyncio.run(main())
