"""Fetches what may come next while another revision serves, checks it, and may try it in a child.

It is tried once others serve it: what no trial survives is found by few units, and not by all.
Nothing here harms what serves. What does not work is a note: whether the revision can be had counts
only when the unit is given it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.journal import Journal
from skerry_runtime.agent.machine import Order, backoff_s
from skerry_runtime.agent.pace import SHUT
from skerry_runtime.agent.refusal import AgentError
from skerry_runtime.agent.stages import Stages
from skerry_runtime.contract import Prefetched, clipped

log = logging.getLogger(__name__)

TryAhead = Callable[[Goal], Awaitable[bool]]
"""Tries a model in a child, if there is room; tells whether it has passed."""


@dataclass
class _Course:
    """How far the files of one goal are."""

    goal: Goal
    is_done: bool = False
    may_try: bool = False
    was_tried: bool = False
    """There is no more to find out by a trial, whether it passed or not."""
    has_passed: bool = False
    note: str = ""
    fetched: int = 0
    total: int | None = None
    tries: int = 0
    again_at: float = 0.0

    @property
    def is_over(self) -> bool:
        """Tell whether there is nothing left to do."""
        return self.is_done and (self.was_tried or not self.may_try)

    def arrived(self, fetched: int, total: int | None) -> None:
        """Note how much is on disk."""
        self.fetched, self.total = fetched, total


class Prefetch:
    """Brings one goal's files to disk, beside whatever else the agent does not do."""

    def __init__(
        self,
        stages: Stages,
        journal: Journal,
        try_ahead: TryAhead,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._journal = journal
        self._try_ahead = try_ahead
        self._clock = clock
        self._course: _Course | None = None
        self._task: asyncio.Task[None] | None = None

    def want(self, goal: Goal | None, *, may_try: bool = False) -> None:
        """Take the assignment's word: another goal takes the place of the last one."""
        course = self._course
        if (course.goal.key if course else None) == (goal.key if goal else None):
            if course is not None:
                course.may_try = may_try
            return
        if self._task is not None:
            self._task.cancel()
        self._course = _Course(goal, may_try=may_try) if goal else None

    @property
    def is_due(self) -> bool:
        """Tell whether there is something to fetch, and it is time to."""
        course = self._course
        if course is None or course.is_over or self._clock() < course.again_at:
            return False
        return self._task is None or self._task.done()

    def go_on(self) -> None:
        """Fetch in the background, if it is due."""
        if self.is_due and self._course is not None:
            self._task = asyncio.create_task(self._run(self._course))

    async def halt(self) -> None:
        """Leave the line and the disk to the agent; what arrived is kept."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def kept(self, order: Order) -> tuple[Goal, ...]:
        """Return what is not to be tidied away; whatever the unit needs now goes first."""
        if self._course is None:
            return ()
        goal, slots = self._course.goal, self._stages.slots
        is_in_the_way = isinstance(order, Goal) and order.key != goal.key and slots.missing(order)
        return () if is_in_the_way else (goal,)

    def told(self) -> Prefetched | None:
        """Return how far it is, for the report."""
        course = self._course
        if course is None:
            return None
        is_waiting = not course.is_done and self._stages.pace.is_waiting(course.goal.revision)
        return Prefetched(
            revision=course.goal.revision,
            is_done=course.is_done,
            is_tried=course.has_passed,
            message=SHUT if is_waiting else course.note,
            fetched_bytes=course.fetched,
            total_bytes=course.total,
        )

    async def _run(self, course: _Course) -> None:
        goal = course.goal
        try:
            if not course.is_done:
                await self._bring(course)
            if course.may_try:
                await self._find_out(course)
        except AgentError as err:
            self._note(course, str(err))
        except OSError as err:
            self._note(course, f"the slots cannot be used: {err.strerror}")
        except Exception as err:
            log.exception("%s: prefetch failed", goal.revision)
            self._note(course, f"unexpected {type(err).__name__}")

    async def _bring(self, course: _Course) -> None:
        """Bring the files to disk, and check them. Raises what the stages raise."""
        goal = course.goal
        await self._stages.fetch(goal, course.arrived)
        vouched = await self._stages.verify(goal)
        if vouched:  # remembered: its step needs the signature no more
            await self._journal.record(goal, vouched=vouched)
        course.is_done, course.note = True, ""
        log.info("%s: prefetched", goal.revision, extra={"revision": goal.revision})

    async def _find_out(self, course: _Course) -> None:
        """Try the model, once; one that does not pass is tried again when its step comes."""
        revision = course.goal.revision
        try:
            course.has_passed = await self._try_ahead(course.goal)
        except AgentError as err:
            course.note = clipped(f"tried ahead: {err}")
            log.warning("%s: tried ahead: %s", revision, err)
        course.was_tried = True
        if course.has_passed:
            log.info("%s: passed its trial ahead", revision, extra={"revision": revision})

    def _note(self, course: _Course, why: str) -> None:
        tuning = self._stages.tuning
        course.tries += 1
        wait_s = backoff_s(
            course.tries,
            tuning.slow_backoff_min_s,
            tuning.slow_backoff_max_s,
            random.random(),  # noqa: S311 (jitter)
        )
        course.again_at = self._clock() + wait_s
        course.note = clipped(why)
        log.warning("%s: not prefetched: %s", course.goal.revision, why)
