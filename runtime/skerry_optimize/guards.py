"""Whether a build is good enough. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from skerry_optimize.measure import Speed
from skerry_optimize.plan import Guards
from skerry_runtime.contract import GoldenMetric


@dataclass(frozen=True)
class BuildFigures:
    """A build beside its origin."""

    size_bytes: int
    origin_bytes: int
    speed: Speed
    metric: GoldenMetric | None = None
    accuracy: float | None = None
    """Result in the exam; None: there is none."""
    origin_accuracy: float | None = None

    @property
    def size_ratio(self) -> float:
        """Return the share of its origin's bytes."""
        return self.size_bytes / self.origin_bytes

    @property
    def accuracy_drop(self) -> float | None:
        """Return how much worse it is in the exam; below 0: better."""
        if self.accuracy is None or self.origin_accuracy is None:
            return None
        drop = self.origin_accuracy - self.accuracy
        return drop if self.metric is None or self.metric.higher_is_better else -drop


def broken(guards: Guards, figures: BuildFigures) -> list[str]:
    """Return what the build breaks, each with its figures; nothing: it is good enough."""
    return [*_accuracy(guards, figures), *_size(guards, figures), *_latency(guards, figures)]


def _accuracy(guards: Guards, figures: BuildFigures) -> Iterator[str]:
    limit, drop = guards.max_accuracy_drop, figures.accuracy_drop
    # a decimal limit is met by what its decimal says, not by a float that is a hair above
    if limit is not None and drop is not None and drop > float(Decimal(limit)) + 1e-12:
        yield (
            f"{figures.metric} {figures.accuracy:.4f} after {figures.origin_accuracy:.4f}: "
            f"{drop:.4f} worse, maxAccuracyDrop is {limit}"
        )


def _size(guards: Guards, figures: BuildFigures) -> Iterator[str]:
    limit = guards.max_size_ratio
    if limit is not None and figures.size_ratio > float(Decimal(limit)):
        yield (
            f"{figures.size_bytes} bytes after {figures.origin_bytes}: {figures.size_ratio:.3f} of "
            f"it, maxSizeRatio is {limit}"
        )


def _latency(guards: Guards, figures: BuildFigures) -> Iterator[str]:
    limit, speed = guards.max_latency_ratio, figures.speed
    if limit is not None and min(speed.ratios) > float(Decimal(limit)):
        yield (
            f"{speed.after_us:.0f} us after {speed.before_us:.0f}: {speed.ratio:.2f} times, in "
            f"every round more than maxLatencyRatio {limit}"
        )
