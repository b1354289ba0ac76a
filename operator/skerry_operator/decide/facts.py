"""What the rollout engine is told: units and verdict, in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from skerry_operator.api.v1alpha1.edgedeployment_status import Baseline, Measured

STATE_LIMIT = 300
"""Longest text about one unit: a kubelet may repeat a whole answer of a registry."""


class Verdict(StrEnum):
    """Outcome of an analysis, from best to worst."""

    SUCCESSFUL = "Successful"
    RUNNING = "Running"  # too few samples yet, under noData Hold
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"  # the source of the numbers is down
    FAILED = "Failed"


@dataclass(frozen=True)
class Value:
    """A number that was compared with a limit."""

    metric: str
    cell: str
    """Empty when it speaks of all cells at once."""
    value: float


@dataclass(frozen=True)
class Assessment:
    """A verdict with its reason for people, numbers included."""

    verdict: Verdict
    message: str
    metric: str = ""
    """Name of the metric that decided; empty when there is none."""
    no_data: bool = False
    """True when only missing samples keep the verdict from Successful."""
    values: tuple[Value, ...] = ()
    """All numbers that were compared, of every metric and cell."""


@dataclass(frozen=True)
class Fetching:
    """A download as the unit tells of it."""

    fetched: int
    """Bytes on disk."""
    total: int | None
    moved_at: datetime | None
    """When there were more bytes than ever, by the operator's clock."""
    bytes_per_s: float | None
    is_under_way: bool = True
    """False: it is over, and the unit does something else about the target."""


@dataclass(frozen=True)
class UnitFacts:
    """One unit as the engine sees it."""

    name: str
    cell: str
    site: str
    reachable: bool
    canary: bool = False
    """The node carries the canary label: chosen first."""
    assigned: str | None = None
    """Revision that the cluster's assignment gives it now."""
    serving: str | None = None
    """Revision that its pod says it serves; None: none, or no answer."""
    answered: bool = False
    """The pod answers."""
    is_confirmed: bool = True
    """It said so after the operator's last write: only then a step may end on it."""
    failure: str | None = None
    """Why it refuses the target: reason and message of its own report, or `CrashLoop: ...`. Only
    what was reported under the present `retry` text: an older refusal is None here."""
    fetching: Fetching | None = None
    """Its download of the target, if it had to fetch."""
    prefetched: bool | None = None
    """Whether it has the target's files without having been given it; None: it is not to."""
    prefetch_note: str = ""
    """Why it has not."""
    waiting: str = ""
    """What it is doing about the target, for people: `Fetching: HTTP 503; next try in 4 s`."""

    @property
    def state(self) -> str:
        """What keeps it from serving, in words that stay the same while nothing happens.

        What a pod says of its own work has numbers in it that move: only the phase is taken.
        """
        if self.failure is not None:
            return self.failure[:STATE_LIMIT]
        return self.waiting.partition(":")[0] if self.answered else self.waiting[:STATE_LIMIT]


@dataclass(frozen=True)
class Uncovered:
    """A unit that has a model, and that a revision has no build for."""

    name: str
    cell: str
    keeps: str
    """The revision that it has."""
    why: str
    """Why the other one is nothing for it, with the remedy."""
    counts: bool = True
    """It can be reached, and no hardware of it is merely missing for the moment."""


@dataclass(frozen=True)
class RolloutFacts:
    """Everything that one engine step is told."""

    now: datetime
    wanted: str
    """Revision that the spec asks for."""
    units: tuple[UnitFacts, ...]
    """Every eligible unit, offline ones included."""
    assessment: Assessment
    """Analysis of the target as things stand."""
    restorable: frozenset[str] = frozenset()
    """Revisions that have a snapshot."""
    promote: str | None = None
    """Value of the promote annotation."""
    abort: str | None = None
    """Value of the abort annotation."""
    target: str | None = None
    """Revision that `failure`, `waiting` and the assessment speak of (`rollout.subject_of`); the
    engine never holds what it hears of one revision against another. None: the state's target."""
    baseline: tuple[Baseline, ...] = ()
    """What stable does now, to be noted when a step takes units from it."""
    measured: tuple[Measured, ...] = ()
    """Measurements of the target so far, that of this look included."""
    uncovered: tuple[Uncovered, ...] = ()
    """Units that have a model, and none with the wanted revision."""
    replaced: tuple[str, ...] = ()
    """Why units need new pods for the wanted revision; empty: it is swapped in place."""
    is_return: bool = False
    """What the wanted revision asks for was stable before, in other runtime images."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Revision -> version of its model, for people."""

    def named(self, revision: str | None) -> str:
        """Return a revision for people, for example `1.2.0 (r1-0a1b2c3d4e)`."""
        version = self.versions.get(revision or "")
        return f"{version} ({revision})" if version else str(revision)
