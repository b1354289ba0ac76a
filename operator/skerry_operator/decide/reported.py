"""What a pod said of itself, reduced to what decisions read.

The names are those of the contract's report; what decisions do not need is not here, and words
that a newer runtime may add (a phase, a reason) are plain texts. Numbers are finite and bounded:
`reports/door.py` lets in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ReportedExam:
    """Outcome of a golden exam."""

    value: float
    samples: int


@dataclass(frozen=True, slots=True)
class ReportedAcceleration:
    """Which execution provider really took the graph."""

    effective: str
    delegated_percent: float


@dataclass(frozen=True, slots=True)
class ReportedAgreement:
    """How the answers of a prepared model compare with those that clients got."""

    compared: int = 0
    agreed: int = 0
    message: str = ""
    """Why there is less than was asked for."""


@dataclass(frozen=True, slots=True)
class ReportedMemory:
    """What a model takes of a pod's memory, and how that is known."""

    needed_bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class ReportedServing:
    """The revision that answers requests."""

    revision: str
    version: str
    since: float
    """Unix seconds of the switch, by the pod's clock."""
    exam: ReportedExam | None = None
    acceleration: ReportedAcceleration | None = None
    agreement: ReportedAgreement | None = None
    memory: ReportedMemory | None = None
    not_tried: str | None = None
    """Why the model was never run before it served; None: it was."""
    signed_by: str | None = None
    """Fingerprint of the key that vouched for its files; None: nobody had to."""


@dataclass(frozen=True, slots=True)
class ReportedDownload:
    """How far a download is."""

    fetched_bytes: int
    total_bytes: int | None
    moved_at: float | None
    """When there were more bytes than ever, in Unix seconds by the pod's clock."""
    bytes_per_s: float | None


@dataclass(frozen=True, slots=True)
class ReportedProgress:
    """How far the pod is with the revision that it was given."""

    revision: str
    phase: str
    reason: str | None = None
    message: str = ""
    exam: ReportedExam | None = None
    agreement: ReportedAgreement | None = None
    retry: str | None = None
    """The retry text under which the pod tries it; None: its runtime does not say."""
    download: ReportedDownload | None = None
    """None: it did not have to fetch, or long ago."""


@dataclass(frozen=True, slots=True)
class ReportedFailure:
    """A revision that the pod refused."""

    revision: str
    reason: str
    message: str
    at: float
    """Unix seconds, by the pod's clock."""
    retry: str | None = None
    """The retry text under which it was tried; None: the pod's runtime does not say."""


@dataclass(frozen=True, slots=True)
class ReportedTraffic:
    """Requests of one revision."""

    requests: int = 0
    """All that ended, failed ones included."""
    failures: int = 0
    latency: tuple[int, ...] = ()
    """Histogram of successful requests, as the contract's LATENCY_BOUNDS_MS divides them."""


@dataclass(frozen=True, slots=True)
class ReportedCounters:
    """What one activation of a revision did."""

    revision: str
    since: float
    total: ReportedTraffic
    last_minute: ReportedTraffic


@dataclass(frozen=True, slots=True)
class ReportedSwap:
    """The last completed swap."""

    at: float
    """Unix seconds, by the pod's clock."""
    outage_ms: float


@dataclass(frozen=True, slots=True)
class ReportedPrefetch:
    """How far a pod is with the files of a revision that it may be given later."""

    revision: str
    is_done: bool = False
    message: str = ""
    """Why they are not all there."""


@dataclass(frozen=True, slots=True)
class UnitReport:
    """One answer of one pod."""

    unit: str
    clock_ahead_s: float = 0.0
    """The pod's clock minus the operator's, when the answer came."""
    assignment: str | None = None
    """Digest of the file that the pod read last."""
    assignment_error: str | None = None
    assigned: str | None = None
    """Revision that the file gives to this unit."""
    serving: ReportedServing | None = None
    progress: ReportedProgress | None = None
    failures: tuple[ReportedFailure, ...] = ()
    """Latest first."""
    counters: tuple[ReportedCounters, ...] = ()
    """Empty too while nothing needs them."""
    restarts: int | None = None
    """How often the process began again with `assigned`; None: the runtime does not count."""
    last_swap: ReportedSwap | None = None
    prefetch: ReportedPrefetch | None = None
    """None: there is nothing that it fetches ahead."""

    def pod_now(self, now: datetime) -> float:
        """Return what the pod's clock shows at the operator's `now`, in Unix seconds."""
        return now.timestamp() + self.clock_ahead_s

    @property
    def is_settled(self) -> bool:
        """Tell whether the pod serves what it was given, so that nothing new is expected of it."""
        return self.serving is not None and self.serving.revision == self.assigned

    @property
    def is_refusing(self) -> bool:
        """Tell whether the pod refuses what it was given."""
        return any(failure.revision == self.assigned for failure in self.failures)
