"""What became of each request, and the counts made from that."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Sample(BaseModel):
    """One request that ended."""

    model_config = ConfigDict(frozen=True)

    node: str
    at: float
    """Unix seconds at which it was sent."""
    latency_ms: float
    """Seen by the client."""
    revision: str | None = None
    """Who answered; None when nobody did."""
    version: str | None = None
    right: bool = False
    """The answer is the digit in the image."""
    error: str | None = None
    """Why it failed; None when it was answered with a digit."""


@dataclass(frozen=True)
class NodeCounts:
    """Requests to one node."""

    requests: int
    failed: int
    wrong: int
    rate: float
    """Requests per second, lately."""
    p50_ms: float | None
    p95_ms: float | None
    """Latency of the requests counted in `rate`, or of all."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that `share` of all values do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def count(samples: Iterable[Sample], seconds: float = 0) -> NodeCounts:
    """Count samples that were taken in `seconds`; 0 leaves the rate out."""
    found = list(samples)
    good = [sample.latency_ms for sample in found if sample.error is None]
    return NodeCounts(
        requests=len(found),
        failed=sum(sample.error is not None for sample in found),
        wrong=sum(sample.error is None and not sample.right for sample in found),
        rate=len(found) / seconds if seconds else 0.0,
        p50_ms=percentile(good, 0.50),
        p95_ms=percentile(good, 0.95),
    )


class Tally:
    """All samples so far. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Note one request."""
        with self._lock:
            self._samples.append(sample)

    def all(self) -> tuple[Sample, ...]:
        """Return every sample, in the order in which the requests ended."""
        with self._lock:
            return tuple(self._samples)

    def of(self, node: str) -> NodeCounts:
        """Count all requests to a node."""
        return count(sample for sample in self.all() if sample.node == node)

    def lately(self, node: str, now: float, window_s: float = 5.0) -> NodeCounts:
        """Count the requests to a node that were sent in the last seconds."""
        recent = (s for s in self._tail(now - window_s) if s.node == node)
        return count(recent, window_s)

    def failures(self) -> Counter[str]:
        """Count failed requests by what went wrong."""
        return Counter(sample.error for sample in self.all() if sample.error is not None)

    def _tail(self, since: float) -> list[Sample]:
        """Return the samples sent since then, from the end of the list."""
        found: list[Sample] = []
        for sample in reversed(self.all()):
            if sample.at < since - 1:  # requests end in another order than they were sent
                break
            if sample.at >= since:
                found.append(sample)
        return found
