"""Keeps the answers to one deployment's queries fresh, and lets no slow server hold a look up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from skerry_operator.decide.analysis.queries import Query
from skerry_operator.decide.observed import Sample, SampleState

PATIENCE_S = 0.3
"""How long a look waits for answers. What comes later is there at the next look: a rollback for
another reason must not wait for a Prometheus that hangs."""

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

    at: datetime
    task: asyncio.Task[Sample] | None = None
    sample: Sample | None = None


@dataclass
class Sampler:
    """The queries of one deployment's rollout."""

    ask: Ask | None
    """None: there is no Prometheus."""
    _asked: dict[str, _Asked] = field(default_factory=dict)
    """Query as sent -> its state; another target makes other queries, so no answer is mixed up."""

    async def samples(
        self, queries: Mapping[str, Query], now: datetime, interval_s: float
    ) -> Mapping[str, Sample]:
        """Return query as written -> latest answer, asking again what is older than the interval.

        A query without any answer yet is absent.
        """
        self._forget_all_but({query.text for query in queries.values()})
        if self.ask is not None:
            await self._refresh(self.ask, queries, now, interval_s)
        found = {written: self._sample(query) for written, query in queries.items()}
        return {written: sample for written, sample in found.items() if sample is not None}

    def close(self) -> None:
        """Break off what is under way."""
        self._forget_all_but(set())

    async def _refresh(
        self, ask: Ask, queries: Mapping[str, Query], now: datetime, interval_s: float
    ) -> None:
        oldest = now - timedelta(seconds=0.9 * interval_s)
        for text in {query.text for query in queries.values() if not query.problem}:
            asked = self._asked.setdefault(text, _Asked(at=datetime.min.replace(tzinfo=now.tzinfo)))
            self._take_in(asked)
            if asked.task is None and asked.at <= oldest:
                asked.at, asked.task = now, asyncio.create_task(_safely(ask, text))
        waiting = [asked.task for asked in self._asked.values() if asked.task]
        if waiting:
            await asyncio.wait(waiting, timeout=PATIENCE_S)
        for asked in self._asked.values():
            self._take_in(asked)

    def _take_in(self, asked: _Asked) -> None:
        if asked.task is not None and asked.task.done():
            asked.sample, asked.task = asked.task.result(), None

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
