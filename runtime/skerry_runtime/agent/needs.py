"""What models need of memory, and what there is."""

from __future__ import annotations

from dataclasses import dataclass

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.memory import Room, need, resting_bytes
from skerry_runtime.agent.ports import MIB, Tuning
from skerry_runtime.agent.refusal import OutOfRoom
from skerry_runtime.agent.slots import Slots
from skerry_runtime.contract import MemoryNeed, Trial
from skerry_runtime.heap import give_back

LOADED_OVERHEAD_BYTES = 30 * MIB
PROBE_OVERHEAD_BYTES = 96 * MIB
"""What the child needs before it loads anything: interpreter, numpy, engine."""

_UNBOUNDED = 1 << 62
"""Stands for memory that nothing limits."""


@dataclass(frozen=True)
class Needs:
    """Knows of each model what was declared, measured or can be guessed."""

    slots: Slots
    host: Host
    tuning: Tuning

    def room(self, goal: Goal, serving: Goal | None, *, with_probe: bool) -> Room:
        """Return the memory that the goal needs and that there is. Blocking.

        What large requests left free in this process counts as free. Before its trial nothing is
        known of a model but its size, and no estimate keeps it from being measured.
        """
        give_back()
        available = self.host.available_bytes()
        needed = need(self.memory_of(goal, is_least=with_probe))
        decrypted = self.slots.model_bytes(goal) if goal.model.encryption else 0
        return Room(
            needed=needed.bytes + decrypted + (PROBE_OVERHEAD_BYTES if with_probe else 0),
            available=_UNBOUNDED if available is None else self._less_reserve(available),
            freed=resting_bytes(self.memory_of(serving)) if serving else 0,
            how=needed.how,
        )

    def found(self, goal: Goal) -> Trial:
        """Return what is known of a model from its trial, now or before a restart."""
        manifest = self.slots.manifest(goal.revision)
        return Trial(
            memory=self.memory_of(goal),
            not_tried=manifest.not_tried if manifest else "",
            signed_by=(manifest.signed_by or None) if manifest else None,
        )

    def memory_of(self, goal: Goal, *, is_least: bool = False) -> MemoryNeed:
        """Return what is known of a model's memory.

        Args:
            goal: what is asked about.
            is_least: an estimate is the size of the files, and not what they mostly become.
        """
        manifest = self.slots.manifest(goal.revision)
        known = (manifest.memory if manifest else None) or MemoryNeed()
        known = known.model_copy(update={"declared_bytes": goal.model.memory_bytes})
        if known.declared_bytes is not None or known.peak_bytes is not None:
            return known
        size = self.slots.model_bytes(goal)
        estimate = size if is_least else 2 * size + LOADED_OVERHEAD_BYTES
        return known.model_copy(update={"estimated_bytes": estimate})

    def _less_reserve(self, available: int) -> int:
        return max(0, available - self.tuning.memory_reserve_bytes)

    def would_unloading_help(self, serving: Goal, err: OutOfRoom) -> bool:
        """Tell whether a trial that ran out of memory may have enough when nothing serves.

        It may not where a setting bounds the trial anyway, or where the model asked for far more:
        what serves is not taken away for that.
        """
        beside, alone = (
            self.probe_limit(freed) for freed in (0, resting_bytes(self.memory_of(serving)))
        )
        return err.is_near and beside is not None and alone is not None and beside < alone

    def probe_limit(self, freed: int = 0) -> int | None:
        """Return how much memory a trial may take; None: nothing limits it."""
        available = self.host.available_bytes()
        limits = [] if available is None else [self._less_reserve(available + freed)]
        if self.tuning.probe_memory_bytes:
            limits.append(self.tuning.probe_memory_bytes)
        return min(limits, default=None)
