"""Rollouts over a fleet of simulated nodes: the operator's writes and reads, and the seconds.

    make bench-rollout [ARGS="--nodes 300 --quiet-seconds 600 --deployments 1"]

Real: API server, DaemonSet controller, scheduler, node lifecycle controller, the operator and
every one of its requests, counted from the server's audit log. Simulated: the nodes and the states
of pods (KWOK), and the runtimes that answer GET /status. Nothing fails on a slow machine: figures.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from bench.form import Row, at_most, figure, publish
from fleet.audit import Request, reads, writes
from fleet.fleet import Fleet, fleet_of
from fleet.simulated_pod import Habit
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus

STEPS = ("1", "25%", "50%", "100%")
SLOW_SHARE, OFFLINE_SHARE = 0.05, 0.1
WITHIN_S = 900.0
STATUS, FILES, PODS = "edgedeployments/status", "configmaps", "pods"


@dataclass
class Span:
    """One phase or wave, and what was asked for in it."""

    name: str
    seconds: float
    statuses: int
    files: int
    pods: int
    others: int
    reads: int
    cpu_s: float | None = None
    delays: dict[str, float] = field(default_factory=dict)
    """Seconds from the decision to roll back."""

    def line(self) -> str:
        """Return the row of the table."""
        counts = (self.statuses, self.files, self.pods, self.others, self.reads)
        cpu = "" if self.cpu_s is None else f"{self.cpu_s:.1f}"
        delays = ", ".join(f"{key} {value:.2f} s" for key, value in self.delays.items())
        cells = "".join(f"{count:>9}" for count in counts)
        return f"{self.name:46}{self.seconds:>8.1f}{cells}{cpu:>8}  {delays}"

    def rows(self) -> list[Row]:
        """Return its figures in the form of all benches."""
        name = self.name.strip()
        goals = {word: limit for word, limit in DELAYS_S.items() if word in self.delays}
        return [
            figure(f"{name}: seconds", self.seconds, "s"),
            *(self._counted(name, word) for word in COUNTED),
            *([] if self.cpu_s is None else [figure(f"{name}: CPU", self.cpu_s, "s")]),
            *(at_most(f"{name}: {word}", self.delays[word], goals[word], "s") for word in goals),
        ]

    def _counted(self, name: str, word: str) -> Row:
        count, label = getattr(self, word), f"{name}: {COUNTED[word]}"
        return at_most(label, count, 0) if self.name == AT_REST else figure(label, count)


COUNTED = {
    "statuses": "status writes",
    "files": "assignment files written",
    "pods": "pods told",
    "others": "other writes",
    "reads": "reads",
}
AT_REST = "at rest"
DELAYS_S = {"to last file": 1.0, "to last pod told": 1.0, "to last unit serving": 5.0}
"""From the decision to roll back; the limits are for 1000 units."""
COLUMNS = ("status", "files", "pods", "others", "reads")
HEAD = f"{'':46}{'seconds':>8}{''.join(f'{name:>9}' for name in COLUMNS)}{'cpu s':>8}"


def span(name: str, seconds: float, requests: list[Request], cpu_s: float | None = None) -> Span:
    """Count the requests of a span of time."""
    made = writes(requests)
    others = sum(made.values()) - made[STATUS] - made[FILES] - made[PODS]
    asked = sum(reads(requests).values())
    return Span(name, seconds, made[STATUS], made[FILES], made[PODS], others, asked, cpu_s)


class Bench:
    """One run over one fleet."""

    def __init__(self, fleet: Fleet, deployments: int) -> None:
        self.fleet = fleet
        self.names = tuple(f"d{index:03}" for index in range(deployments))
        self.spans: list[Span] = []

    def roll_out(self, label: str, version: str, end: str, begin: Callable[[], None]) -> None:
        """Put a version, wait for a phase of every deployment, and count what was asked."""
        began, cpu_s = time.time(), self.fleet.operator.cpu_s()
        waves: dict[int, float] = {}
        begin()
        self.fleet.model(version)
        self.fleet.wait(lambda: self._is_over(version, end, waves), f"{version}: {end}", WITHIN_S)
        ended = time.time()
        self.fleet.wait(self.fleet.is_settled, "nothing more is written", WITHIN_S)
        requests = self.fleet.audit.requests(began)
        rolled_back = self.fleet.status(self.names[0]).rollout.rollback_at
        decided = rolled_back.timestamp() if rolled_back else ended
        self._add_waves(label, requests, waves, decided)
        if rolled_back:
            self._add_rollback(label, requests, decided, ended)
        self._add(span(label, ended - began, requests, self.fleet.operator.cpu_s() - cpu_s))

    def _add(self, made: Span) -> None:
        self.spans.append(made)
        print(made.line(), flush=True)

    def _is_over(self, version: str, end: str, waves: dict[int, float]) -> bool:
        states = [self.fleet.status(name) for name in self.names]
        _note_wave(states[0], waves)
        return all(one.model_version == version and one.phase == end for one in states)

    def _add_waves(
        self, label: str, requests: list[Request], waves: dict[int, float], ended: float
    ) -> None:
        """Count wave by wave, of the first deployment; a wave ends where the next begins."""
        if len(self.names) > 1 or len(waves) < 2:
            return
        limits = [*waves.values(), ended]
        for (step, since), until in zip(waves.items(), limits[1:], strict=True):
            found = [one for one in requests if since <= one.at < until]
            self._add(span(f"{label}, wave {step + 1} ({STEPS[step]})", until - since, found))

    def _add_rollback(
        self, label: str, requests: list[Request], decided: float, ended: float
    ) -> None:
        """Count what followed the decision, and when the last of it was done."""
        found = [one for one in requests if one.at >= decided]
        made = span(f"{label}, rollback", ended - decided, found)
        swaps = [swap.at for pod in self.fleet.runtimes.pods() for swap in pod.swaps]
        for word, times in (
            ("to last file", _times(found, FILES)),
            ("to last pod told", _times(found, PODS)),
            ("to last unit serving", swaps),
        ):
            made.delays[word] = max(times, default=decided) - decided
        self._add(made)

    def return_(self, off: tuple[str, ...], version: str) -> None:
        """Let nodes come back and take what is current."""
        fleet, began, cpu_s = self.fleet, time.time(), self.fleet.operator.cpu_s()
        fleet.switch_on(off)
        wanted = Counter({version: len(fleet.nodes) * len(self.names)})
        fleet.wait(lambda: fleet.served() == wanted, "all serve it", WITHIN_S)
        fleet.wait(lambda: self.offline() == 0, "none is offline", WITHIN_S)
        ended = time.time()
        fleet.wait(fleet.is_settled, "nothing more is written", WITHIN_S)
        requests = fleet.audit.requests(began)
        self._add(span("they return", ended - began, requests, fleet.operator.cpu_s() - cpu_s))

    def quiet(self, seconds: float) -> None:
        """Do nothing, and count what the operator asks for."""
        began, cpu_s = time.time(), self.fleet.operator.cpu_s()
        time.sleep(seconds)
        spent_s = self.fleet.operator.cpu_s() - cpu_s
        self._add(span(AT_REST, seconds, self.fleet.audit.requests(began), spent_s))

    def offline(self) -> int:
        """Count the offline units of all deployments."""
        return sum(self.fleet.status(name).units.offline for name in self.names)


def _note_wave(status: EdgeDeploymentStatus, waves: dict[int, float]) -> None:
    began = status.rollout.step_started_at
    if began is not None and status.rollout.stage in {"Stepping", "Soaking"}:
        waves.setdefault(status.rollout.step, began.timestamp())


def _times(requests: list[Request], kind: str) -> list[float]:
    return [one.at for one in requests if one.kind == kind]


def story(bench: Bench, quiet_s: float) -> None:
    """Tell the whole story: good, bad and offline, then nothing."""
    fleet = bench.fleet
    steps = [{"units": units, "soak": "2s"} for units in STEPS]
    metrics = [{"name": "ErrorRate", "max": "0.001", "minSamples": 20}]
    rollout = {
        "steps": steps,
        "analysis": {"interval": "1s", "metrics": metrics},
        "progressDeadline": "120s",
    }

    def deploy() -> None:
        for name in bench.names:
            fleet.deployment(name, rollout)

    bench.roll_out("first deployment", "1.0.0", "Stable", deploy)
    slow = fleet.nodes[: max(1, int(len(fleet.nodes) * SLOW_SHARE))]
    be_slow = partial(fleet.take_to, Habit.SLOW, slow)
    bench.roll_out("good version, some nodes slow", "2.0.0", "Stable", be_slow)
    fleet.take_to(Habit.GOOD, slow)
    bench.roll_out("fails in the canary's soak", "3.0.0+fails-later", "RolledBack", _nothing)
    off = fleet.nodes[-max(1, int(len(fleet.nodes) * OFFLINE_SHARE)) :]
    go_off = partial(fleet.switch_off, off)
    bench.roll_out("good version, a tenth goes off", "4.0.0", "Stable", go_off)
    late = fleet.last_to_get(bench.names[0], slow)
    refuse = partial(fleet.take_to, Habit.REFUSES, [late])
    bench.roll_out("refused when all others have it", "5.0.0", "RolledBack", refuse)
    fleet.take_to(Habit.GOOD, [late])
    bench.return_(off, "4.0.0")
    bench.quiet(quiet_s)


def _nothing() -> None:
    """The version alone is what is tried."""


def main() -> None:
    """Run the story, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--quiet-seconds", type=float, default=600.0)
    parser.add_argument("--deployments", type=int, default=1)
    args = parser.parse_args()
    # told to end, it ends what it started; in the background a shell lets SIGINT be ignored
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder, fleet_of(args.nodes, Path(folder)) as fleet:
        bench = Bench(fleet, args.deployments)
        print(HEAD, flush=True)
        story(bench, args.quiet_seconds)
        rss_mib, cpu_s = fleet.operator.rss_mib(), fleet.operator.cpu_s()
    rows = [row for made in bench.spans for row in made.rows()]
    rows += [
        figure("operator's CPU, all in all", cpu_s, "s"),
        figure("operator's RSS at the end", rss_mib, "MiB"),
    ]
    publish("rollout", rows, {**vars(args), "spans": [asdict(made) for made in bench.spans]})


if __name__ == "__main__":
    main()
