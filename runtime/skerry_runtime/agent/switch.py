"""The switch: one model retires, another answers; the old one is closed after its last request."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.ports import RevisionLog
from skerry_runtime.agent.worker import Worker
from skerry_runtime.backends.base import Model
from skerry_runtime.clock import unix_now
from skerry_runtime.contract import (
    Agreement,
    ExamResult,
    Served,
    ServedModel,
    SwapMode,
    SwapRecord,
    Trial,
)
from skerry_runtime.heap import give_back
from skerry_runtime.registry import Registry, ServingModel

log = logging.getLogger(__name__)

_DRAIN_STEP_S = 0.5


@dataclass
class Candidate:
    """A loaded model on its way to the switch."""

    goal: Goal
    model: Model
    mode: SwapMode
    asked_at: float
    """Monotonic seconds: when the revision was asked for."""
    load_began_at: float
    is_fetched: bool
    exam: ExamResult | None = None
    agreement: Agreement | None = None
    found: Trial = field(default_factory=Trial)
    """What its trial in a child found."""


class Switchboard:
    """The agent's hand on the registry; measures what a swap costs."""

    def __init__(self, registry: Registry, metrics: RevisionLog) -> None:
        self._registry = registry
        self._metrics = metrics
        self._drainer = Worker("skerry-drain")
        self._drains: set[asyncio.Task[bool]] = set()
        self._dark_since: float | None = None
        self._left: str | None = None
        self.serving: Goal | None = None
        self.last_swap: SwapRecord | None = None

    @property
    def served(self) -> Served | None:
        """Who answers requests."""
        current = self._registry.current
        return current.served if current else None

    @property
    def current(self) -> ServingModel | None:
        """The model that answers requests."""
        return self._registry.current

    @property
    def is_dark(self) -> bool:
        """Tell whether a swap took the model away and has not brought one back yet."""
        return self._dark_since is not None

    def switch(self, candidate: Candidate) -> SwapRecord:
        """Let the candidate answer every request from now on."""
        goal = candidate.goal
        new = ServingModel(goal.name, _served(candidate), candidate.model, goal.model.batching)
        self._metrics.activate(goal.revision)
        old = self._registry.switch(new)
        record = self._measured(candidate, old)
        self.serving, self.last_swap = goal, record
        self._dark_since, self._left = None, None
        self._metrics.swaps.record_success(record)
        if old:
            self._drain(old)
        return record

    def expect(self, goal: Goal) -> None:
        """Say under which name the goal will answer, for as long as nothing does."""
        self._registry.expected = goal.name

    def rename(self, goal: Goal) -> None:
        """Let the model that serves answer to the goal's name; requests in flight are not hurt."""
        log.info("%s: serves as '%s' from now on", goal.revision, goal.name)
        self._registry.rename(goal.name)
        self.serving = goal

    def seal(self, signed_by: str | None) -> None:
        """Tell from now on who vouches for the model that serves."""
        current = self._registry.current
        if current is not None:
            models = {
                name: model.model_copy(update={"signed_by": signed_by})
                for name, model in current.served.models.items()
            }
            current.served = current.served.model_copy(update={"models": models})

    async def unload(self, patience_s: float) -> None:
        """Serve nothing; give the requests in flight this long to end before going on."""
        old = self._registry.switch(None)
        self.serving = None
        if old is None:
            return
        self._dark_since, self._left = time.monotonic(), old.served.revision
        drain = self._drain(old)
        done, _ = await asyncio.wait({drain}, timeout=patience_s)
        if not done:
            log.warning("%s still has requests in flight and stays open", old.served.revision)

    def forget_outage(self) -> None:
        """Count the time without a model as asked for: the assignment says to serve nothing."""
        self._dark_since, self._left = None, None

    def close(self) -> None:
        """Stop waiting for retired models; what serves goes on serving."""
        for drain in self._drains:
            drain.cancel()
        self._drainer.close()

    def _measured(self, candidate: Candidate, old: ServingModel | None) -> SwapRecord:
        now = time.monotonic()
        return SwapRecord(
            from_revision=old.served.revision if old else self._left,
            to_revision=candidate.goal.revision,
            mode=candidate.mode,
            total_ms=_ms(now - candidate.asked_at),
            switch_ms=_ms(now - candidate.load_began_at),
            outage_ms=_ms(now - self._dark_since) if self._dark_since is not None else 0.0,
            fetched=candidate.is_fetched,
            at=unix_now(),
        )

    def _drain(self, old: ServingModel) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._close_after_last(old))
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)
        return task

    async def _close_after_last(self, old: ServingModel) -> bool:
        """Wait in short steps, so that the thread never keeps the process from ending."""
        is_closed = False
        while not is_closed:
            is_closed = await self._drainer.run(Registry.close_when_drained, old, _DRAIN_STEP_S)
        await self._drainer.run(give_back)  # the next model is measured against what is free
        return True


def _served(candidate: Candidate) -> Served:
    goal = candidate.goal
    model = ServedModel(
        version=goal.model.version,
        variant=goal.model.variant,
        sha256=goal.sha256,
        exam=candidate.exam,
        acceleration=candidate.model.acceleration,
        agreement=candidate.agreement,
        memory=candidate.found.memory,
        not_tried=candidate.found.not_tried,
        signed_by=candidate.found.signed_by,
    )
    return Served(revision=goal.revision, since=unix_now(), models={goal.name: model})


def _ms(seconds: float) -> float:
    return round(seconds * 1000.0, 3)
