"""The work queue: keyed, deduplicating, spaced, with back-off; one reconcile per key at a time.

`Backlog` is the bookkeeping: no clock, no event loop, every method is told the time.
`Workers` turns it with asyncio.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from random import Random

from skerry_operator.handlers.change import Key
from skerry_operator.kube.errors import Conflict, Fenced, KubeError
from skerry_operator.telemetry import Telemetry

SPACING_S = 0.5
"""Least time between two starts for one key that events ask for: a hundred edits in a second are
three reconciles. What a reconcile itself asks for (`requeue_after`) is not held back."""

BACKOFF_FIRST_S = 0.2
BACKOFF_LONGEST_S = 60.0

REMEMBERED = 20_000
"""Keys whose last start is kept; beyond it, those that no longer matter are dropped."""

log = logging.getLogger(__name__)


class Backlog:
    """Which key is due when."""

    def __init__(self, random: Random, spacing_s: float = SPACING_S) -> None:
        self._random = random
        self._spacing_s = spacing_s
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = 0
        self._running: dict[Key, float] = {}
        self._last_start: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        """Until when the API server asked to be left alone about a key."""

    def __len__(self) -> int:
        """Return how many keys wait, also those that are to be looked at much later."""
        return len(self._due)

    def overdue(self, now: float) -> int:
        """Return how many keys are due."""
        return sum(at <= now for at in self._due.values())

    def add(self, key: Key, now: float) -> None:
        """Ask for a reconcile because something changed; asking twice is asking once.

        A key that is being worked on is started again afterwards. A key that waits out its
        back-off is started at once: what changed may be the cure. But not before the API server
        wants to hear of it again: a busy one is not helped by more questions.
        """
        spaced = self._last_start.get(key, now - self._spacing_s) + self._spacing_s
        self._set(key, max(now, spaced, self._not_before.get(key, now)))

    def take(self, now: float) -> tuple[Key, float] | None:
        """Return the key that is due longest, with how long it is; None: nothing is due."""
        postponed: list[tuple[float, int, Key]] = []
        found = None
        while self._heap and self._heap[0][0] <= now and found is None:
            at, _, key = item = heapq.heappop(self._heap)
            if self._due.get(key) != at:  # replaced by an earlier one, or done
                continue
            if key in self._running:
                postponed.append(item)
                continue
            found = key, now - at
        for item in postponed:
            heapq.heappush(self._heap, item)
        if found is not None:
            self._start(found[0], now)
        return found

    def _start(self, key: Key, now: float) -> None:
        del self._due[key]
        self._not_before.pop(key, None)
        self._running[key] = now
        self._last_start[key] = now
        if len(self._last_start) > REMEMBERED:
            recent = {k: at for k, at in self._last_start.items() if at > now - self._spacing_s}
            self._last_start = recent

    def done(self, key: Key, now: float, again_after_s: float | None) -> None:
        """Say that the key's reconcile ended well, and when it wants the next one."""
        del self._running[key]
        self._failures.pop(key, None)
        if again_after_s is not None:
            self._set(key, now + again_after_s)

    def failed(self, key: Key, now: float, at_least_s: float = 0.0) -> float:
        """Say that the key's reconcile failed; return the back-off, at least `at_least_s`."""
        del self._running[key]
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(at_least_s, self._backoff(failures))
        if at_least_s > 0:
            self._not_before[key] = now + at_least_s
            self._due.pop(key, None)  # what events asked for meanwhile waits, too
        self._set(key, now + delay)
        return delay

    def _backoff(self, failures: int) -> float:
        """Return a time between half and all of first * 2^(failures - 1), at most the longest."""
        full = min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 30))
        return full * self._random.uniform(0.5, 1.0)

    def next_at(self) -> float | None:
        """Return when the next key that is not being worked on is due; None: none is."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._heap and self._heap[0][2] not in self._running:
            return self._heap[0][0]
        return min((at for key, at in self._due.items() if key not in self._running), default=None)

    def oldest_running_s(self, now: float) -> float:
        """Return the age of the oldest reconcile that has not ended; 0 without any."""
        return max((now - started for started in self._running.values()), default=0.0)

    @property
    def running(self) -> int:
        """How many keys are being worked on."""
        return len(self._running)

    def _set(self, key: Key, at: float) -> None:
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))


Work = Callable[[Key], Awaitable[float | None]]
"""Reconciles one key; returns when to do it again, None: on the next event."""


class Workers:
    """Works the backlog off, a bounded number of keys at one time."""

    def __init__(self, backlog: Backlog, work: Work, count: int, telemetry: Telemetry) -> None:
        self._backlog = backlog
        self._work = work
        self._count = count
        self._telemetry = telemetry
        self._wake = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, key: Key) -> None:
        """Ask for a reconcile of the key."""
        self._backlog.add(key, _now())
        self._wake.set()

    def oldest_running_s(self) -> float:
        """Return the age of the oldest reconcile that has not ended."""
        return self._backlog.oldest_running_s(_now())

    async def run(self) -> None:
        """Work until `stop` is called."""
        loop = asyncio.get_running_loop()
        self._telemetry.queue_depth.set_function(lambda: self._backlog.overdue(loop.time()))
        while not self._stopping:
            self._start_what_is_due()
            self._wake.clear()
            await self._sleep()

    async def stop(self, within_s: float) -> None:
        """Start nothing more, and wait for what is under way."""
        self._stopping = True
        self._wake.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_s)
            for task in late:
                log.warning("%s did not end in time", task.get_name())
                task.cancel()

    def _start_what_is_due(self) -> None:
        while self._backlog.running < self._count and not self._stopping:
            taken = self._backlog.take(_now())
            if taken is None:
                return
            key, waited_s = taken
            self._telemetry.queue_latency_seconds.observe(waited_s)
            task = asyncio.create_task(self._run_one(key), name=f"reconcile {'/'.join(key)}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _sleep(self) -> None:
        """Sleep until woken, or until the next key is due while a worker is free."""
        at = self._backlog.next_at() if self._backlog.running < self._count else None
        delay = None if at is None else max(0.0, at - _now())
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _run_one(self, key: Key) -> None:
        kind, started = key[0], _now()
        result = "success"
        try:
            again_after_s = await self._work(key)
            self._backlog.done(key, _now(), again_after_s)
        except Conflict as error:
            result = "conflict"
            self._retry(key, error, logging.DEBUG)
        except Fenced:
            result = "fenced"
            self._backlog.failed(key, _now())
        except KubeError as error:
            result = "error"
            self._retry(key, error, logging.WARNING)
        except Exception:  # a mistake of ours must not stop the others
            result = "error"
            delay = self._backlog.failed(key, _now())
            log.exception("%s failed; next try in %.1f s", "/".join(key), delay)
        finally:
            self._telemetry.reconciles.labels(kind, result).inc()
            self._telemetry.reconcile_seconds.labels(kind).observe(_now() - started)
            self._wake.set()

    def _retry(self, key: Key, error: KubeError, level: int) -> None:
        delay = self._backlog.failed(key, _now(), error.retry_after_s or 0.0)
        log.log(level, "%s: %s; next try in %.1f s", "/".join(key), error, delay)


def _now() -> float:
    return asyncio.get_running_loop().time()
