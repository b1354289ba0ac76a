"""The rollout engine: one look at the fleet in, the next state and what every unit must run out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import RolloutFacts
from skerry_operator.decide.planned import EventNote
from skerry_operator.decide.rollout_state import EngineState

__all__ = ["EngineState", "Transition", "step", "step_label", "subject_of"]


@dataclass(frozen=True)
class Transition:
    """What one engine step decided."""

    state: EngineState
    desired: Mapping[str, str | None]
    """Every eligible unit -> the revision it must be given now."""
    default: str | None
    """Revision of units without an entry: new ones, returning ones."""
    reason: Reason
    message: str
    """Also for a stay: why nothing moves."""
    events: tuple[EventNote, ...]
    requeue_after_s: float | None
    active: bool
    """A rollout or rollback is under way: poll the pods."""


def subject_of(state: EngineState, wanted: str) -> str:
    """Return the revision that failures, waiting texts and the assessment must speak of."""
    raise NotImplementedError


def step_label(spec: Rollout, state: EngineState) -> str | None:
    """Return the step for people, for example `2/4`; None when no rollout is under way."""
    raise NotImplementedError


def step(spec: Rollout, state: EngineState, facts: RolloutFacts) -> Transition:
    """Return the next state and what follows from it."""
    raise NotImplementedError
