"""Gives memory back that the C library keeps: what a request took is free for the next model."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

LOOK_S = 10.0
"""How often a process looks at its own memory."""

CHANGE = 0.05
"""Change since the last time, up or down, from which on it is worth a walk through the heap."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Return freed pages to the system; blocks for about a millisecond in 100 MB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
    if trim:
        trim(0)


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where nothing tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


class Thrift:
    """Gives memory back when requests have moved it since the last time.

    Down counts too: the last time may have been in the middle of a large request.
    """

    def __init__(
        self,
        resident: Callable[[], int] = resident_bytes,
        trim: Callable[[], None] = give_back,
    ) -> None:
        self._resident, self._trim = resident, trim
        self._left: int | None = None

    def look(self) -> bool:
        """Give back what is free, and tell whether there was reason to."""
        now = self._resident()
        if self._left is not None and abs(now - self._left) <= CHANGE * self._left:
            return False
        self._trim()
        self._left = self._resident()
        return True

    async def keep(self, every_s: float = LOOK_S) -> None:
        """Look for ever; the heap is gone through in a thread."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.look)
