"""Asks pods and fills the table: the thin edge between the schedule and the network.

Looks call it and wait for nothing: `follow` and `attend` before and after they decide, `hearing`
to know what was said. What pods answer goes into the table, and wakes the deployment's key when a
decision can follow from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from skerry_operator.decide.observed import Pod
from skerry_operator.decide.reported import UnitReport
from skerry_operator.reports.base import (
    NONSENSE,
    DeploymentKey,
    Question,
    ReadError,
    ReadResult,
    ReportFetch,
)
from skerry_operator.reports.cadence import FIRST_S, Cadence
from skerry_operator.reports.door import let_in
from skerry_operator.reports.schedule import SLOW_S, Schedule, Shares
from skerry_operator.reports.table import Attention, Hearing, ReportTable, Voice
from skerry_operator.telemetry import Telemetry

PARSED_HERE = 16 * 1024
"""Longer bodies are parsed in a thread: the event loop has other things to do."""
GAUGES_EVERY_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clocks:
    """The clocks: one for spans of time, one for what people and pods call the time."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]


class Poller:
    """Asks the pods of all deployments."""

    def __init__(
        self,
        fetch: ReportFetch,
        telemetry: Telemetry,
        *,
        slots: int,
        cadence: Cadence,
        clocks: Clocks,
        wake: Callable[[DeploymentKey], None],
    ) -> None:
        self._fetch = fetch
        self._telemetry = telemetry
        self._cadence = cadence
        self._clocks = clocks
        self._wake = wake
        self._table = ReportTable()
        self._schedule = Schedule(Shares.of(slots))
        self._due = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="reports")
        self._counted_at = float("-inf")

    # --- what looks ask for ---

    def follow(self, deployment: DeploymentKey, pods: Iterable[Pod]) -> None:
        """Ask these pods of the deployment from now on, and no others."""
        now = self._clocks.monotonic()
        questions = (Question(deployment, pod) for pod in pods)
        change = self._table.follow(deployment, questions, now)
        for key in change.gone:
            self._schedule.drop(key)
        for question in change.fresh:
            self._schedule.follow(question, now if not question.pod.nudge else now + FIRST_S)
        for key in change.stirred:
            self._schedule.hasten(key, now)
        if change.fresh or change.stirred:
            self._due.set()

    def forget(self, deployment: DeploymentKey) -> None:
        """Ask none of the deployment's pods any longer."""
        for key in self._table.forget(deployment):
            self._schedule.drop(key)

    def hearing(self, deployment: DeploymentKey, pods: Iterable[Pod]) -> Hearing:
        """Return what the units of these pods say, as far as it is known now."""
        return self._table.hearing(deployment, pods, self._clocks.monotonic())

    def is_complete(self, deployment: DeploymentKey) -> bool:
        """Tell whether every pod that is followed was asked since it changed."""
        return self._table.is_complete(deployment)

    def attend(
        self,
        deployment: DeploymentKey,
        *,
        is_under_way: bool,
        with_counters: bool,
        look_in_s: float | None,
        has_written: bool,
        on_trial: str | None,
    ) -> None:
        """Take what a look found: how closely to follow the deployment's pods from now on.

        `has_written`: the look changed something, so every pod has to say anew where it is.
        `on_trial` is the revision that is judged.
        """
        now = self._clocks.monotonic()
        wait_s = self._cadence.idle_s if look_in_s is None else look_in_s
        attention = Attention(is_under_way, with_counters, now + wait_s, wait_s, on_trial)
        is_closer = is_under_way or self._table.attention(deployment).is_under_way
        self._table.attend(deployment, attention)
        if has_written:
            self._table.wrote(deployment, now)
        if has_written or is_closer:
            for voice in self._table.voices(deployment):
                self._schedule.hasten(voice.question.key, self._latest_at(voice, attention, now))
            self._due.set()

    def _latest_at(self, voice: Voice, attention: Attention, now: float) -> float:
        if self._table.is_unconfirmed(voice) and voice.misses == 0:
            return now + FIRST_S
        return self._cadence.latest_at(voice, attention, now)

    # --- other producers, and people ---

    def heard(self, question: Question, report: UnitReport, asked_at: float) -> None:
        """Take a report, whoever brought it: a poll, a gateway of a site, a pod of its own accord.

        `asked_at` is a moment of the monotonic clock after which the report is true.
        """
        now = self._clocks.monotonic()
        if self._table.heard(question, report, asked_at, now):
            self._wake(question.deployment)

    def voices(self) -> Iterator[Voice]:
        """Yield every pod that is followed, with its last word and its silence."""
        return iter(self._table)

    # --- asking ---

    async def run(self) -> None:
        """Ask whoever is due, until cancelled."""
        try:
            while True:
                self._due.clear()
                self.start_due()
                self._show()
                await self._sleep()
        finally:
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        """Let what is under way end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._parser.shutdown(wait=False)

    def start_due(self) -> None:
        """Begin to ask every pod that is due and has a slot."""
        while (question := self._schedule.take(self._clocks.monotonic())) is not None:
            task = asyncio.create_task(self._ask(question))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _sleep(self) -> None:
        """Sleep until the next pod is due, or until something changes."""
        at = self._schedule.next_at()
        delay = None if at is None else max(0.0, at - self._clocks.monotonic())
        try:
            async with asyncio.timeout(delay):
                await self._due.wait()
        except TimeoutError:
            return

    async def _ask(self, question: Question) -> None:
        asked_at = self._clocks.monotonic()
        result, problem = ReadResult.OK, ""
        try:
            self.heard(question, await self._read(question), asked_at)
        except ReadError as error:
            result, problem = error.result, str(error)
            self._missed(question, asked_at, result, problem)
        except asyncio.CancelledError:
            raise
        except Exception:  # a mistake of ours must not stop the others
            log.exception("asking pod %s failed", question.pod.name)
            result = ReadResult.UNREACHABLE
            self._missed(question, asked_at, result, problem)
        self._telemetry.pod_status_reads.labels(result).inc()
        self._ended(question, asked_at)

    async def _read(self, question: Question) -> UnitReport:
        body = await self._fetch(question)
        wanted = self._table.attention(question.deployment).with_counters
        now_s = self._clocks.now().timestamp()
        if len(body) <= PARSED_HERE:
            return let_in(body, question, now_s, with_counters=wanted)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._parser, lambda: let_in(body, question, now_s, with_counters=wanted)
        )

    def _missed(self, question: Question, asked_at: float, result: ReadResult, why: str) -> None:
        refused = f"its report is refused as {result}: {why}" if result in NONSENSE else ""
        voice, now = self._table.get(question), self._clocks.monotonic()
        if refused and voice is not None and voice.refused != refused:
            log.warning("pod %s/%s: %s", question.deployment[0], question.pod.name, refused)
        if self._table.missed(question, asked_at, now, refused):
            self._wake(question.deployment)

    def _ended(self, question: Question, asked_at: float) -> None:
        """Free the slot, and settle when the pod is asked again."""
        now = self._clocks.monotonic()
        voice = self._table.get(question)
        at, is_slow = now, False
        if voice is not None:
            attention = self._table.attention(question.deployment)
            at = self._cadence.again_at(
                voice, attention, now, self._table.crowd(question.deployment)
            )
            is_slow = voice.misses > 0 or now - asked_at > SLOW_S
        self._schedule.ended(question, at, is_slow=is_slow)
        self._due.set()

    def _show(self) -> None:
        """Bring the gauges up to date, now and then."""
        now = self._clocks.monotonic()
        if now - self._counted_at < GAUGES_EVERY_S:
            return
        self._counted_at = now
        self._telemetry.pods_followed.set(len(self._table))
        self._telemetry.pods_silent.set(sum(voice.misses > 0 for voice in self._table))
        self._telemetry.pods_asked_now.set(self._schedule.under_way)
