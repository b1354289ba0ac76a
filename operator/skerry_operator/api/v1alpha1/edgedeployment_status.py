"""Status of an EdgeDeployment: what people read, and what a restarted operator goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from skerry_operator.api.base import (
    Condition,
    LabelKey,
    LabelValue,
    LongText,
    Name,
    Revision,
    Sha256,
    ShortText,
)
from skerry_operator.api.tolerant import EPOCH, Time, TolerantModel
from skerry_runtime.contract.base import Open

Count = Annotated[int, Field(ge=0)]


class Phase(StrEnum):
    """One word for people; no code reads it."""

    PENDING = "Pending"
    DEPLOYING = "Deploying"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    ROLLING_BACK = "RollingBack"
    STABLE = "Stable"
    ROLLED_BACK = "RolledBack"
    DEGRADED = "Degraded"
    FAILED = "Failed"


class Stage(StrEnum):
    """Where the rollout engine stands."""

    IDLE = "Idle"
    DEPLOYING = "Deploying"
    STEPPING = "Stepping"
    SOAKING = "Soaking"
    PAUSED = "Paused"
    ROLLING_BACK = "RollingBack"
    PROMOTING = "Promoting"

    @classmethod
    @override
    def _missing_(cls, value: object) -> Stage:
        """Read a stage of a newer operator as Idle: every unit keeps, or returns to, stable."""
        return cls.IDLE


class FailedRevision(TolerantModel):
    """A revision that is not tried again until `retry` changes."""

    revision: Revision
    """The revision."""
    reason: ShortText = ""
    """The failed check."""
    message: LongText = ""
    """The failed check with its numbers."""
    at: Time = EPOCH
    """When it failed."""
    retry: Annotated[str, Field(max_length=64)] = ""
    """Value of spec.rollout.retry when it failed."""
    version: ShortText | None = None
    """Version of its model."""


class HistoryEntry(TolerantModel):
    """A revision that was stable."""

    revision: Revision
    """The revision."""
    version: ShortText = ""
    """The model's version."""
    promoted_at: Time = EPOCH
    """When it became stable."""


BASELINE_LIMIT = 128
"""Most entries of a baseline: a few metrics in dozens of cells."""


class Baseline(TolerantModel):
    """What stable did in a cell before a step took its units: what a ratio is held against."""

    cell: Name
    """The cell."""
    metric: ShortText
    """The metric."""
    value: ShortText
    """Its value, a decimal: milliseconds for a latency."""
    samples: Count
    """How many samples it is made from."""


MEASURED_LIMIT = 256
"""Most metrics and cells whose measurements are counted."""


class Measured(TolerantModel):
    """The measurements of a metric in a cell, since the rollout began."""

    metric: ShortText
    """The metric with its limit."""
    cell: Annotated[str, Field(max_length=63)] = ""
    """The cell; empty: a query, which speaks of all."""
    taken: Count = 0
    """Measurements."""
    failed: Count = 0
    """Those beyond the limit."""
    errors: Count = 0
    """Latest ones in succession that could not be taken."""
    at: Time = EPOCH
    """When the latest one was taken, or tried."""
    is_good: bool = False
    """The latest one that was taken is within the limit."""
    message: LongText = ""
    """The latest one with its numbers."""


class RolloutStatus(TolerantModel):
    """All that a restarted operator needs to go on."""

    stage: Stage = Stage.IDLE
    """Where the engine stands."""
    step: Count = 0
    """Index of the current step, from 0."""
    from_revision: Revision | None = None
    """Stable revision when the rollout began; absent on the first deployment."""
    is_return: bool | None = None
    """True: what the target asks for was stable before, in other runtime images. It needs no steps
    and no analysis."""
    started_at: Time | None = None
    """When the rollout of the target began."""
    step_started_at: Time | None = None
    """When the current step's units were given the target."""
    soak_started_at: Time | None = None
    """When all units of the step served."""
    progress_at: Time | None = None
    """Last real progress: a step began, or more units than ever served the target."""
    best_serving: Count = 0
    """Most units of this step that ever served the target at once; flapping is no progress."""
    paused_at: Time | None = None
    """When the pause began."""
    pause_reason: ShortText | None = None
    """Why the rollout waits."""
    rollback_at: Time | None = None
    """When the decision to roll back was made."""
    reason: ShortText | None = None
    """Reason of the last decision."""
    message: LongText | None = None
    """The last decision with its numbers."""
    finished_at: Time | None = None
    """When the last rollout ended."""
    baseline: Annotated[tuple[Baseline, ...], Field(max_length=BASELINE_LIMIT)] = ()
    """What stable did before, for metrics with a ratio to it."""
    measured: Annotated[tuple[Measured, ...], Field(max_length=MEASURED_LIMIT)] = ()
    """Measurements of metrics that are measured again and again."""


class UnitCounts(TolerantModel):
    """Units by state."""

    eligible: Count = 0
    """Units that the placement names, offline ones included."""
    updated: Count = 0
    """Units that serve the target."""
    serving: Count = 0
    """Units that serve some model."""
    failed: Count = 0
    """Units that refuse the target."""
    offline: Count = 0
    """Units whose node cannot be reached; in no denominator."""


SIGNERS_LIMIT = 8
"""Most fingerprints that are told of a cell."""


class CellStatus(TolerantModel):
    """One cell: units of one profile and architecture."""

    name: Name
    """Name of the cell, and of its ConfigMap."""
    profile: ShortText
    """Accelerator profile."""
    arch: ShortText
    """CPU architecture."""
    variant: ShortText | None = None
    """Variant of the wanted revision, or of the one that is kept."""
    keeps: Revision | None = None
    """Revision that these units keep, as there is no build of the wanted one for them."""
    provider: ShortText | None = None
    """Execution provider that was measured."""
    units: Count = 0
    """Units in the cell."""
    updated: Count = 0
    """Units that serve the target."""
    accelerated_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Smallest measured share of the graph on the wanted provider."""
    max_outage_ms: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Longest time that a unit was without a serving model in the last rollout or rollback, in
    milliseconds: measured by the pod for a swap in place, else from the end of the old pod."""
    memory: ShortText | None = None
    """The most that the served model takes of a pod's memory, and how that is known, for example
    `412Mi measured`: in its trial, with the exam's first rows or the smallest input; declared, in
    the variant's memory; or estimated from the size of its files."""
    not_tried: ShortText | None = None
    """Why a pod serves the model without having run it before: what its engine said to made-up
    inputs. An exam tries it."""
    signed_by: Annotated[tuple[Sha256, ...], Field(max_length=SIGNERS_LIMIT)] | None = None
    """Fingerprints of the keys that vouched for what the pods serve; more than one while a key
    takes the place of another. Absent: nobody has to."""


class RejectedNode(TolerantModel):
    """A node that matches the selector and gets no unit."""

    node: ShortText
    """The node."""
    reason: ShortText
    """Why."""
    message: LongText
    """Why, and what would help."""


class LostHardware(TolerantModel):
    """A placed unit whose accelerator is not allocatable at the moment."""

    node: ShortText
    """The node."""
    since: Time
    """When it was first missed."""


class Replacement(TolerantModel):
    """A unit whose pod was ended for a new one that does not serve yet."""

    unit: ShortText
    """The unit."""
    since: Time
    """When the old pod was ended."""


MOST_BYTES = 2**53 - 1
"""Most bytes that a status tells: the API server compares with limits as floats."""


class DownloadStatus(TolerantModel):
    """Downloads of the target that are under way; written once in 10 s at most."""

    units: Count = 0
    """Units that fetch."""
    fetched_bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)] = 0
    """Bytes that they have."""
    total_bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)] | None = None
    """Bytes in all; absent while a source does not tell."""
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """What they have of all."""
    seconds_left: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long the slowest of them takes yet, at its rate so far."""
    at: Time = EPOCH
    """When this was so."""


class PrefetchStatus(TolerantModel):
    """The target's files on units whose turn has not come; written once in 10 s at most."""

    units: Count = 0
    """Units that fetch them ahead."""
    done: Count = 0
    """Units that have them, checked."""
    message: LongText = ""
    """Why others have them not: notes, and no failures."""
    at: Time = EPOCH
    """When this was so."""


class PlacementInForce(TolerantModel):
    """Where the units are placed by: a change of the spec that would leave too few is held."""

    node_selector: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] | None = None
    """As in the spec; absent when empty: of an applied map whose last key goes the API server
    makes null, and refuses that."""
    accelerators: Annotated[tuple[ShortText, ...], Field(max_length=16)] = ()
    """As in the spec."""
    fallback: ShortText = "Allow"
    """As in the spec."""


OFFERS_LIMIT = 16
"""Most images of an upgrade that are told: one for each profile in use."""


class ImageOffer(TolerantModel):
    """An image of the operator that pods of a profile do not run in."""

    profile: ShortText
    """The profile."""
    runs: Annotated[str, Field(max_length=512)]
    """Image of its pods."""
    offered: Annotated[str, Field(max_length=512)]
    """The operator's."""


class UpgradeOffer(TolerantModel):
    """Images of the operator that the pods do not run in: newer ones, or older ones again."""

    image_set: ShortText
    """Name of the operator's images: what the annotation skerry.dev/upgrade takes."""
    policy: ShortText = ""
    """What becomes of it: Pinned, WithNextChange or Rollout."""
    images: Annotated[tuple[ImageOffer, ...], Field(max_length=OFFERS_LIMIT)] = ()
    """The images, by profile."""
    message: LongText = ""
    """The same for people, and what to do."""


class EdgeDeploymentStatus(TolerantModel):
    """State of a model on a fleet."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec that this status speaks of."""
    phase: Open[Phase] | None = None
    """One word for people; never read by code."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Ready, Available, Progressing and Placed; Reconciling and Stalled only while true."""
    model_version: ShortText | None = None
    """Version of the wanted model."""
    stable_revision: Revision | None = None
    """Revision that is known good."""
    interim_revision: Revision | None = None
    """While nothing is stable: what served when the rollout of another revision began, and what
    that goes back to. It never passed."""
    target_revision: Revision | None = None
    """Revision that is being rolled out; equal to stable when there is nothing to do."""
    failed_revisions: Annotated[tuple[FailedRevision, ...], Field(max_length=20)] = ()
    """Revisions that failed, newest first."""
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=51)] = ()
    """Revisions that were stable, newest first."""
    step: ShortText | None = None
    """Step of the rollout, for example 2/4."""
    rollout: RolloutStatus = RolloutStatus()
    """All that a restarted operator needs to go on."""
    placement_in_force: PlacementInForce | None = None
    """What of spec.placement is carried out; another value than the spec's while that is held."""
    units: UnitCounts = UnitCounts()
    """Units by state."""
    units_text: ShortText | None = None
    """Serving units of all eligible ones, for example 3/3: the column UNITS."""
    replicas: Count | None = None
    """Units that were placed, for `kubectl scale` and autoscalers; absent with mode PerNode."""
    service: ShortText | None = None
    """Name of the Service that clients ask; a name that is no DNS label of its own has a hash."""
    selector: ShortText | None = None
    """Label selector of the pods, for autoscalers; absent with mode PerNode."""
    cells: Annotated[tuple[CellStatus, ...], Field(max_length=64)] = ()
    """Cells of the deployment."""
    rejected_nodes: Annotated[tuple[RejectedNode, ...], Field(max_length=20)] = ()
    """Some of the nodes that get no unit, with the reason; or that a held version has none for."""
    rejected_count: Count = 0
    """How many nodes get no unit."""
    lost_hardware: Annotated[tuple[LostHardware, ...], Field(max_length=100)] = ()
    """Units that stay where they are although their accelerator is missing, for a grace period."""
    prefetch: PrefetchStatus | None = None
    """What units fetch before it is their turn; absent while there is nothing."""
    download: DownloadStatus | None = None
    """Downloads of the target; absent while nobody fetches."""
    upgrade: UpgradeOffer | None = None
    """Images of the operator that stable does not run in; absent when it runs in them."""
    replacing: Annotated[tuple[Replacement, ...], Field(max_length=100)] = ()
    """Units whose pod is being replaced: the outage is timed."""
