"""How fast this pod may fetch, and what it may not fetch now: the assignment's last word on it.

A board needs no clock for this: the operator judges the windows and says open or shut. While nobody
says another word, the last one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from skerry_runtime.contract import DownloadRules

SHUT = "waits for a download window"
"""What people read while a download is not to go on."""

_BURST_S = 0.05
"""What may be made up for after a pause of the source: it keeps the mean within a few percent."""
_SHORTEST_S = 0.01
"""No shorter sleep: many small chunks are paid for together."""
_BUFFER_S = 0.2
"""How much the system may take in ahead of us, so that the line sees the rate, too. Less would slow
lines with a long round trip down further than asked for."""
_LEAST_BUFFER, _MOST_BUFFER = 16 * 1024, 1024 * 1024

Sleep = Callable[[float], Awaitable[None]]


class WindowShut(Exception):  # noqa: N818 (says what the window is)
    """The download is not to go on now; what arrived is kept."""


class DownloadPace:
    """Holds all downloads of the pod together to a rate.

    Each byte has its moment: `_due` is when the next one may come. A source that pauses loses its
    turn but for a short burst, so that the mean over a whole file is the rate.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._rules = DownloadRules()
        self._due = clock()
        self._news = asyncio.Event()
        self._waiting: Counter[str] = Counter()

    def obey(self, rules: DownloadRules | None) -> None:
        """Take the word of the assignment; None: there are no rules."""
        rules = rules or DownloadRules()
        if rules == self._rules:
            return
        self._rules, self._due = rules, self._clock()
        self._news.set()
        self._news = asyncio.Event()

    def is_shut(self, revision: str) -> bool:
        """Tell whether the files of a revision are not to be fetched now."""
        return revision in self._rules.shut

    def is_waiting(self, revision: str) -> bool:
        """Tell whether a download of this revision waits for its window."""
        return self._waiting[revision] > 0

    async def opened(self, revision: str, within_s: float | None = None) -> None:
        """Wait until the files of a revision may be fetched, or for so long."""
        self._waiting[revision] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    while self.is_shut(revision):
                        await self._news.wait()
        finally:
            self._waiting[revision] -= 1

    async def took(self, count: int, revision: str) -> float:
        """Wait until so many bytes, that are there, may have come; return the seconds waited.

        Raises:
            WindowShut: no more of this revision is to come now.
        """
        began = self._clock()
        rate = self._rules.bytes_per_s
        if rate is not None:
            self._due = max(self._due, began - _BURST_S) + count / rate
            await self._until_due()
        if self.is_shut(revision):
            raise WindowShut
        return self._clock() - began

    async def _until_due(self) -> None:
        """Sleep, but no longer than the rules stay as they are."""
        news = self._news
        while not news.is_set() and (left := self._due - self._clock()) >= _SHORTEST_S:
            await self._sleep(min(left, 1.0))

    @property
    def buffer_bytes(self) -> int:
        """How much a socket may take in by itself; 0: what the system likes."""
        rate = self._rules.bytes_per_s
        return 0 if rate is None else min(_MOST_BUFFER, max(_LEAST_BUFFER, int(rate * _BUFFER_S)))
