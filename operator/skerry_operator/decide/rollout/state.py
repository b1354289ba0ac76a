"""State of the rollout engine: what the status keeps of it, and how it changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment_status import (
    BASELINE_LIMIT,
    Baseline,
    EdgeDeploymentStatus,
    FailedRevision,
    HistoryEntry,
    RolloutStatus,
    Stage,
)

FAILED_LIMIT = 20
"""Failed revisions that are remembered; the bound of the status field."""
MESSAGE_LIMIT = 1024
"""Bound of the long texts of the status."""
REASON_LIMIT = 256
"""Bound of the short texts of the status."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the clocks of two operators may be apart."""
_TIMES = ("started_at", "step_started_at", "soak_started_at", "progress_at", "paused_at")

TARGET_STAGES = frozenset(
    {Stage.DEPLOYING, Stage.STEPPING, Stage.SOAKING, Stage.PAUSED, Stage.PROMOTING}
)
"""Stages that mean nothing without a target."""


@dataclass(frozen=True)
class EngineState:
    """Exactly what is kept in the status between two steps."""

    stable: str | None = None
    """Revision that is known good."""
    target: str | None = None
    """Revision that is being rolled out; equal to stable when there is nothing to do."""
    failed: tuple[FailedRevision, ...] = ()
    """Newest first."""
    history: tuple[HistoryEntry, ...] = ()
    """Revisions that were stable, newest first: the present one leads."""
    rollout: RolloutStatus = field(default_factory=RolloutStatus)

    @classmethod
    def from_status(cls, status: EdgeDeploymentStatus) -> EngineState:
        """Return the state that a status keeps."""
        return cls(
            stable=status.stable_revision,
            target=status.target_revision,
            failed=status.failed_revisions,
            history=status.history,
            rollout=status.rollout,
        )

    def for_status(self, status: EdgeDeploymentStatus) -> EdgeDeploymentStatus:
        """Return the status with this state in it, all else as it was."""
        return status.model_copy(
            update={
                "stable_revision": self.stable,
                "target_revision": self.target,
                "failed_revisions": self.failed,
                "history": self.history,
                "rollout": self.rollout,
            }
        )

    def with_rollout(self, **changes: Any) -> EngineState:
        """Return the state with some fields of its rollout changed."""
        return replace(self, rollout=self.rollout.model_copy(update=changes))

    def with_failed(self, entry: FailedRevision) -> EngineState:
        """Return the state that remembers a failure, one entry for each revision."""
        others = self.without_failed(entry.revision).failed
        return replace(self, failed=(entry, *others)[:FAILED_LIMIT])

    def without_failed(self, revision: str) -> EngineState:
        """Return the state that holds nothing against the revision."""
        kept = tuple(entry for entry in self.failed if entry.revision != revision)
        return replace(self, failed=kept)

    def with_stable(self, entry: HistoryEntry, earlier: int) -> EngineState:
        """Return the state with a new stable revision; `earlier` others stay in the history."""
        others = tuple(past for past in self.history if past.revision != entry.revision)
        return replace(
            self.without_failed(entry.revision),
            stable=entry.revision,
            target=entry.revision,
            history=(entry, *others)[: earlier + 1],
        )

    def failure_of(self, revision: str) -> FailedRevision | None:
        """Return what is held against a revision, under whatever retry text."""
        return next((entry for entry in self.failed if entry.revision == revision), None)


def sane(state: EngineState, now: datetime) -> EngineState:
    """Return the state, or the safe one nearest to it when its parts contradict each other.

    A status can be edited, cut or written by another version. Nothing here gives a unit a
    revision that it would not have got anyway: in doubt the stage is Idle, and the spec decides.
    """
    state = state.with_rollout(**_from_the_future(state.rollout, now))
    stage = state.rollout.stage
    # a stage about a target, and no target: there is nothing to go on with
    if stage in TARGET_STAGES and state.target is None:
        return state.with_rollout(stage=Stage.IDLE)
    # back to nothing: the first deployment has no revision before it
    if stage is Stage.ROLLING_BACK and state.stable is None:
        return state.with_rollout(stage=Stage.IDLE)
    # steps need a stable revision beside the target, Deploying must not have one
    if stage is Stage.STEPPING and state.stable is None:
        state = state.with_rollout(stage=Stage.DEPLOYING)
    elif stage is Stage.DEPLOYING and state.stable is not None:
        state = state.with_rollout(stage=Stage.STEPPING)
    # a soak without a beginning has not begun
    elif stage is Stage.SOAKING and state.rollout.soak_started_at is None:
        state = state.with_rollout(stage=stepping_stage(state))
    # a deadline without a beginning begins now
    if state.rollout.stage is not Stage.IDLE and state.rollout.progress_at is None:
        state = state.with_rollout(progress_at=now)
    return state


def _from_the_future(rollout: RolloutStatus, now: datetime) -> dict[str, datetime]:
    """Return the times that no clock can have shown yet, as now: a wait for them might never end.

    That is the clock of a node which was wrong for a while, or somebody's edit.
    """
    times = {name: getattr(rollout, name) for name in _TIMES}
    latest = now + CLOCK_TOLERANCE
    return {name: now for name, at in times.items() if at is not None and at > latest}


def stepping_stage(state: EngineState) -> Stage:
    """Return the stage in which units get the target: Deploying when nothing was stable yet."""
    return Stage.DEPLOYING if state.stable is None else Stage.STEPPING


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return the text, cut to what the status takes.

    >>> clip("abcdef", 5)
    'ab...'
    """
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def merged(known: tuple[Baseline, ...], news: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
    """Return the entries with newer ones in their places."""
    entries = {(entry.cell, entry.metric): entry for entry in (*known, *news)}
    return tuple(entries[key] for key in sorted(entries))[:BASELINE_LIMIT]
