"""Speed of serving against raw `session.run`, a bare floor, KServe and MLServer, in one run.

    make bench-runtime [ARGS="--rounds 1 --only Skerry,floor"]

Every server is a process of its own; KServe and MLServer have venvs of their own, made on the
first run. Clients send what they encoded beforehand over one connection. Rounds are interleaved
(raw, every server, raw), because a shared machine drifts by more than what is measured, so only
ratios within one run count. Nothing fails: figures are read.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.asking import Call, asking, crowd, raw, timed
from bench.contenders import FLOOR, KSERVE, MLSERVER, OTHERS, Running, skerry, started
from bench.form import Row, at_least, at_most, figure, publish
from bench.models import CASES, WIDE, Case

ROUNDS = 5
RAW = "raw session.run"
WAYS = ("REST binary", "REST JSON", "gRPC")
CROWD = 32


@dataclass
class Series:
    """Times and CPU of one way to get an answer."""

    name: str
    asking: Callable[[], AbstractContextManager[Call]]
    cpu_s: Callable[[], float]
    calls: int
    times: list[float] = field(default_factory=list)
    used_s: float = 0.0

    def round(self) -> None:
        """Ask for one round, on a connection of its own: some servers close an idle one soon."""
        with self.asking() as call:
            call()
            before = self.cpu_s()
            self.times += timed(call, self.calls)
            self.used_s += self.cpu_s() - before

    def forget(self) -> None:
        """Begin to count."""
        self.times.clear()
        self.used_s = 0.0

    def figures(self) -> dict[str, float]:
        """Return medians in microseconds."""
        return {
            "p50_us": round(statistics.median(self.times), 1),
            "p99_us": round(float(np.percentile(self.times, 99)), 1),
            "cpu_us": round(self.used_s / len(self.times) * 1e6, 1),
        }


def compare(case: Case, folder: Path, wanted: set[str], rounds: int) -> dict[str, Any]:
    """Measure a case on every server that can be started."""
    with ExitStack() as opened:
        servers = dict(start_all(case, folder, wanted, opened))
        run = raw(case)
        series = [Series(RAW, lambda: nullcontext(run), time.process_time, case.calls)]
        for name, (server, ways) in servers.items():
            for way in ways:
                ask = partial(asking, way, case, server)
                try:
                    with ask() as call:
                        call()
                except Exception as error:  # noqa: BLE001 a server that cannot: told, and left out
                    print(f"{case.name}: {name} {way} does not answer: {str(error)[:120]}")
                    continue
                calls = case.calls if way != "REST JSON" else max(10, case.calls // 6)
                series.append(Series(f"{name} {way}", ask, server.cpu_s, calls))
        for one in (*series, *series):
            one.round()
        for one in series:
            one.forget()
        for _ in range(rounds):
            for one in (*series, series[0]):
                one.round()
        memory = {name: round(server.rss_mb(), 1) for name, (server, _) in servers.items()}
        starts = {name: round(server.start_s, 2) for name, (server, _) in servers.items()}
    ways = {one.name: one.figures() for one in series}
    return {"ways": ways, "rss_mb": memory, "start_s": starts}


def start_all(
    case: Case, folder: Path, wanted: set[str], opened: ExitStack
) -> Iterator[tuple[str, tuple[Running, tuple[str, ...]]]]:
    """Yield every server that starts."""
    yield "Skerry", (opened.enter_context(skerry(case, folder)), WAYS)
    ours = skerry(case, folder, "--grpc-server", "http2")
    yield "Skerry http2", (opened.enter_context(ours), ("gRPC",))
    for contender in (FLOOR, *OTHERS):
        if contender.name not in wanted:
            continue
        try:
            server = opened.enter_context(started(contender, case, folder))
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            print(f"{contender.name} is left out, it cannot run here: {error}")
            continue
        yield contender.name, (server, contender.ways)


def throughput(folder: Path, rounds: int) -> dict[str, float]:
    """Two clients on the CNN against two threads of `session.run`, in answers per second."""
    case = CASES[1]
    run, request = raw(case), case.binary()
    pairs = []
    with skerry(case, folder) as server, ThreadPoolExecutor(2) as pool:
        crowd(server.http, request, 2, 40)
        for _ in range(rounds):
            began = time.perf_counter()
            list(pool.map(lambda _: run(), range(100)))
            raw_rate = 100 / (time.perf_counter() - began)
            rate, _ = crowd(server.http, request, 2, 100)
            pairs.append((raw_rate, rate))
    raw_rate, rate = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"raw_per_s": round(raw_rate, 1), "skerry_per_s": round(rate, 1)}


def batching(case: Case, folder: Path, rounds: int) -> dict[str, Any]:
    """A crowd with batching off, on, and as the trial decides."""
    request, result = case.binary(), {}
    count = 64 * max(4, case.calls // 10)
    with ExitStack() as opened:
        servers = {
            mode: opened.enter_context(
                skerry(case, folder, "--batch-max-size", "32", "--batch-mode", mode)
            )
            for mode in ("Off", "On", "Auto")
        }
        measured: dict[str, list[tuple[float, list[float]]]] = {mode: [] for mode in servers}
        for server in servers.values():
            crowd(server.http, request, CROWD, 64)
        for _ in range(rounds):
            for mode, server in servers.items():
                measured[mode].append(crowd(server.http, request, CROWD, count))
    for mode, runs in measured.items():
        latencies = [latency for _, each in runs for latency in each]
        result[mode] = {
            "per_s": round(statistics.median(rate for rate, _ in runs), 1),
            "p50_ms": round(statistics.median(latencies) * 1e3, 2),
            "p99_ms": round(float(np.percentile(latencies, 99)) * 1e3, 2),
        }
    return result


@dataclass(frozen=True)
class Goal:
    """A figure and what it should be at most (at least, when `is_least`)."""

    name: str
    limit: float
    figure: Callable[[dict[str, Any]], float]
    is_least: bool = False

    def row(self, result: dict[str, Any]) -> Row:
        """Return it with what was found; without a value when a server was left out."""
        try:
            value = self.figure(result)
        except KeyError:
            value = None
        return (at_least if self.is_least else at_most)(self.name, value, self.limit)


def ratio(
    case: str, way: str, other: str, key: str = "p50_us"
) -> Callable[[dict[str, Any]], float]:
    """Return the figure that divides two ways of a case."""

    def figure(result: dict[str, Any]) -> float:
        ways = result["cases"][case]["ways"]
        return float(ways[way][key] / ways[other][key])

    return figure


GOALS = (
    Goal(
        "tiny, REST binary / floor", 1.8, ratio("tiny", "Skerry REST binary", "floor REST binary")
    ),
    Goal(
        "tiny, REST binary / KServe",
        0.35,
        ratio("tiny", "Skerry REST binary", "KServe REST binary"),
    ),
    Goal(
        "tiny, REST binary / MLServer JSON",
        0.5,
        ratio("tiny", "Skerry REST binary", "MLServer REST JSON"),
    ),
    Goal("tiny, gRPC / KServe", 0.6, ratio("tiny", "Skerry gRPC", "KServe gRPC")),
    Goal("tiny, gRPC / MLServer", 0.5, ratio("tiny", "Skerry gRPC", "MLServer gRPC")),
    Goal(
        "tiny, gRPC on our HTTP/2 / KServe", 0.4, ratio("tiny", "Skerry http2 gRPC", "KServe gRPC")
    ),
    Goal(
        "tiny, gRPC on our HTTP/2, server CPU, us",
        90.0,
        lambda r: r["cases"]["tiny"]["ways"]["Skerry http2 gRPC"]["cpu_us"],
    ),
    Goal("cnn, gRPC on our HTTP/2 / raw", 1.35, ratio("cnn", "Skerry http2 gRPC", RAW)),
    Goal("cnn, REST binary / raw", 1.25, ratio("cnn", "Skerry REST binary", RAW)),
    Goal("cnn, gRPC / raw", 1.5, ratio("cnn", "Skerry gRPC", RAW)),
    Goal(
        "cnn, server CPU, REST binary / raw",
        1.15,
        ratio("cnn", "Skerry REST binary", RAW, "cpu_us"),
    ),
    Goal(
        "JSON of 150528 floats, less raw, ms",
        12.0,
        lambda r: (
            (
                r["cases"]["cnn"]["ways"]["Skerry REST JSON"]["p50_us"]
                - r["cases"]["cnn"]["ways"][RAW]["p50_us"]
            )
            / 1e3
        ),
    ),
    Goal("start to ready, s", 1.0, lambda r: r["cases"]["cnn"]["start_s"]["Skerry"]),
    Goal("resident memory on tiny, MB", 100.0, lambda r: r["cases"]["tiny"]["rss_mb"]["Skerry"]),
    Goal(
        "cnn, two clients / two raw threads",
        0.9,
        lambda r: r["throughput"]["skerry_per_s"] / r["throughput"]["raw_per_s"],
        is_least=True,
    ),
    Goal(
        "dense, 32 clients, batching on / off",
        3.0,
        lambda r: r["batching"]["dense"]["On"]["per_s"] / r["batching"]["dense"]["Off"]["per_s"],
        is_least=True,
    ),
    Goal(
        "dense, 32 clients, as the trial decides / on",
        0.9,
        lambda r: r["batching"]["dense"]["Auto"]["per_s"] / r["batching"]["dense"]["On"]["per_s"],
        is_least=True,
    ),
    Goal(
        "tiny, 32 clients, as the trial decides / off",
        0.9,
        lambda r: r["batching"]["tiny"]["Auto"]["per_s"] / r["batching"]["tiny"]["Off"]["per_s"],
        is_least=True,
    ),
)


def show(result: dict[str, Any]) -> None:
    """Print the figures as tables."""
    print(
        f"\n{'model':6}{'way':26}{'p50 us':>11}{'p99 us':>11}{'x raw':>8}{'CPU us':>10}{'x raw':>7}"
    )
    for name, case in result["cases"].items():
        base = case["ways"][RAW]
        for way, row in case["ways"].items():
            times = f"{row['p50_us']:>11}{row['p99_us']:>11}{row['p50_us'] / base['p50_us']:>8.2f}"
            print(
                f"{name:6}{way:26}{times}{row['cpu_us']:>10}{row['cpu_us'] / base['cpu_us']:>7.2f}"
            )
        print(f"{name:6}resident MB: {case['rss_mb']}; start to ready s: {case['start_s']}")
    print(f"\ntwo clients on the CNN: {result['throughput']}")
    for name, modes in result["batching"].items():
        print(f"{name}, {CROWD} clients, batching: {modes}")


def rows_of(result: dict[str, Any]) -> list[Row]:
    """Return the goals, and what every way takes for one answer, as a multiple of raw."""
    goals = [goal.row(result) for goal in GOALS]
    times = [
        figure(f"{name}, {way}, p50 / raw", found["p50_us"] / case["ways"][RAW]["p50_us"])
        for name, case in result["cases"].items()
        for way, found in case["ways"].items()
        if way != RAW
    ]
    return goals + times


def main() -> None:
    """Measure everything, print tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="floor,KServe,MLServer", help="besides Skerry and raw")
    given = parser.parse_args()
    wanted = set(given.only.split(","))
    print(f"Skerry against {', '.join((*KSERVE, *MLSERVER))}; Python {platform.python_version()}")
    result: dict[str, Any] = {"rounds": given.rounds, "kserve": KSERVE, "mlserver": MLSERVER}
    result |= {"cpus": os.cpu_count(), "load_before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["cases"] = {c.name: compare(c, folder, wanted, given.rounds) for c in CASES}
        result["throughput"] = throughput(folder, given.rounds)
        crowded = (CASES[0], WIDE)
        result["batching"] = {c.name: batching(c, folder, given.rounds) for c in crowded}
    show(result)
    publish("runtime", rows_of(result), result)


if __name__ == "__main__":
    main()
