"""Keeps the answers to one deployment's queries fresh; a look reads them and waits for nothing."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from skerry_operator.decide.analysis.queries import Query
from skerry_operator.decide.observed import Sample, SampleState

PATIENCE_S = 0.3
"""How long a look is put off for answers. What comes later wakes the next: a rollback for another
reason must not wait for a Prometheus that hangs."""

UNKNOWN = Sample(
    SampleState.EMPTY,
    problem="the operator knows no Prometheus: set prometheus.url in the chart's values "
    "(SKERRY_PROMETHEUS_URL)",
)

log = logging.getLogger(__name__)

Ask = Callable[[str], Awaitable[Sample]]


@dataclass
class _Asked:
    """One query as it was sent, and what came back."""

    at: float
    """Seconds of the monotonic clock."""
    task: asyncio.Task[Sample] | None = None
    sample: Sample | None = None


@dataclass
class Sampler:
    """The queries of one deployment's rollout."""

    ask: Ask | None
    """None: there is no Prometheus."""
    wake: Callable[[], None]
    """Called when an answer is there."""
    _asked: dict[str, _Asked] = field(default_factory=dict)
    """Query as sent -> its state; another target makes other queries, so no answer is mixed up."""

    def samples(self, queries: Mapping[str, Query]) -> Mapping[str, Sample]:
        """Return query as written -> latest answer; a query without any answer yet is absent."""
        found = {written: self._sample(query) for written, query in queries.items()}
        return {written: sample for written, sample in found.items() if sample is not None}

    def refresh(self, queries: Mapping[str, Query], now: float, interval_s: float) -> bool:
        """Ask again what is older than the interval; return whether answers are worth waiting for.

        They are for PATIENCE_S after they were asked for. `now` is of a monotonic clock.
        """
        self._forget_all_but({query.text for query in queries.values()})
        if self.ask is None:
            return False
        for text in {query.text for query in queries.values() if not query.problem}:
            asked = self._asked.setdefault(text, _Asked(at=-math.inf))
            self._take_in(asked)
            if asked.task is None and asked.at <= now - 0.9 * interval_s:
                asked.at, asked.task = now, asyncio.create_task(_safely(self.ask, text))
                asked.task.add_done_callback(lambda _: self.wake())
        return any(one.task and now - one.at < PATIENCE_S for one in self._asked.values())

    def close(self) -> None:
        """Break off what is under way."""
        self._forget_all_but(set())

    def _take_in(self, asked: _Asked) -> None:
        if asked.task is not None and asked.task.done():
            asked.sample, asked.task = replace(asked.task.result(), asked_at=asked.at), None

    def _sample(self, query: Query) -> Sample | None:
        if query.problem:
            return Sample(SampleState.ODD, problem=query.problem)
        if self.ask is None:
            return UNKNOWN
        asked = self._asked.get(query.text)
        return asked.sample if asked else None

    def _forget_all_but(self, texts: set[str]) -> None:
        for text in [text for text in self._asked if text not in texts]:
            task = self._asked.pop(text).task
            if task is not None:
                task.cancel()


async def _safely(ask: Ask, text: str) -> Sample:
    """Ask; a defect of ours is a source that is down, and stops no rollout's other decisions."""
    try:
        return await ask(text)
    except Exception:
        log.exception("the query failed unexpectedly")
        return Sample(SampleState.DOWN, problem="the query failed unexpectedly: see the log")
