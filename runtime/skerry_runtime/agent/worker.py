"""One thread for the agent's slow work, so that the event loop goes on serving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """Runs blocking calls one after the other, in the order in which they came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor = self._new()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the call's result; a cancellation leaves the call running to its end."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def submit(self, work: Callable[[], object]) -> None:
        """Queue a call that nobody waits for."""
        self._executor.submit(work)

    def leave_behind(self) -> None:
        """Go on in a new thread; the call that runs keeps the old one to its end."""
        self._executor.shutdown(wait=False)
        self._executor = self._new()

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)

    def close(self) -> None:
        """Take no more calls."""
        self._executor.shutdown(wait=False)
