"""One thread for the agent's slow work, so that the event loop goes on serving."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Overdue(Exception):  # noqa: N818 (says what the call is)
    """A call did not end in time, and was left behind."""


class Worker:
    """Runs blocking calls one after the other, in the order in which they came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor = self._new()
        self._leftovers: set[asyncio.Future[Any]] = set()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the call's result; a cancellation leaves the call running to its end."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def submit(self, work: Callable[[], object]) -> None:
        """Queue a call that nobody waits for; none, when the worker is closed."""
        with contextlib.suppress(RuntimeError):
            self._executor.submit(work)

    async def run_within(
        self, limit_s: float, work: Callable[[], T], late: Callable[[T], object] | None = None
    ) -> T:
        """Return the call's result; one that is not wanted any more is left behind.

        Args:
            limit_s: seconds that the call may take.
            work: what to call.
            late: is given the result of a call that was left behind.

        Raises:
            Overdue: the call did not end in time.
        """
        call = asyncio.ensure_future(self.run(work))
        try:
            done, _ = await asyncio.wait({call}, timeout=limit_s)
        except asyncio.CancelledError:
            self._leave_behind(call, late)
            raise
        if not done:
            self._leave_behind(call, late)
            raise Overdue
        return call.result()

    async def wait_for_leftovers(self, patience_s: float) -> None:
        """Wait for calls that were left behind: what they hold may be needed now."""
        if self._leftovers:
            await asyncio.wait(self._leftovers, timeout=patience_s)

    @property
    def has_leftovers(self) -> bool:
        """Tell whether a call that was left behind still runs."""
        return bool(self._leftovers)

    def _leave_behind(self, call: asyncio.Future[T], late: Callable[[T], object] | None) -> None:
        """Go on in a new thread; the call that runs keeps the old one to its end."""
        self._executor.shutdown(wait=False)
        self._executor = self._new()
        self._leftovers.add(call)
        call.add_done_callback(lambda _: self._clear(call, late))

    def _clear(self, call: asyncio.Future[T], late: Callable[[T], object] | None) -> None:
        self._leftovers.discard(call)
        if not call.cancelled() and call.exception() is None and late:
            result = call.result()
            self.submit(lambda: late(result))

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)

    def close(self) -> None:
        """Take no more calls."""
        self._executor.shutdown(wait=False)
