"""The agent's memory and its slots: every change is kept in mind first, then made durable."""

from __future__ import annotations

import logging
from collections.abc import Callable

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.machine import Refusal
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.slots import Slots
from skerry_runtime.agent.state import NodeState, RefusalRecord, SlotManifest
from skerry_runtime.agent.vouching import Vouched
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import Agreement, Failure, FailureReason, Trial

log = logging.getLogger(__name__)


class Journal:
    """Remembers what served, crashed and failed. A full disk costs memory over a restart only."""

    def __init__(self, slots: Slots, worker: Worker, now: Callable[[], float]) -> None:
        self._slots = slots
        self._worker = worker
        self._writer = Worker("skerry-journal")  # never behind a load or an exam: see stood_down
        self._withdraw: Callable[[NodeState], NodeState] | None = None
        self._now = now
        self._again_at: dict[str, float] = {}
        self._refused_times: dict[str, int] = {}
        self.state = NodeState()

    async def open(self) -> None:
        """Read the memory and judge how the last process ended."""
        found = await self._worker.run(self._slots.open)
        hung = await self._worker.run(self._slots.deadman.take)
        if hung:
            log.error("the process before this one hung and ended itself: %s", hung[1])
        self.state = found.after_restart(self._now(), hung[0] if hung else None)
        if self.state != found:
            await self._save()

    async def activating(self, goal: Goal) -> None:
        """Count a crash of this goal before it can happen."""
        before = self.state.activation
        self._withdraw = lambda state: state.with_activation_again(before)
        await self._keep(self.state.with_activation(goal))

    async def withdrawn(self) -> None:
        """Take back the count of an activation that was given up: it did not crash."""
        withdraw, self._withdraw = self._withdraw, None
        if withdraw:
            await self._keep(withdraw(self.state))

    async def ending(self, revision: str) -> None:
        """Remember for whose load this process is about to end itself."""
        await self._keep(self.state.with_ending(revision))

    async def stood_down(self) -> None:
        """Forget the crash that did not happen."""
        self._withdraw = None
        await self._keep(self.state.without_activation())

    def close(self) -> None:
        """Write no more."""
        self._writer.close()

    async def served(self, goal: Goal, agreement: Agreement | None = None) -> None:
        """Remember that the goal serves, and how its shadow went; it may crash until it settles."""
        self._withdraw = None
        self._again_at.pop(goal.key, None)
        self._refused_times.pop(goal.key, None)
        await self._keep(self.state.with_served(goal, agreement).without_refusals_of(goal.revision))

    async def settled(self) -> None:
        """Remember that what serves is good."""
        await self._keep(self.state.with_settled())

    async def refuse(self, goal: Goal, refused: Refused, again: Callable[[int], float]) -> None:
        """Remember a failure.

        Args:
            goal: what failed.
            refused: why.
            again: gives the time of a next try from the number of failures of this goal.
        """
        times = self._refused_times.get(goal.key, 0) + 1
        self._refused_times[goal.key] = times
        self._again_at[goal.key] = again(times)
        failure = Failure(
            revision=goal.revision,
            reason=refused.reason,
            message=str(refused),
            at=self._now(),
            retry=goal.retry,
        )
        trial = Trial(exam=refused.exam, agreement=refused.agreement)
        record = RefusalRecord(key=goal.key, failure=failure, trials={goal.name: trial})
        await self._keep(self.state.with_refusal(record))
        self._forget_others()

    def _forget_others(self) -> None:
        """Keep times and counts of remembered refusals only."""
        known = {record.key for record in self.state.refusals}
        self._again_at = {k: v for k, v in self._again_at.items() if k in known}
        self._refused_times = {k: v for k, v in self._refused_times.items() if k in known}

    def refusals(self) -> dict[str, Refusal]:
        """Return what is refused, by goal."""
        return {
            r.key: Refusal(r.failure.reason, self._again_at.get(r.key, 0.0))
            for r in self.state.refusals
        }

    def reopen(self, reason: FailureReason) -> None:
        """Let what was refused for this reason be tried again at once."""
        keys = {r.key for r in self.state.refusals if r.failure.reason is reason}
        self._again_at = {k: v for k, v in self._again_at.items() if k not in keys}

    def refusal(self, goal: Goal) -> RefusalRecord | None:
        """Return why a goal is refused."""
        return next((r for r in self.state.refusals if r.key == goal.key), None)

    def fallbacks(self) -> tuple[Goal, ...]:
        """Return the revisions to go back to, the current one first."""
        found = (self._slots.manifest(kept.revision) for kept in self.state.to_keep)
        return tuple(manifest.goal for manifest in found if manifest)

    async def record(
        self,
        goal: Goal,
        probed: str | None = None,
        found: Trial | None = None,
        vouched: Vouched | None = None,
    ) -> None:
        """Write the goal's manifest; None keeps the proof, what was found, and who vouched."""
        known = self._slots.manifest(goal.revision)
        proof = (known.probed if known else "") if probed is None else probed
        if found is None and known:
            found = Trial(memory=known.memory, not_tried=known.not_tried)
        vouched = vouched or Vouched.of(known)
        manifest = SlotManifest.of(goal, proof, found)
        if vouched:
            seal = {"signed_by": vouched.signed_by, "signed_files": vouched.files}
            manifest = manifest.model_copy(update=seal)
        await self._durably(self._worker, lambda: self._slots.record(manifest))

    async def _keep(self, state: NodeState) -> None:
        if state != self.state:
            self.state = state
            await self._save()

    async def _save(self) -> None:
        state = self.state
        await self._durably(self._writer, lambda: self._slots.save(state))

    async def _durably(self, worker: Worker, write: Callable[[], None]) -> None:
        """Write, but let no full or broken disk stand in the way of a rollback."""
        try:
            await worker.run(write)
        except OSError as err:
            log.warning("the slots cannot be written: %s", err.strerror)
