"""Sequences: requests that build on one state, for models that keep one in the engine.

A client names its sequence with every request, says which is the first and which the last, as
Triton's clients do. Each sequence has a state of its own, belongs to one loaded model and ends
with it. Lives on one event loop; the runs themselves are in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from skerry_runtime.backends.base import Model
from skerry_runtime.errors import InvalidRequest, Overloaded
from skerry_runtime.protocol.types import SequenceStep

MAX_WAITING = 32
"""Requests of one sequence that may wait for their turn."""


@dataclass(frozen=True)
class SequenceBounds:
    """How many states are kept, and how long without a request."""

    most: int = 64
    idle_s: float = 60.0


@dataclass(eq=False)
class OpenSequence:
    """One state, and whose turn it is."""

    state: Model
    used: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    is_over: bool = False


class Sequences:
    """The open sequences of one loaded model."""

    def __init__(
        self, begin: Callable[[], Model], bounds: SequenceBounds, now: Callable[[], float]
    ) -> None:
        self._begin = begin
        self._bounds = bounds
        self._now = now
        self._open: dict[int | str, OpenSequence] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def turn(self, step: SequenceStep) -> AsyncIterator[Model]:
        """Wait until the requests of this sequence that came before are done; give its state.

        Raises:
            InvalidRequest: the sequence is not open, and this is not its first request.
            Overloaded: as many are open as may be, or too many requests wait for their turn.
        """
        sequence = self._sequence_of(step)
        if sequence.waiting >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} requests of this sequence are waiting")
        sequence.waiting += 1
        try:
            async with sequence.turn:
                if sequence.is_over:
                    raise InvalidRequest(_not_open(step, self._bounds))
                try:
                    yield sequence.state
                finally:
                    self._leave(step, sequence)
        finally:
            sequence.waiting -= 1

    def _sequence_of(self, step: SequenceStep) -> OpenSequence:
        self.drop_idle()
        sequence = self._open.get(step.id)
        if step.starts:
            if sequence is None and len(self._open) >= self._bounds.most:
                raise Overloaded(
                    f"{self._bounds.most} sequences are open: end one, or wait until one had no "
                    f"request for {self._bounds.idle_s:g} s"
                )
            sequence = self._open[step.id] = OpenSequence(self._begin(), self._now())
            self._watch()
        if sequence is None:
            raise InvalidRequest(_not_open(step, self._bounds))
        return sequence

    def _leave(self, step: SequenceStep, sequence: OpenSequence) -> None:
        sequence.used = self._now()
        if step.ends:
            sequence.is_over = True
            if self._open.get(step.id) is sequence:
                del self._open[step.id]

    def drop_idle(self) -> None:
        """Forget the sequences that nobody has asked for too long."""
        before = self._now() - self._bounds.idle_s
        for name, sequence in list(self._open.items()):
            if sequence.used <= before and not sequence.waiting:
                del self._open[name]

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._bounds.idle_s, self._look)

    def _look(self) -> None:
        """Drop what is idle though no request comes, as long as anything is open."""
        self._timer = None
        self.drop_idle()
        if self._open:
            self._watch()


def _not_open(step: SequenceStep, bounds: SequenceBounds) -> str:
    name = str(step.id)[:64]
    return (
        f"sequence '{name}' is not open: it has ended, had no request for {bounds.idle_s:g} s, or "
        "began on a model that serves no longer: begin anew with sequence_start"
    )
