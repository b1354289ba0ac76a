"""Conditions and phase: the state of a deployment in the words that tools and people read."""

from __future__ import annotations

from dataclasses import dataclass

from skerry_operator.api.base import Condition
from skerry_operator.api.v1alpha1.edgedeployment_status import Phase
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import RolloutFacts
from skerry_operator.decide.rollout import Transition


@dataclass(frozen=True)
class Hindrance:
    """What keeps the operator from its work, apart from the rollout itself."""

    reason: Reason
    """ModelNotFound, ModelInvalid, NoEligibleNodes or ApplyFailed."""
    message: str


@dataclass(frozen=True)
class Situation:
    """Everything that conditions are made from."""

    generation: int
    facts: RolloutFacts
    """`wanted` may be empty when there is no model."""
    transition: Transition | None
    """None: no step could be taken (no model and nothing that runs)."""
    hindrance: Hindrance | None = None
    polled: bool = True
    """The pods were asked in this reconcile; False keeps what was last known of availability."""


def conditions(previous: tuple[Condition, ...], situation: Situation) -> tuple[Condition, ...]:
    """Return all conditions; a lastTransitionTime moves only when its status does."""
    raise NotImplementedError


def phase(situation: Situation) -> Phase:
    """Return the one word for people."""
    raise NotImplementedError
