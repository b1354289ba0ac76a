"""Status of an EdgeDeployment: what people read, and what a restarted operator goes on from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from skerry_operator.api.base import Condition, LongText, Name, Revision, ShortText
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


class RolloutStatus(TolerantModel):
    """All that a restarted operator needs to go on."""

    stage: Stage = Stage.IDLE
    """Where the engine stands."""
    step: Count = 0
    """Index of the current step, from 0."""
    from_revision: Revision | None = None
    """Stable revision when the rollout began; absent on the first deployment."""
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


class CellStatus(TolerantModel):
    """One cell: units of one profile and architecture."""

    name: Name
    """Name of the cell, and of its ConfigMap."""
    profile: ShortText
    """Accelerator profile."""
    arch: ShortText
    """CPU architecture."""
    variant: ShortText | None = None
    """Variant of the wanted revision."""
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
    units: UnitCounts = UnitCounts()
    """Units by state."""
    units_text: ShortText | None = None
    """Serving units of all eligible ones, for example 3/3: the column UNITS."""
    cells: Annotated[tuple[CellStatus, ...], Field(max_length=64)] = ()
    """Cells of the deployment."""
    rejected_nodes: Annotated[tuple[RejectedNode, ...], Field(max_length=20)] = ()
    """Some of the nodes that get no unit, with the reason."""
    rejected_count: Count = 0
    """How many nodes get no unit."""
    lost_hardware: Annotated[tuple[LostHardware, ...], Field(max_length=100)] = ()
    """Units that stay where they are although their accelerator is missing, for a grace period."""
    replacing: Annotated[tuple[Replacement, ...], Field(max_length=100)] = ()
    """Units whose pod is being replaced: the outage is timed."""
