"""Drives the swap: looks at the assignment, asks `machine` what to do, does it, and reports."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial

from skerry_runtime import __version__
from skerry_runtime.agent import machine
from skerry_runtime.agent.assignment import AssignmentFile, Reading
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.journal import Journal
from skerry_runtime.agent.keeper import SiteKeeper
from skerry_runtime.agent.machine import Attempt, Milestone, Order, Situation
from skerry_runtime.agent.pace import DownloadPace
from skerry_runtime.agent.ports import AgentSettings, RevisionLog, Tuning
from skerry_runtime.agent.prefetch import Prefetch
from skerry_runtime.agent.refusal import Corrupt, Hung, Refused, Transient, Wedged
from skerry_runtime.agent.report import log_refusal, progress_of, waiting_for_window
from skerry_runtime.agent.site import SiteLink
from skerry_runtime.agent.slots import Slots
from skerry_runtime.agent.stages import Stages
from skerry_runtime.agent.swap import Swap
from skerry_runtime.agent.switch import Switchboard
from skerry_runtime.agent.worker import Worker
from skerry_runtime.backends.base import Backend
from skerry_runtime.clock import unix_now
from skerry_runtime.contract import (
    MAX_COUNTED,
    DownloadRules,
    FailureReason,
    Progress,
    StatusReport,
)
from skerry_runtime.errors import Unusable
from skerry_runtime.registry import Registry

log = logging.getLogger(__name__)

_AFTER_ERROR_S = 1.0
_TIDY_S = 600.0


class ClusterAgent:
    """Brings the assigned revision into this process, and keeps what serves from harm."""

    def __init__(
        self,
        settings: AgentSettings,
        registry: Registry,
        metrics: RevisionLog,
        backend: Backend,
        tuning: Tuning | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tuning = tuning or Tuning.from_env(os.environ)
        self._worker = Worker("skerry-agent")
        self._slots = Slots(settings.slots_dir)
        self._journal = Journal(self._slots, self._worker, unix_now)
        self._board = Switchboard(registry, metrics)
        self._host = Host()
        self._pace = DownloadPace()
        self._site = SiteLink(settings.unit)
        stages = Stages(
            slots=self._slots,
            backend=backend,
            worker=self._worker,
            tuning=self._tuning,
            threads=settings.threads,
            host=self._host,
            pace=self._pace,
            site=self._site,
        )
        self._swap = Swap(stages, self._board, self._journal, self._tuning)
        self._prefetch = Prefetch(stages, self._journal, self._swap.try_ahead)
        self._keeper = SiteKeeper(stages)
        self._file = AssignmentFile(settings.assignment_dir, settings.unit)
        self._reading = Reading(None)
        self._order: Order = machine.Unknown()
        self._attempt: Attempt | None = None
        self._started_at = unix_now()
        self._boot_id = uuid.uuid4().hex
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_running = False
        self._turned_at = time.monotonic()
        self._tidied_at = time.monotonic()

    async def run(self) -> None:
        """Follow the assignment until `stop`, or until cancelled.

        Raises:
            Unusable: an engine hangs in this process; why stands on the disk.
        """
        self._is_running = True
        drive = asyncio.create_task(self._drive())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({drive, stop}, return_when=asyncio.FIRST_COMPLETED)
            if drive.done():
                drive.result()
        finally:
            stop.cancel()
            await self._end(drive)

    async def stop(self) -> None:
        """End in order: what serves goes on serving, and no crash is counted."""
        self._stop.set()
        if self._is_running:
            await self._ended.wait()

    def is_alive(self) -> bool:
        """Tell whether the agent looked at its assignment lately, whatever it does meanwhile."""
        limit_s = self._tuning.stall_s + self._tuning.drain_s
        return time.monotonic() - self._turned_at < limit_s

    def is_stuck(self) -> bool:
        """Tell whether a call into an engine hangs, which a process waits for when it ends."""
        return self._swap.is_stuck

    def status(self) -> StatusReport:
        """Return the answer of GET /status."""
        reading = self._reading
        goal = self._order if isinstance(self._order, Goal) else None
        return StatusReport(
            unit=self._settings.unit,
            deployment=reading.deployment,
            cell=reading.cell,
            runtime_version=__version__,
            boot_id=self._boot_id,
            started_at=self._started_at,
            now=unix_now(),
            assignment=reading.digest,
            assignment_error=reading.error,
            assigned=goal.revision if goal else None,
            serving=self._board.served,
            progress=self._progress(goal) if goal else None,
            failures=tuple(r.failure for r in self._journal.state.refusals),
            on_disk=self._slots.revisions()[:MAX_COUNTED],
            counters=self._metrics.counters(),
            restarts=self._journal.state.restarts,
            last_swap=self._board.last_swap,
            prefetch=self._prefetch.told(),
            rss_bytes=self._host.rss_bytes(),
        )

    def _progress(self, goal: Goal) -> Progress:
        served = self._board.served
        is_served = served and machine.is_served(self._situation(), goal)
        is_under_way = self._attempt is not None and self._attempt.goal.key == goal.key
        progress = progress_of(
            goal,
            served if is_served else None,
            None if is_under_way else self._journal.refusal(goal),
            self._swap.tracker.of(goal),
        )
        return waiting_for_window(progress) if self._pace.is_waiting(goal.revision) else progress

    async def _drive(self) -> None:
        await self._open()
        await self._swap.sweep()
        while True:
            try:
                self._look()
                await self._swap.drop_lost()
                await self._perform(machine.decide(self._situation()))
            except Unusable:
                raise
            except Exception:
                log.exception("the agent failed and goes on; what serves is not touched")
                await asyncio.sleep(_AFTER_ERROR_S)

    async def _open(self) -> None:
        """Read the slots; a volume that cannot be used may come back."""
        while True:
            self._turned_at = time.monotonic()
            try:
                return await self._journal.open()
            except OSError as err:
                log.error("%s cannot be used: %s", self._settings.slots_dir, err.strerror)
            except Exception:
                log.exception("%s cannot be read", self._settings.slots_dir)
            await asyncio.sleep(_AFTER_ERROR_S)

    async def _end(self, drive: asyncio.Task[None]) -> None:
        drive.cancel()
        await asyncio.wait({drive})
        await self._prefetch.halt()
        await self._keeper.halt()
        await self._journal.stood_down()  # first: an exam may outlast the grace that we have
        await self._swap.abandon()
        self._journal.close()
        self._board.close()
        self._worker.close()
        self._ended.set()

    def _look(self) -> bool:
        """Take in the assignment; tell whether it was news."""
        self._turned_at = time.monotonic()
        found = self._file.look()
        if found is None:
            self._pace.obey(self._rules())
            return False
        if found.order is None:
            log.error("assignment: %s; what runs is kept", found.error)
            before = self._reading
            found = replace(before, digest=found.digest, error=found.error)
        else:
            self._swap.trust(found.trust)
            if found.order != self._order:
                self._take(found.order)
        self._site.obey(found.cache)
        self._prefetch.want(found.prepare, may_try=found.may_try_prepared)
        self._reading = found
        self._pace.obey(self._rules())
        return True

    def _rules(self) -> DownloadRules | None:
        """Return how the line may be used; no window keeps a pod that serves nothing waiting."""
        rules = self._reading.download
        if rules is None or not rules.shut or self._swap.serving is not None:
            return rules
        return rules.model_copy(update={"shut": ()})

    def _take(self, order: Order) -> None:
        self._order = order
        if isinstance(order, Goal):
            self._swap.ask(order, time.monotonic())
            self._board.expect(order)
            log.info("assigned: %s", order.revision, extra={"revision": order.revision})

    def _situation(self) -> Situation:
        fallbacks = self._journal.fallbacks()
        goals = (*fallbacks, self._order) if isinstance(self._order, Goal) else fallbacks
        return Situation(
            now=time.monotonic(),
            order=self._order,
            serving=self._swap.serving,
            attempt=self._attempt,
            on_disk=frozenset(g.key for g in goals if not self._slots.missing(g)),
            proven=frozenset(g.key for g in goals if self._swap.is_proven(g)),
            fallbacks=fallbacks,
            refused=self._journal.refusals(),
        )

    async def _perform(self, action: machine.Action) -> None:
        match action:
            case machine.Wait(until):
                await self._pause(until)
            case machine.Settle():
                await self._swap.settle()
            case machine.Rename(goal):
                await self._swap.rename(goal)
            case machine.Unload():
                await self._swap.stop_serving()
            case machine.Abandon():
                await self._abandon()
            case _:
                await self._take_further(action)

    async def _pause(self, until: float | None) -> None:
        """Wait for news of the assignment or the loss of the model, or for the given time."""
        while not self._look() and (until is None or time.monotonic() < until):
            if await self._swap.drop_lost() or await self._reconsider():
                return
            await self._tidy()
            self._go_on_ahead()
            self._keeper.look(self._journal.fallbacks())
            left = self._tuning.poll_s if until is None else until - time.monotonic()
            await asyncio.sleep(max(0.0, min(self._tuning.poll_s, left)))

    async def _reconsider(self) -> bool:
        """Judge what serves by a new policy; True: it was judged, and news may have come meanwhile.

        A source that cannot be reached takes nothing away: it is asked again, and again.
        """
        goal = self._swap.doubted(time.monotonic())
        if goal is None:
            return False
        try:
            await self._interruptible(self._swap.reconsider(goal))
        except Refused as err:
            await self._swap.stop_serving()
            await self._refuse(goal, err)
        except (Transient, Corrupt, OSError) as err:
            log.warning("%s: not judged by the new policy yet: %s", goal.revision, err)
        return True

    def _go_on_ahead(self) -> None:
        """Fetch ahead while what is assigned serves, and nothing else is to be done."""
        order = self._order
        if not self._prefetch.is_due or not isinstance(order, Goal):
            return
        if machine.is_served(self._situation(), order):
            self._prefetch.go_on()

    async def _prune(self) -> None:
        ahead = self._prefetch.kept(self._order)
        await self._swap.prune(self._order, self._attempt, ahead)

    async def _tidy(self) -> None:
        """Let go, now and then, of what is kept for some time only."""
        if time.monotonic() - self._tidied_at >= _TIDY_S:
            self._tidied_at = time.monotonic()
            await self._prune()

    async def _abandon(self) -> None:
        self._attempt = None
        await self._swap.abandon()
        await self._prune()

    async def _take_further(self, step: machine.Step) -> None:
        """Do one step of an attempt, and note where that leaves it."""
        await self._prefetch.halt()
        if self._attempt is None:
            self._attempt = Attempt(step.goal)
            self._swap.begin(step.goal)
        try:
            await self._do(step, self._attempt.tries + 1)
        except Refused as err:
            await self._refuse(step.goal, err)
        except Wedged as err:
            await self._begin_anew(str(err))
        except Transient as err:
            await self._try_again_later(self._attempt, str(err), err.reason)
        except Corrupt as err:
            await self._try_again_later(self._attempt, str(err))
        except OSError as err:
            await self._try_again_later(self._attempt, f"the slots cannot be used: {err.strerror}")
        except Exception as err:
            log.exception("%s: %s failed", step.goal.revision, type(step).__name__)
            text = f"unexpected {type(err).__name__} while {type(step).__name__}"
            await self._refuse(step.goal, Refused(FailureReason.LOAD_FAILED, text))

    async def _do(self, step: machine.Step, attempt: int) -> None:
        goal = step.goal
        match step:
            case machine.Fetch():
                await self._prune()
                await self._interruptible(self._swap.fetch(goal, attempt))
            case machine.Verify():
                await self._through(self._swap.verify(goal, attempt), Milestone.VERIFIED)
            case machine.Probe():
                await self._through(self._swap.probe(goal, attempt), Milestone.PROBED)
            case machine.Load():
                await self._through(self._swap.load(goal, attempt), Milestone.LOADED)
            case machine.Examine():
                await self._through(self._swap.examine(goal, attempt), Milestone.EXAMINED)
            case machine.Compare():
                await self._through(self._swap.compare(goal, attempt), Milestone.SHADOWED)
            case machine.Switch():
                await self._swap.switch(goal)
                self._attempt = None
                await self._prune()

    async def _through(self, work: Coroutine[None, None, None], milestone: Milestone) -> None:
        """Reach the milestone by this work, unless the assignment moves on meanwhile."""
        if await self._interruptible(work):
            self._reach(milestone)

    def _reach(self, milestone: Milestone) -> None:
        if self._attempt:
            self._attempt = replace(self._attempt, reached=milestone)

    async def _interruptible(self, work: Coroutine[None, None, None]) -> bool:
        """Work while looking at the assignment; break off, and return False, when it moves on."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=self._tuning.poll_s)
                self._look()
                await self._swap.drop_lost()
                match machine.decide(self._situation()):
                    case machine.Settle():
                        await self._swap.settle()
                    case machine.Abandon() if not task.done():
                        return False
                    case _:
                        pass
            await task
            return True
        finally:
            task.cancel()
            # Not `await task` with CancelledError suppressed: that would swallow one meant for us,
            # and the agent would never end.
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # whatever it is, it was raised above, or is of no use any more

    async def _refuse(self, goal: Goal, err: Refused) -> None:
        log_refusal(goal, err.reason, str(err))
        self._metrics.swaps.record_failure(err.reason)
        self._attempt = None
        await self._swap.abandon()
        await self._journal.refuse(goal, err, partial(self._again_at, goal, err.reason))
        if isinstance(err, Hung) and self._board.served is None:
            await self._begin_anew(f"the load of {goal.revision} hangs")
        await self._prune()

    async def _begin_anew(self, why: str) -> None:
        """End this process: a driver that hangs may hold what every other model needs.

        Raises:
            Unusable: always; the next process finds on the disk what to do.
        """
        self._attempt = None
        await self._swap.abandon()
        await self._journal.ending(self._swap.hung)
        raise Unusable(why)

    def _again_at(self, goal: Goal, reason: FailureReason, times: int) -> float:
        """Return when a goal that failed so many times may be tried again."""
        least, most = self._tuning.slow_backoff_min_s, self._tuning.slow_backoff_max_s
        has_another = any(known.key != goal.key for known in self._journal.fallbacks())
        if reason in machine.COSTLY and has_another:
            most = self._tuning.costly_backoff_max_s
        return time.monotonic() + machine.backoff_s(times, least, most, random.random())  # noqa: S311 (jitter)

    async def _try_again_later(
        self, attempt: Attempt, why: str, reason: FailureReason = FailureReason.FETCH_FAILED
    ) -> None:
        await self._swap.abandon()
        tries = attempt.tries + 1
        least, most = self._tuning.backoff_min_s, self._tuning.backoff_max_s
        wait_s = machine.backoff_s(tries, least, most, random.random())  # noqa: S311 (jitter)
        self._swap.tracker.will_retry(f"{why}; next try in {wait_s:.0f} s", reason)
        self._attempt = Attempt(attempt.goal, Milestone.NEW, tries, time.monotonic() + wait_s)
