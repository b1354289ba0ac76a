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
from skerry_operator.decide.windows import EARLIEST

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
MEASURED_STAGES = TARGET_STAGES - {Stage.PROMOTING}
"""Stages in which the target is measured."""


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
    interim: str | None = None
    """While nothing is stable: what served when a rollout began, and what that goes back to."""

    @classmethod
    def from_status(cls, status: EdgeDeploymentStatus) -> EngineState:
        """Return the state that a status keeps."""
        return cls(
            stable=status.stable_revision,
            interim=None if status.stable_revision else status.interim_revision,
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
                "interim_revision": self.interim,
                "target_revision": self.target,
                "failed_revisions": self.failed,
                "history": self.history,
                "rollout": self.rollout,
            }
        )

    @property
    def base(self) -> str | None:
        """What a rollout takes units from, and goes back to: stable, or what serves without it."""
        return self.stable or self.interim

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
        forgiven = self.without_failed(entry.revision)
        if self.interim is not None:  # it served, so its first deployment failing bars no way back
            forgiven = forgiven.without_failed(self.interim)
        return replace(
            forgiven,
            stable=entry.revision,
            interim=None,
            target=entry.revision,
            history=(entry, *others)[: earlier + 1],
        )

    def failure_of(self, revision: str) -> FailedRevision | None:
        """Return what is held against a revision, under whatever retry text."""
        return next((entry for entry in self.failed if entry.revision == revision), None)

    def refusal_of(self, revision: str, retry: str) -> FailedRevision | None:
        """Return what is held against a revision under this retry text."""
        entry = self.failure_of(revision)
        return entry if entry is not None and entry.retry == retry else None


def sane(state: EngineState, now: datetime) -> EngineState:
    """Return the state, or the safe one nearest to it when its parts contradict each other.

    A status can be edited, cut or written by another version. Nothing here gives a unit a
    revision that it would not have got anyway: in doubt the stage is Idle, and the spec decides.
    """
    state = state.with_rollout(**_of_wrong_clocks(state.rollout, now))
    stage = state.rollout.stage
    # a stage about a target, and no target: there is nothing to go on with
    if stage in TARGET_STAGES and state.target is None:
        return state.with_rollout(stage=Stage.IDLE)
    # back to nothing: the first deployment has no revision before it
    if stage is Stage.ROLLING_BACK and state.base is None:
        return state.with_rollout(stage=Stage.IDLE)
    # steps need another revision beside the target, Deploying must not have one
    if stage is Stage.STEPPING and state.base is None:
        state = state.with_rollout(stage=Stage.DEPLOYING)
    elif stage is Stage.DEPLOYING and state.base is not None:
        state = state.with_rollout(stage=Stage.STEPPING)
    # a soak without a beginning has not begun
    elif stage is Stage.SOAKING and state.rollout.soak_started_at is None:
        state = state.with_rollout(stage=stepping_stage(state))
    # a deadline without a beginning begins now
    if state.rollout.stage is not Stage.IDLE and state.rollout.progress_at is None:
        state = state.with_rollout(progress_at=now)
    return state


def _of_wrong_clocks(rollout: RolloutStatus, now: datetime) -> dict[str, datetime]:
    """Return the times that no clock can have shown, as now.

    A wait for one that is yet to come might never end; one of 1970 would end every wait at once.
    That is the clock of a node which was wrong for a while, or somebody's edit.
    """
    times = {name: getattr(rollout, name) for name in _TIMES}
    latest, first = now + CLOCK_TOLERANCE, min(now, EARLIEST)
    return {name: now for name, at in times.items() if at is not None and not first <= at <= latest}


def stepping_stage(state: EngineState) -> Stage:
    """Return the stage in which units get the target: Deploying when nothing served before."""
    return Stage.DEPLOYING if state.base is None else Stage.STEPPING


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
