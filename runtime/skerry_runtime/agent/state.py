"""What the agent remembers over a restart: what served, what crashed, what was refused.

Values only; `files` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.machine import MAX_CRASHES
from skerry_runtime.contract import (
    MAX_COUNTED,
    MAX_FAILURES,
    Agreement,
    Execution,
    Failure,
    FailureReason,
    MemoryNeed,
    RetryText,
    RevisionContent,
    Trial,
)

MAX_REFUSALS = MAX_FAILURES
MAX_HISTORY = 3


class Document(BaseModel):
    """Base of what is written to the slots."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SlotManifest(Document):
    """One revision in the slots."""

    revision: str
    content: RevisionContent
    execution: Execution
    probed: str = ""
    """Under which runtime and providers the probe was passed."""
    memory: MemoryNeed | None = None
    """What the probe measured."""
    not_tried: str = ""
    """Why the probe did not run the model."""
    signed_by: str = ""
    """Fingerprint of the key that vouched for the files."""
    signed_files: str = ""
    """Digest of what it vouched for, as an engine sees it."""

    @classmethod
    def of(cls, goal: Goal, probed: str = "", found: Trial | None = None) -> SlotManifest:
        """Describe a goal, and what its probe found."""
        found = found or Trial()
        return cls(
            revision=goal.revision,
            content=goal.content,
            execution=goal.execution,
            probed=probed,
            memory=found.memory,
            not_tried=found.not_tried,
        )

    @cached_property  # with it the goal's key, which is asked for at every step and every look
    def goal(self) -> Goal:
        """The goal that this manifest was made of."""
        return Goal(self.revision, self.content, self.execution)


class Kept(Document):
    """A revision that served here."""

    revision: str
    key: str
    settled: bool = False
    """It served for the whole settling time."""
    agreements: Mapping[str, Agreement] = Field(default_factory=dict)
    """Model -> how its shadow went."""


class Activation(Document):
    """A revision that is being activated, written before it can crash the process."""

    revision: str
    key: str
    crashes: int
    """Crashes there will have been if the process ends now."""
    retry: RetryText | None = None
    """Text under which it is tried; None: an older runtime did not note it."""


class RefusalRecord(Document):
    """A goal that failed here."""

    key: str
    failure: Failure
    trials: Mapping[str, Trial] = Field(default_factory=dict)
    """Model -> what was found out about it before the failure."""


class NodeState(Document):
    """The agent's memory; every change is a new value."""

    history: tuple[Kept, ...] = ()
    """What served, latest first."""
    activation: Activation | None = None
    refusals: tuple[RefusalRecord, ...] = ()
    """Latest first."""
    restarts: dict[str, int] = Field(default_factory=dict)
    """Revision -> how often the process began again on it since it was last given."""
    ended_for: str = ""
    """Revision for whose load the process ended itself; empty: it did not."""

    def with_served(self, goal: Goal, agreement: Agreement | None = None) -> NodeState:
        """Put the goal first in the history; what is given anew has no restarts yet."""
        known = next((k for k in self.history if k.key == goal.key), None)
        first = known or Kept(revision=goal.revision, key=goal.key)
        agreements = {goal.name: agreement} if agreement else {}
        first = first.model_copy(update={"agreements": agreements})
        rest = tuple(k for k in self.history if k.revision != goal.revision)
        history = _bounded(first, rest)
        counted = {k.revision for k in history} - ({goal.revision} if self._is_new(goal) else set())
        restarts = {name: count for name, count in self.restarts.items() if name in counted}
        return self.model_copy(update={"history": history, "restarts": restarts})

    def _is_new(self, goal: Goal) -> bool:
        """Tell whether the goal takes over now, and did not crash on its way."""
        activation = self.activation
        has_crashed = bool(activation and activation.key == goal.key and activation.crashes > 1)
        return not has_crashed and (not self.history or self.history[0].key != goal.key)

    def agreement_of(self, goal: Goal) -> Agreement | None:
        """Return how the shadow of a goal that served went."""
        known = next((k.agreements for k in self.history if k.key == goal.key), {})
        return next(iter(known.values()), None)

    def with_settled(self) -> NodeState:
        """Count the revision that serves as good."""
        if not self.history:
            return self.without_activation()
        first = self.history[0].model_copy(update={"settled": True})
        settled = self.model_copy(update={"history": (first, *self.history[1:])})
        return settled.without_activation_of(first.key)

    def with_activation(self, goal: Goal) -> NodeState:
        """Count a crash of this goal before it happens; a good revision is not counted."""
        if self.is_settled(goal.key):
            return self.without_activation()
        same = self.activation if self.activation and self.activation.key == goal.key else None
        crashes = (same.crashes if same else 0) + 1
        activation = Activation(
            revision=goal.revision, key=goal.key, crashes=crashes, retry=goal.retry
        )
        return self.model_copy(update={"activation": activation})

    def without_activation(self) -> NodeState:
        """Forget the crash that did not happen."""
        return self.model_copy(update={"activation": None})

    def without_activation_of(self, key: str) -> NodeState:
        """Forget the crash of this goal that did not happen; another goal's still may."""
        is_its = self.activation is not None and self.activation.key == key
        return self.without_activation() if is_its else self

    def with_activation_again(self, before: Activation | None) -> NodeState:
        """Return to the activation that was counted before another one was given up."""
        if before and self.is_settled(before.key):
            return self.without_activation()
        return self.model_copy(update={"activation": before})

    def with_ending(self, revision: str) -> NodeState:
        """Remember for whose load the process ends itself, so that no other is blamed for it."""
        return self.model_copy(update={"ended_for": revision})

    def with_refusal(self, record: RefusalRecord) -> NodeState:
        """Remember a failure, which is no crash; the oldest beyond the bound are forgotten."""
        rest = tuple(r for r in self.refusals if r.key != record.key)
        refused = self.model_copy(update={"refusals": (record, *rest)[:MAX_REFUSALS]})
        return refused.without_activation_of(record.key)

    def without_refusals_of(self, revision: str) -> NodeState:
        """Forget how a revision failed that now serves, under whatever retry text that was."""
        kept = tuple(r for r in self.refusals if r.failure.revision != revision)
        return self.model_copy(update={"refusals": kept})

    def after_restart(self, now: float, hung_for_s: float | None = None) -> NodeState:
        """Count the restart, and judge an activation that the last process did not live to end.

        Args:
            now: Unix seconds.
            hung_for_s: the limit of the load that held the last process until it ended itself.
        """
        counted = self._with_restart()
        activation = counted.activation
        if activation is None or (hung_for_s is None and activation.crashes < MAX_CRASHES):
            return counted
        failure = (
            _self_reverted(activation, now)
            if hung_for_s is None
            else _held(activation, now, hung_for_s)
        )
        record = RefusalRecord(key=activation.key, failure=failure)
        history = tuple(k for k in counted.history if k.key != activation.key)
        return counted.model_copy(update={"history": history}).with_refusal(record)

    def _with_restart(self) -> NodeState:
        """Count a restart on what was being activated, else on what served."""
        in_hand = self.activation or next(iter(self.history), None)
        revision = self.ended_for or (in_hand.revision if in_hand else "")
        if not revision:
            return self
        count = self.restarts.get(revision, 0) + 1
        others = [(name, n) for name, n in self.restarts.items() if name != revision]
        restarts = dict([*others[1 - MAX_COUNTED :], (revision, count)])
        return self.model_copy(update={"restarts": restarts, "ended_for": ""})

    def is_settled(self, key: str) -> bool:
        """Tell whether the goal has proved itself on this node."""
        return any(k.settled for k in self.history if k.key == key)

    @property
    def to_keep(self) -> tuple[Kept, ...]:
        """The current revision and the one to go back to: the last good, else the last."""
        current, rest = self.history[:1], self.history[1:]
        good = tuple(k for k in rest if k.settled)[:1]
        return current + (good or rest[:1])


def _bounded(first: Kept, rest: tuple[Kept, ...]) -> tuple[Kept, ...]:
    """Keep the last good revision in the history, however many came after it."""
    kept = rest[: MAX_HISTORY - 1]
    good = next((k for k in rest if k.settled), None)
    if good is None or good in kept:
        return (first, *kept)
    return (first, *kept[:-1], good)


def _self_reverted(activation: Activation, now: float) -> Failure:
    return Failure(
        revision=activation.revision,
        reason=FailureReason.SELF_REVERTED,
        message=(
            f"the process ended {activation.crashes} times while this revision was activated; "
            "it is refused on this unit until its content or `retry` changes"
        ),
        at=now,
        retry=activation.retry,
    )


def _held(activation: Activation, now: float, limit_s: float) -> Failure:
    return Failure(
        revision=activation.revision,
        reason=FailureReason.LOAD_FAILED,
        message=(
            f"the model was not open within {limit_s:g} s, and its engine held the whole process, "
            "which ended itself: where it needs longer, raise spec.runtime.loadTimeout; the log "
            "of its next start shows where it hung"
        ),
        at=now,
        retry=activation.retry,
    )
