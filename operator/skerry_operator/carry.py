"""Carries out plans: the one way from a decision to the cluster, for every kind of resource.

The order is that of `Plan`: records, status, objects, nudges, prune, events (ADR 2).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from skerry_operator.api.base import KubeModel
from skerry_operator.constants import Reason
from skerry_operator.decide.planned import EventNote, Manifest, Nudge, ObjectRef
from skerry_operator.kube.apply import ChangeSet
from skerry_operator.kube.errors import Forbidden, Invalid, KubeError
from skerry_operator.kube.status import Target, is_equal, ladder_of
from skerry_operator.kube.writer import Writer
from skerry_operator.telemetry import Telemetry

WHOLE_AGAIN_S = 60.0
"""How long a status that the server refuses is written in parts before it is tried whole again."""

OUTCOMES: Mapping[str, str] = {
    Reason.PROMOTED: "promoted",
    Reason.ROLLED_BACK: "rolled_back",
    Reason.ABORTED: "aborted",
    Reason.FIRST_DEPLOYMENT_FAILED: "first_failed",
}
"""Reason of an event -> outcome in the metric of rollouts."""

FILE = "ConfigMap"
"""The kind that pods read: it goes out before all else."""

log = logging.getLogger(__name__)


class Actions(Protocol):
    """What a plan of any kind says that is to be done."""

    @property
    def records(self) -> tuple[Manifest, ...]:
        """Objects that the status names: before it."""
        ...

    @property
    def status(self) -> KubeModel | None:
        """The next status; None: as it is."""
        ...

    @property
    def objects(self) -> tuple[Manifest, ...]:
        """Objects to apply."""
        ...

    @property
    def nudges(self) -> tuple[Nudge, ...]:
        """Pods that must look at their files."""
        ...

    @property
    def prune(self) -> tuple[ObjectRef, ...]:
        """Objects to delete."""
        ...

    @property
    def events(self) -> tuple[EventNote, ...]:
        """What people are told."""
        ...


@dataclass
class Memory:
    """What is remembered of the writes for one object between two looks."""

    problem: str | None = None
    """Why the last write failed, until all succeed."""
    rung: int = 0
    """How much of the status is left out (`kube/status.py`)."""
    whole_at: float = 0.0
    """When the whole status is tried again."""


@dataclass(frozen=True)
class Carrier:
    """Writes what plans say."""

    writer: Writer
    telemetry: Telemetry
    monotonic: Callable[[], float]

    async def carry_out(
        self, plan: Actions, before: KubeModel, target: Target, memory: Memory, *, is_way_back: bool
    ) -> bool:
        """Write in the order of Plan; return whether the status was written.

        Events go out as soon as the status is on record, also when a later write fails: the next
        look finds the decision made, and would not tell of it again. A status that is refused
        keeps no file of a way back from the pods (`is_way_back`): that way is safe to begin anew.

        Raises:
            KubeError: a write failed, and nothing that the plan put after it was done.
        """
        changes = await self._remembered(
            self.writer.apply(target.namespace, plan.records), memory, target
        )
        try:
            is_new = await self._write_status(plan.status, before, target, memory)
        except (Invalid, Forbidden):
            if is_way_back:
                await self._remembered(self._write_files(plan, target), memory, target)
            raise
        try:
            changes += await self._remembered(self._write_objects(plan, target), memory, target)
        finally:
            await self._announce(plan.events, target)
        await self._tell(changes, target)
        memory.problem = None
        return is_new

    async def refuse(self, target: Target, reason: Reason, error: Exception) -> None:
        """Tell people about an object that nothing can be done for."""
        log.warning("%s %s/%s: %s", target.kind, target.namespace, target.name, error)
        note = EventNote(warning=True, reason=reason, message=str(error))
        await self.writer.record(target, (note,))

    async def _remembered(
        self, writes: Awaitable[ChangeSet], memory: Memory, target: Target
    ) -> ChangeSet:
        """Return what was changed; what fails is kept for the next look, and told."""
        try:
            return await writes
        except KubeError as error:
            memory.problem = str(error)
            note = EventNote(warning=True, reason=Reason.APPLY_FAILED, message=str(error))
            await self.writer.record(target, (note,))
            raise

    async def _write_status(
        self, status: KubeModel | None, before: KubeModel, target: Target, memory: Memory
    ) -> bool:
        """Write a status that differs, whole or as much of it as is taken."""
        if memory.rung and self.monotonic() >= memory.whole_at:
            memory.rung = 0
        ladder = ladder_of(target.kind)
        while status is not None and not is_equal(status, before, ladder[memory.rung]):
            try:
                await self.writer.write_status(target, status, ladder[memory.rung])
            except (Invalid, Forbidden) as error:
                memory.whole_at = self.monotonic() + WHOLE_AGAIN_S
                self.telemetry.status_refused.labels(target.kind).inc()
                await self.refuse(target, Reason.STATUS_REFUSED, error)
                if memory.rung + 1 == len(ladder):
                    raise
                memory.rung += 1
            else:
                return True
        return False

    async def _write_objects(self, plan: Actions, target: Target) -> ChangeSet:
        """Write files first; once they are out their readers are told, whatever else is refused.

        A rollback must not wait for a Service that cannot be written.
        """
        writer, namespace = self.writer, target.namespace
        others = [item for item in plan.objects if item.ref.kind != FILE]
        changes = await writer.apply(namespace, _files(plan))
        try:
            changes += await writer.apply(namespace, others)
        finally:
            changes += await writer.nudge(namespace, plan.nudges)
        return changes + await writer.prune(namespace, plan.prune)

    async def _write_files(self, plan: Actions, target: Target) -> ChangeSet:
        """Write only what pods read, and tell them."""
        changes = await self.writer.apply(target.namespace, _files(plan))
        return changes + await self.writer.nudge(target.namespace, plan.nudges)

    async def _announce(self, events: Iterable[EventNote], target: Target) -> None:
        for event in events:
            if outcome := OUTCOMES.get(event.reason):
                self.telemetry.rollouts.labels(outcome).inc()
        await self.writer.record(target, events)

    async def _tell(self, changes: ChangeSet, target: Target) -> None:
        for one in changes.mended:
            self.telemetry.put_back.labels(one.kind).inc()
        await self.writer.record(target, changes.notes)
        if changes:
            log.info("%s/%s: %s", target.namespace, target.name, changes)


def _files(plan: Actions) -> list[Manifest]:
    return [item for item in plan.objects if item.ref.kind == FILE]
