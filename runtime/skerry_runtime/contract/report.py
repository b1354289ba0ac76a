"""The report: what a pod answers to GET /status."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skerry_runtime.contract.assignment import MAX_MODELS, SCHEMA, ModelName
from skerry_runtime.contract.base import (
    MAX_COUNT,
    ContractModel,
    Count,
    Line,
    Name,
    Number,
    Open,
    RevisionName,
    Sha256,
    Span,
    Text,
    ToldRetry,
)
from skerry_runtime.contract.words import FailureReason, GoldenMetric, SwapMode, SwapPhase

MAX_REPORT_BYTES = 64 * 1024
"""Largest report: what a pod says is never longer, and a reader reads no further."""

MAX_FAILURES = 10
MAX_COUNTED = 16
"""Most revisions and models with counters."""
MAX_KINDS = 16
"""Most kinds of failure that are counted apart."""

LATENCY_BOUNDS_MS: tuple[float, ...] = tuple(round(0.05 * 1.25**step, 4) for step in range(64))
"""Upper bounds of the latency histogram in milliseconds, 0.05 ms to about 64 s, 25 % apart;
a last bucket beyond them is implied, so a histogram has one count more than there are bounds."""

_BUCKETS = len(LATENCY_BOUNDS_MS) + 1


class Failure(ContractModel):
    """A revision that this pod refused."""

    revision: RevisionName
    reason: Open[FailureReason]
    message: Text
    at: Span
    """Unix seconds."""
    retry: ToldRetry | None = None
    """The assignment's `retry` under which it failed; None: this runtime does not say."""


class ExamResult(ContractModel):
    """Outcome of a golden exam."""

    metric: Open[GoldenMetric]
    value: Number
    threshold: Number
    passed: bool
    samples: Count


class Agreement(ContractModel):
    """How the answers of a prepared model compare with those that clients got."""

    compared: Count = 0
    """Answers that both models gave to the same input: items of a batch count one by one."""
    agreed: Count = 0
    errors: Count = 0
    """Of the compared: inputs on which the prepared model failed."""
    max_abs_error: Annotated[Number, Field(ge=0)] = 0.0
    """Largest difference of two finite values."""
    mean_ms: Span = 0.0
    """Mean run time of the prepared model on these inputs."""
    message: Text = ""
    """Why there is less than was asked for, or how the prepared model failed last."""


class Acceleration(ContractModel):
    """Which execution provider really took the graph."""

    requested: Annotated[tuple[Name, ...], Field(max_length=16)]
    effective: Line
    """Provider that runs most nodes."""
    delegated_percent: Annotated[float, Field(ge=0, le=100)]
    """Share of graph nodes on the requested providers before the CPU's, 0 to 100; where the CPU's
    comes first, on that."""
    nodes: Annotated[dict[Name, Count], Field(max_length=16)] = Field(default_factory=dict)
    """Provider -> how many graph nodes it took; empty where the engine keeps no record."""
    reason: Text = ""
    """Why a requested provider was not got; empty when all were."""


class MemoryNeed(ContractModel):
    """What a model takes of its pod's memory, and how that is known.

    What is declared counts before what was measured, and that before what is estimated.
    """

    declared_bytes: Count | None = None
    """What the spec says."""
    peak_bytes: Count | None = None
    """Measured in its trial: the most that loading it and one run took."""
    resting_bytes: Count | None = None
    """Measured in its trial: what it held after the run."""
    at: Line = ""
    """Inputs of that run, by name and shape."""
    estimated_bytes: Count | None = None
    """Made of the size of its files, where nothing was measured or declared."""


class Trial(ContractModel):
    """What was found out about a model before it served."""

    exam: ExamResult | None = None
    agreement: Agreement | None = None
    memory: MemoryNeed | None = None
    not_tried: Line = ""
    """What the engine said to made-up inputs, all of which it refused: the model was loaded, and
    never run, before it served. Empty: it ran, or nothing is known."""
    signed_by: Sha256 | None = None
    """Fingerprint of the key that vouched for its files; None: nobody had to."""


class ServedModel(Trial):
    """One model that answers requests."""

    version: Line
    variant: Name
    sha256: Sha256
    """Of the file that the engine opened."""
    acceleration: Acceleration | None = None


class Served(ContractModel):
    """The revision that answers requests."""

    revision: RevisionName
    since: Span
    """Unix seconds of the switch."""
    models: Annotated[dict[ModelName, ServedModel], Field(min_length=1, max_length=MAX_MODELS)]
    """Name under which clients ask for a model -> the model."""

    @property
    def name(self) -> str:
        """Name of the only model there is today, or of the first."""
        return next(iter(self.models))

    @property
    def model(self) -> ServedModel:
        """The only model there is today, or the first."""
        return self.models[self.name]

    @property
    def version(self) -> str:
        """Version of `model`."""
        return self.model.version

    @property
    def variant(self) -> str:
        """Variant of `model`."""
        return self.model.variant

    @property
    def exam(self) -> ExamResult | None:
        """Exam of `model`."""
        return self.model.exam

    @property
    def agreement(self) -> Agreement | None:
        """Shadow of `model`."""
        return self.model.agreement

    @property
    def acceleration(self) -> Acceleration | None:
        """Acceleration of `model`."""
        return self.model.acceleration


class Progress(ContractModel):
    """How far the pod is with the revision it was given."""

    revision: RevisionName
    phase: Open[SwapPhase]
    reason: Open[FailureReason] | None = None
    """Set when phase is Failed, and while a failed fetch waits for its next try."""
    message: Text = ""
    retry: ToldRetry | None = None
    """The assignment's `retry` under which it is tried; None: this runtime does not say."""
    attempt: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    fetched_bytes: Count = 0
    total_bytes: Count | None = None
    moved_at: Span | None = None
    """Unix seconds at which there were more bytes than ever; None: none came yet."""
    bytes_per_s: Annotated[Number, Field(ge=0)] | None = None
    """Mean rate of this download since it began, or went on."""
    trials: Annotated[dict[ModelName, Trial], Field(max_length=MAX_MODELS)] = Field(
        default_factory=dict
    )
    """Model -> what was found; also of an exam that was not passed, a shadow that disagreed."""

    @property
    def trial(self) -> Trial:
        """What was found about the only model there is today, or about the first."""
        return next(iter(self.trials.values()), Trial())

    @property
    def exam(self) -> ExamResult | None:
        """Exam of `trial`."""
        return self.trial.exam

    @property
    def agreement(self) -> Agreement | None:
        """Shadow of `trial`."""
        return self.trial.agreement


class Prefetched(ContractModel):
    """How far the pod is with the files of a revision that it may be given later."""

    revision: RevisionName
    is_done: bool = False
    """All its files are on the disk and were checked."""
    is_tried: bool = False
    """It has passed its trial in a child here as well: its step needs none."""
    message: Text = ""
    """Why not: a note, and no failure of the revision."""
    fetched_bytes: Count = 0
    total_bytes: Count | None = None


class Latency(ContractModel):
    """Histogram of request latency over LATENCY_BOUNDS_MS."""

    counts: Annotated[tuple[Count, ...], Field(min_length=_BUCKETS, max_length=_BUCKETS)] = (
        0,
    ) * _BUCKETS
    sum_ms: Annotated[Number, Field(ge=0)] = 0.0


class Counters(ContractModel):
    """Requests of one revision."""

    requests: Count = 0
    """All inference requests that ended, failed ones included."""
    failures: Annotated[dict[Name, Count], Field(max_length=MAX_KINDS)] = Field(
        default_factory=dict
    )
    """Server-side failures by kind; a client's bad request is not the model's failure."""
    rejected: Count = 0
    """Requests refused for the client's mistakes; in neither count above."""
    latency: Latency = Field(default_factory=Latency)
    """Of successful requests: from the request read to the answer ready."""


class RevisionCounters(ContractModel):
    """Counters of one revision in this process."""

    revision: RevisionName
    model: ModelName | None = None
    """One model of the revision; None: all its models together."""
    since: Span
    """Unix seconds of its activation."""
    total: Counters
    last_minute: Counters


class SwapRecord(ContractModel):
    """The last completed swap."""

    from_revision: RevisionName | None
    to_revision: RevisionName
    mode: Open[SwapMode]
    total_ms: Span
    """From the assignment read to the switch."""
    switch_ms: Span
    """Of the total: load, exam, warm-up and switch, when the file was on disk."""
    outage_ms: Span
    """Time without a serving model; 0 with Overlap."""
    fetched: bool
    """False when the file was already on disk."""
    at: Span


class StatusReport(ContractModel):
    """Answer of GET /status on the admin port."""

    schema_: int = Field(default=SCHEMA, alias="schema", ge=0, le=MAX_COUNT)
    unit: Name
    deployment: Annotated[str, Field(max_length=512)] | None = None
    cell: Name | None = None
    runtime_version: Line
    boot_id: Name
    """New with every start of the process, so that counters that begin again are seen."""
    started_at: Span
    now: Span
    """The pod's own clock, Unix seconds."""
    assignment: Name | None = None
    """sha256 of the assignment file's bytes that was last read."""
    assignment_error: Text | None = None
    assigned: RevisionName | None = None
    """Revision that the file gives to this unit."""
    serving: Served | None = None
    progress: Progress | None = None
    failures: Annotated[tuple[Failure, ...], Field(max_length=MAX_FAILURES)] = ()
    """Latest first."""
    on_disk: Annotated[tuple[RevisionName, ...], Field(max_length=32)] = ()
    """Revisions whose files are in the slots."""
    counters: Annotated[tuple[RevisionCounters, ...], Field(max_length=MAX_COUNTED)] = ()
    restarts: Annotated[dict[RevisionName, Count], Field(max_length=32)] | None = None
    """Revision -> how often this pod's process began again while it had or was activating it,
    since it was last given it; kept on the disk. None: this runtime does not count."""
    last_swap: SwapRecord | None = None
    prefetch: Prefetched | None = None
    """None: there is nothing to fetch ahead."""
    rss_bytes: Count | None = None
