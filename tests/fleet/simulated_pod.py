"""A simulated runtime: what a pod would answer to GET /status, without a model and without a pod.

Pure: time is an argument. It keeps to the contract (skerry_runtime.contract) and to the order of a
swap, and does nothing else that a runtime does; durations and traffic are made up.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from skerry_runtime.contract import (
    LATENCY_BOUNDS_MS,
    Acceleration,
    Assignment,
    Counters,
    Failure,
    FailureReason,
    Latency,
    Progress,
    RevisionContent,
    RevisionCounters,
    Served,
    ServedModel,
    StatusReport,
    SwapMode,
    SwapPhase,
    SwapRecord,
)

LABEL_HABIT = "simulated.skerry.dev/habit"
"""On nodes: a Habit."""
FETCHED_SWAP_S = 0.5
DISK_SWAP_S = 0.05
SLOW_SWAP_S = 5.0
NEVER_S = float("inf")
REQUESTS_PER_S = 20.0
FAILS_AFTER_S = 0.5
"""How long a model that fails later serves well."""
LATENCY_BUCKET = 20
"""Bucket of the latency histogram in which every request lies."""


class Habit(StrEnum):
    """How a node, or every node with a version `1.2.3+HABIT`, takes to what is new to it."""

    GOOD = "good"
    NEVER_READY = "never-ready"  # the swap does not end, and says no reason
    REFUSES = "refuses"  # the exam is not passed, the old model goes on serving
    FAILS_LATER = (
        "fails-later"  # serves, and after a while answers half of all requests with errors
    )
    SLOW = "slow"  # a swap takes ten times as long
    GONE = "gone"  # the node is off: it does not renew its lease, and no pod answers


@dataclass
class _Swap:
    revision: str
    began_at: float
    ends_at: float
    fetched: bool


@dataclass
class SimulatedPod:
    """One pod's runtime: reads assignment files, serves, reports."""

    unit: str
    started_at: float
    habit: Habit = Habit.GOOD
    """Of its node; a version's own habit goes before it."""
    text: str = ""
    assignment: Assignment | None = None
    serving: Served | None = None
    habits: dict[str, Habit] = field(default_factory=dict)
    """Revision -> how this pod takes to it; settled when the pod first hears of it."""
    on_disk: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    swaps: list[SwapRecord] = field(default_factory=list)
    """Every swap that ended, the last one last."""
    _swap: _Swap | None = None

    def read_file(self, text: str, now: float) -> None:
        """Take a new assignment file; a swap under way to another revision is given up."""
        self._advance(now)
        if text == self.text:
            return
        self.text = text
        self.assignment = Assignment.model_validate_json(text)
        wanted = self.assigned
        if wanted is None or (self.serving and self.serving.revision == wanted):
            self._swap = None
        elif self._swap is None or self._swap.revision != wanted:
            self._begin(wanted, now)

    @property
    def assigned(self) -> str | None:
        """Revision that the file gives to this unit."""
        return self.assignment.revision_of(self.unit) if self.assignment else None

    def report(self, now: float) -> StatusReport:
        """Return the answer of GET /status."""
        self._advance(now)
        return StatusReport(
            unit=self.unit,
            deployment=self.assignment.deployment if self.assignment else None,
            cell=self.assignment.cell if self.assignment else None,
            runtime_version="0.0.0-simulated",
            boot_id=f"{self.unit}-{self.started_at}",
            started_at=self.started_at,
            now=now,
            assignment=hashlib.sha256(self.text.encode()).hexdigest() if self.text else None,
            assigned=self.assigned,
            serving=self.serving,
            progress=self._progress(),
            failures=self.failures,
            on_disk=self.on_disk,
            counters=self._counters(now),
            last_swap=self.swaps[-1] if self.swaps else None,
        )

    def _begin(self, revision: str, now: float) -> None:
        is_new = revision not in self.on_disk
        if is_new:
            self.habits[revision] = _habit_of(self._content(revision).version) or self.habit
        took = {Habit.SLOW: SLOW_SWAP_S, Habit.NEVER_READY: NEVER_S}
        wait_s = took.get(self.habits[revision], FETCHED_SWAP_S) if is_new else DISK_SWAP_S
        self._swap = _Swap(revision, now, now + wait_s, is_new)

    def _content(self, revision: str) -> RevisionContent:
        assert self.assignment is not None
        return self.assignment.revisions[revision]

    def _advance(self, now: float) -> None:
        """End the swap under way as of its own time, whenever one asks."""
        swap = self._swap
        if swap is None or now < swap.ends_at:
            return
        if self.habits[swap.revision] is Habit.REFUSES:
            self._refuse(swap)
            return
        before = self.serving.revision if self.serving else None
        content = self._content(swap.revision)
        model = ServedModel(
            version=content.version,
            variant=content.model.variant,
            sha256=content.model.files[0].sha256,
            acceleration=Acceleration(
                requested=("SimulatedProvider",),
                effective="SimulatedProvider",
                delegated_percent=100,
            ),
        )
        self.serving = Served(
            revision=swap.revision, since=swap.ends_at, models={content.name: model}
        )
        self.swaps.append(_record(swap, before))
        kept = (swap.revision, *(one for one in (before, *self.on_disk) if one))
        self.on_disk = tuple(dict.fromkeys(kept))[:2]
        self._swap = None

    def _refuse(self, swap: _Swap) -> None:
        refusal = Failure(
            revision=swap.revision,
            reason=FailureReason.EXAM_FAILED,
            message="simulated",
            at=swap.ends_at,
            retry=self._content(swap.revision).retry,
        )
        self.failures, self._swap = (refusal, *self.failures)[:10], None

    def _progress(self) -> Progress | None:
        if self._swap is None:
            return None
        phase = SwapPhase.FETCHING if self._swap.fetched else SwapPhase.LOADING
        return Progress(revision=self._swap.revision, phase=phase, message="simulated")

    def _counters(self, now: float) -> tuple[RevisionCounters, ...]:
        if self.serving is None:
            return ()
        served_s = max(0.0, now - self.serving.since)
        total = self._traffic(served_s)
        since = self.serving.since
        counted = RevisionCounters(
            revision=self.serving.revision, since=since, total=total, last_minute=total
        )
        return (counted,)

    def _traffic(self, served_s: float) -> Counters:
        assert self.serving is not None
        requests, failed = int(served_s * REQUESTS_PER_S), 0
        if self.habits.get(self.serving.revision) is Habit.FAILS_LATER:
            failed = int(max(0.0, served_s - FAILS_AFTER_S) * REQUESTS_PER_S / 2)
        counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        counts[LATENCY_BUCKET] = requests - failed
        spent_ms = LATENCY_BOUNDS_MS[LATENCY_BUCKET] * (requests - failed)
        return Counters(
            requests=requests,
            failures={"simulated": failed} if failed else {},
            latency=Latency(counts=tuple(counts), sum_ms=spent_ms),
        )


def _record(swap: _Swap, before: str | None) -> SwapRecord:
    took_ms = (swap.ends_at - swap.began_at) * 1000
    return SwapRecord(
        from_revision=before,
        to_revision=swap.revision,
        mode=SwapMode.OVERLAP,
        total_ms=took_ms,
        switch_ms=min(took_ms, DISK_SWAP_S * 1000),
        outage_ms=0.0,
        fetched=swap.fetched,
        at=swap.ends_at,
    )


def _habit_of(version: str) -> Habit | None:
    """Read a version's own habit: `3.0.0+fails-later` -> FAILS_LATER."""
    _, _, build = version.partition("+")
    return Habit(build) if build in set(Habit) else None
