"""What live requests feel of a shadow: p50 and p99 with one running beside them, and without.

    make bench-shadow

The server is the process that a container runs, brought to each state through its assignment file,
by turns, so that a shared machine's drift falls on both. The shadow of the bench never ends by
itself. Nothing fails: figures are read.
"""

from __future__ import annotations

import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from bench.asking import connected, exchange, timed
from bench.form import Row, figure, publish
from bench.models import Case, network, tiny
from serving.running import ROOT, InProcess
from skerry_runtime.contract import RevisionContent, Shadow, StatusReport, SwapPhase
from skerry_runtime.doors import Ports
from unit.runtime.agent.support import Mount, content

ROUNDS = 6
ENDLESS = Shadow(samples=10**9, timeout_s=3600, threshold=0)
DEADLINE_S = 60.0


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP; the value is its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def following(folder: Path) -> Iterator[InProcess]:
    """A server that follows the assignment in `folder`; it serves when it is handed out."""
    options = {
        "host": "127.0.0.1",
        "http-port": "0",
        "grpc-port": "0",
        "admin-port": "0",
        "linger-s": "0",
        "assignment-dir": str(folder / "assignment"),
        "slots-dir": str(folder / "slots"),
        "unit": "bench",
        "model-name": "digits",
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "skerry_runtime", "serve", *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        server = InProcess(child, _ports(child), [])
        threading.Thread(target=_drain, args=(child,), daemon=True).start()
        yield server
    finally:
        child.kill()
        child.wait(30)


def _ports(child: subprocess.Popen[str]) -> Ports:
    """Read the log until the server says where it listens."""
    for line in child.stderr or ():
        if "ports" in (entry := json.loads(line)):
            return Ports(**entry["ports"])
    raise RuntimeError("the server ended before it listened")


def _drain(child: subprocess.Popen[str]) -> None:
    """Read the log on, so that a full pipe never stops the server."""
    for _ in child.stderr or ():
        pass


def report(server: InProcess) -> StatusReport:
    with urllib.request.urlopen(f"http://{server.admin}/status", timeout=5) as answer:
        return StatusReport.model_validate_json(answer.read())


def wait(server: InProcess, condition: Callable[[StatusReport], object]) -> StatusReport:
    deadline = time.monotonic() + DEADLINE_S
    while not condition(status := report(server)):
        if time.monotonic() > deadline:
            raise TimeoutError(status.model_dump_json(exclude={"counters"}))
        time.sleep(0.05)
    return status


def revisions(case: Case, folder: Path, address: str) -> dict[str, RevisionContent]:
    """The model, and a twin of it that is to be tried."""
    (folder / "model.onnx").write_bytes(case.model)
    uri = f"{address}/model.onnx"
    return {
        "v1": content(case.model, uri),
        "v2": content(case.model, uri, shadow=ENDLESS),
    }


def measure(case: Case, folder: Path) -> dict[str, list[float]]:
    """Return the times of live requests in microseconds, with and without a shadow."""
    times: dict[str, list[float]] = {"without": [], "with a shadow": []}
    with ExitStack() as opened:
        known = revisions(case, folder, opened.enter_context(files(folder)))
        mount = Mount(folder / "assignment")
        mount.assign("v1", known)
        server = opened.enter_context(following(folder))
        connection = opened.enter_context(connected(server.ports.http))
        call = partial(exchange, connection, case.binary())
        for turn in range(ROUNDS + 1):
            mount.assign("v1", known)
            wait(server, lambda s: s.progress and s.progress.phase is SwapPhase.SERVING)
            without = timed(call, case.calls)
            mount.assign("v2", known)
            wait(server, lambda s: s.progress and s.progress.phase is SwapPhase.SHADOWING)
            beside = timed(call, case.calls)
            if turn:  # the first is the warm-up
                times["without"] += without
                times["with a shadow"] += beside
        status = report(server)
        assert status.progress
        assert status.progress.agreement
        compared = status.progress.agreement.compared
        assert compared, "nothing ran in the shadow: there is nothing to be read"
    return times


def _figures(series: list[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    return statistics.median(series), float(np.percentile(series, 99))


def main() -> None:
    """Measure two models, print a table and write the figures."""
    cases = (Case("tiny", tiny(), (1, 16), 3000), Case("cnn", network(), (1, 3, 224, 224), 200))
    rows: list[Row] = []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            rows += rows_of(case.name, measure(case, Path(folder)))
    publish("shadow", rows, {"rounds": ROUNDS})


def rows_of(name: str, times: dict[str, list[float]]) -> list[Row]:
    """Return p50, p99 and their ratios for one model."""
    found = {way: _figures(series) for way, series in times.items()}
    words = ("p50", "p99")
    rows = [
        figure(f"{name}, {way}, {word}", one, "us")
        for way, pair in found.items()
        for word, one in zip(words, pair, strict=True)
    ]
    pairs = zip(words, found["with a shadow"], found["without"], strict=True)
    ratios = [
        figure(f"{name}, {word}, with / without", beside / base) for word, beside, base in pairs
    ]
    return rows + ratios


if __name__ == "__main__":
    main()
