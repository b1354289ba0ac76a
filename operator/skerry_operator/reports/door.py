"""The door: what a pod sends becomes a UnitReport of bounded size, or is refused with a reason.

The only place of the operator that reads the report of the contract. It names just the fields that
decisions need, takes words of a newer runtime as plain texts, and bounds every list and number:
no pod can make a decision of the operator impossible.
"""

from __future__ import annotations

from sys import intern
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from skerry_operator.decide.reported import (
    ReportedAcceleration,
    ReportedAgreement,
    ReportedCounters,
    ReportedDownload,
    ReportedExam,
    ReportedFailure,
    ReportedMemory,
    ReportedPrefetch,
    ReportedProgress,
    ReportedServing,
    ReportedSwap,
    ReportedTraffic,
    UnitReport,
)
from skerry_operator.reports.base import BODY_LIMIT, Question, ReadError, ReadResult
from skerry_runtime.contract import LATENCY_BOUNDS_MS, MAX_MODELS, SwapPhase

MOST = 2**53
"""Largest count: beyond it a float, which shares and quantiles are made of, skips numbers."""
MESSAGE_LIMIT = 512
"""Longest text of a pod's own that is kept; the rest is cut off."""
PROBLEM_LIMIT = 160
FAILURES_KEPT = 10
COUNTERS_KEPT = 4
"""Activations whose numbers are kept, latest first: a rollout compares two revisions."""
BUCKETS = len(LATENCY_BOUNDS_MS) + 1


def _printable(text: str) -> str:
    """Return the text on one line, without characters that do something to a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def _cut(text: str) -> str:
    return _printable(text[:MESSAGE_LIMIT])


Text = Annotated[str, AfterValidator(_cut)]
"""For people."""
Name = Annotated[str, StringConstraints(max_length=253), AfterValidator(_printable)]
"""For machines; the same few come from many pods, and one copy is kept of each."""
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=MOST)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class _Said(BaseModel):
    """A part of the document; what it does not name is passed over."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class _Exam(_Said):
    value: Number
    samples: Count

    def reduced(self) -> ReportedExam:
        return ReportedExam(self.value, self.samples)


class _Acceleration(_Said):
    effective: Text
    delegated_percent: Number

    def reduced(self) -> ReportedAcceleration:
        return ReportedAcceleration(intern(self.effective), self.delegated_percent)


class _Agreement(_Said):
    compared: Count = 0
    agreed: Count = 0
    message: Text = ""

    def reduced(self) -> ReportedAgreement:
        return ReportedAgreement(self.compared, min(self.agreed, self.compared), self.message)


class _Trial(_Said):
    exam: _Exam | None = None
    agreement: _Agreement | None = None


class _SaidMemory(_Said):
    declared_bytes: Count | None = None
    peak_bytes: Count | None = None
    estimated_bytes: Count | None = None

    def reduced(self) -> ReportedMemory | None:
        """Return what counts: what was declared, else measured, else estimated."""
        known = (
            (self.declared_bytes, "declared"),
            (self.peak_bytes, "measured"),
            (self.estimated_bytes, "estimated"),
        )
        found = (ReportedMemory(size, how) for size, how in known if size is not None)
        return next(found, None)


class _Served(_Trial):
    version: Text
    memory: _SaidMemory | None = None
    not_tried: Text = ""
    signed_by: Fingerprint | None = None
    acceleration: _Acceleration | None = None


class _Serving(_Said):
    revision: Name
    since: Number
    models: Annotated[dict[Name, _Served], Field(min_length=1, max_length=MAX_MODELS)]

    def reduced(self) -> ReportedServing:
        model = next(iter(self.models.values()))  # a revision has one model today
        return ReportedServing(
            revision=intern(self.revision),
            version=intern(model.version),
            since=self.since,
            exam=model.exam.reduced() if model.exam else None,
            acceleration=model.acceleration.reduced() if model.acceleration else None,
            agreement=model.agreement.reduced() if model.agreement else None,
            memory=model.memory.reduced() if model.memory else None,
            not_tried=intern(model.not_tried) if model.not_tried else None,
            signed_by=intern(model.signed_by) if model.signed_by else None,
        )


class _Progress(_Said):
    revision: Name
    phase: Name
    reason: Name | None = None
    message: Text = ""
    retry: Name | None = None
    fetched_bytes: Count = 0
    total_bytes: Count | None = None
    moved_at: Number | None = None
    bytes_per_s: Number | None = None
    trials: Annotated[dict[Name, _Trial], Field(max_length=MAX_MODELS)] = Field(
        default_factory=dict
    )

    def reduced(self) -> ReportedProgress:
        trial = next(iter(self.trials.values()), _Trial())
        return ReportedProgress(
            revision=intern(self.revision),
            phase=intern(self.phase),
            reason=self.reason and intern(self.reason),
            message=self.message,
            exam=trial.exam.reduced() if trial.exam else None,
            agreement=trial.agreement.reduced() if trial.agreement else None,
            retry=_interned(self.retry),
            download=self._download(),
        )

    def _download(self) -> ReportedDownload | None:
        if self.phase != SwapPhase.FETCHING and self.moved_at is None:
            return None
        return ReportedDownload(
            self.fetched_bytes, self.total_bytes, self.moved_at, self.bytes_per_s
        )


class _Failure(_Said):
    revision: Name
    reason: Name
    message: Text
    at: Number
    retry: Name | None = None

    def reduced(self) -> ReportedFailure:
        return ReportedFailure(
            intern(self.revision),
            intern(self.reason),
            self.message,
            self.at,
            _interned(self.retry),
        )


def _interned(text: str | None) -> str | None:
    return None if text is None else intern(text)


class _Latency(_Said):
    counts: Annotated[tuple[Count, ...], Field(max_length=256)] = (0,) * BUCKETS


class _Traffic(_Said):
    requests: Count = 0
    failures: Annotated[dict[str, Count], Field(max_length=64)] = Field(default_factory=dict)
    latency: _Latency = Field(default_factory=_Latency)

    def reduced(self) -> ReportedTraffic:
        counts = self.latency.counts
        known = counts if len(counts) == BUCKETS else ()  # what cannot be added up is not kept
        return ReportedTraffic(self.requests, sum(self.failures.values()), known)


class _Counters(_Said):
    revision: Name
    since: Number
    total: _Traffic
    last_minute: _Traffic

    def reduced(self) -> ReportedCounters:
        return ReportedCounters(
            intern(self.revision), self.since, self.total.reduced(), self.last_minute.reduced()
        )


class _Swap(_Said):
    at: Number
    outage_ms: Number

    def reduced(self) -> ReportedSwap:
        return ReportedSwap(self.at, self.outage_ms)


class _Prefetched(_Said):
    revision: Name
    is_done: bool = False
    message: Text = ""

    def reduced(self) -> ReportedPrefetch:
        return ReportedPrefetch(intern(self.revision), self.is_done, self.message)


class _Report(_Said):
    unit: Name
    deployment: Name | None = None
    now: Number
    assignment: Name | None = None
    assignment_error: Text | None = None
    assigned: Name | None = None
    serving: _Serving | None = None
    progress: _Progress | None = None
    failures: Annotated[tuple[_Failure, ...], Field(max_length=16)] = ()
    counters: Annotated[tuple[_Counters, ...], Field(max_length=16)] = ()
    restarts: Annotated[dict[Name, Count], Field(max_length=64)] | None = None
    last_swap: _Swap | None = None
    prefetch: _Prefetched | None = None

    def reduced(self, now_s: float, *, with_counters: bool) -> UnitReport:
        counters = self._latest_counters() if with_counters else []
        return UnitReport(
            unit=intern(self.unit),
            clock_ahead_s=self.now - now_s,
            assignment=self.assignment and intern(self.assignment),
            assignment_error=self.assignment_error,
            assigned=self.assigned and intern(self.assigned),
            serving=self.serving.reduced() if self.serving else None,
            progress=self._progress(),
            failures=tuple(failure.reduced() for failure in self.failures[:FAILURES_KEPT]),
            counters=tuple(entry.reduced() for entry in counters),
            restarts=self._restarts(),
            last_swap=self.last_swap.reduced() if self.last_swap else None,
            prefetch=self.prefetch.reduced() if self.prefetch else None,
        )

    def _progress(self) -> ReportedProgress | None:
        """Return how far the pod is; where it serves what it was given, `serving` says it all."""
        progress, serving = self.progress, self.serving
        if progress is None:
            return None
        is_there = serving is not None and serving.revision == progress.revision
        return None if is_there and progress.phase == SwapPhase.SERVING else progress.reduced()

    def _latest_counters(self) -> list[_Counters]:
        return sorted(self.counters, key=lambda entry: -entry.since)[:COUNTERS_KEPT]

    def _restarts(self) -> int | None:
        if self.restarts is None:
            return None
        return self.restarts.get(self.assigned or "", 0)


def let_in(body: bytes, question: Question, now_s: float, *, with_counters: bool) -> UnitReport:
    """Return the report, when it is one and speaks of the pod that was asked.

    `now_s` is the operator's time when it came, in Unix seconds.

    Raises:
        ReadError: it does not, or a list or number of it is out of bounds.
    """
    if len(body) > BODY_LIMIT:
        raise ReadError(ReadResult.TOO_LARGE, f"more than {BODY_LIMIT} bytes")
    try:
        said = _Report.model_validate_json(body)
    except ValidationError as error:
        raise ReadError(ReadResult.GARBAGE, _first_problem(error)) from error
    wanted = "/".join(question.deployment)
    if said.unit != question.pod.unit or said.deployment not in (None, wanted):
        who = f"{said.deployment} on {said.unit}"[:PROBLEM_LIMIT]
        raise ReadError(ReadResult.STRANGER, f"the answer is of {who}, not of {wanted}")
    return said.reduced(now_s, with_counters=with_counters)


def _first_problem(error: ValidationError) -> str:
    """Return for example `serving.exam.samples: Input should be greater than or equal to 0`."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    text = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return _printable(text[:PROBLEM_LIMIT])
