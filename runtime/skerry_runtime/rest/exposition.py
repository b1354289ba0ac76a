"""The counters in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from skerry_runtime.access import Reads
from skerry_runtime.contract import LATENCY_BOUNDS_MS, StatusReport, SwapPhase
from skerry_runtime.metrics import Metrics, RevisionMetrics, SwapMetrics, Tally
from skerry_runtime.registry import Registry
from skerry_runtime.rest.aliases import triton_metrics

BUCKET_STEP = 4
"""Every fourth bound is exposed (a factor of 2.4): a fleet's server pays for each series."""


@dataclass(frozen=True)
class Live:
    """What is looked up at each request."""

    pending: Callable[[], int] = lambda: 0
    """Inferences that run in threads or wait for one."""
    queue_limit: int = 0
    status: Callable[[], StatusReport | None] = lambda: None
    secrets: Callable[[], Reads | None] = lambda: None


class Exposition:
    """Answers /metrics."""

    def __init__(self, metrics: Metrics, registry: Registry, live: Live | None = None) -> None:
        self._prometheus = CollectorRegistry()
        self._prometheus.register(ServingCollector(metrics, registry, live or Live()))
        ProcessCollector(registry=self._prometheus)

    def text(self) -> bytes:
        """Return the page."""
        return generate_latest(self._prometheus)


class ServingCollector(Collector):
    """Reads the counters when Prometheus asks; the hot path pays nothing for them."""

    def __init__(self, metrics: Metrics, registry: Registry, live: Live) -> None:
        self._metrics = metrics
        self._registry = registry
        self._live = live

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        spans = [(revision, revision.snapshot()[0]) for revision in self._metrics.revisions()]
        yield from self._model()
        yield from _requests(spans)
        yield _durations(spans)
        yield CounterMetricFamily(
            "skerry_inference_unserved",
            "Requests that found no serving model.",
            value=self._metrics.unserved,
        )
        yield from _queue(self._live)
        yield from _swaps(self._metrics.swaps)
        yield from _progress(self._live.status())
        yield from _secrets(self._live.secrets())

    def _model(self) -> Iterator[Metric]:
        labels = ("model", "revision", "version", "variant", "provider")
        info = GaugeMetricFamily("skerry_model_info", "The model that serves.", labels=labels)
        serving = self._registry.current
        if serving is not None:
            served = serving.served
            provider = serving.model.acceleration.effective
            values = (serving.name, served.revision, served.version, served.variant, provider)
            info.add_metric(values, 1)
            yield GaugeMetricFamily(
                "skerry_model_accelerated_percent",
                "Share of the graph's nodes on the provider that was asked for.",
                value=serving.model.acceleration.delegated_percent,
            )
            yield GaugeMetricFamily(
                "skerry_model_since_timestamp_seconds",
                "When the model began to serve, Unix time.",
                value=served.since,
            )
            total, _ = self._metrics.of(served.revision).snapshot()
            pending = self._live.pending()
            yield from triton_metrics(serving.name, served.version, total, pending)
        yield info


Spans = list[tuple[RevisionMetrics, Tally]]


def _requests(spans: Spans) -> Iterator[Metric]:
    requests = _counter("requests", "Inference requests that ended, failed ones included.")
    rejected = _counter("rejected", "Requests refused for the client's mistakes.")
    failures = _counter("failures", "Inference requests that failed on the server.", "kind")
    for revision, total in spans:
        requests.add_metric((revision.revision,), total.requests)
        rejected.add_metric((revision.revision,), total.rejected)
        for kind, count in total.failures.items():
            failures.add_metric((revision.revision, kind), count)
    yield from (requests, rejected, failures)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"skerry_inference_{name}", text, labels=("revision", *labels))


def _durations(spans: Spans) -> Metric:
    family = HistogramMetricFamily(
        "skerry_inference_request_duration_seconds",
        "From the request read to the answer ready, successful requests.",
        labels=("revision",),
    )
    for revision, total in spans:
        family.add_metric((revision.revision,), _buckets(total), total.sum_ms / 1000.0)
    return family


def _buckets(total: Tally) -> list[tuple[str, float]]:
    """Return cumulative counts at every BUCKET_STEP-th bound, and at infinity."""
    below = list(accumulate(total.latency))
    picked = range(BUCKET_STEP - 1, len(LATENCY_BOUNDS_MS), BUCKET_STEP)
    finite = [(f"{LATENCY_BOUNDS_MS[place] / 1000.0:.6g}", float(below[place])) for place in picked]
    return [*finite, ("+Inf", float(below[-1]))]


def _swaps(swaps: SwapMetrics) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "skerry_swaps", "Swaps that ended with the new revision serving.", value=swaps.succeeded
    )
    failed = CounterMetricFamily(
        "skerry_swap_failures", "Revisions that this pod refused.", labels=("reason",)
    )
    for reason, count in swaps.failed.items():
        failed.add_metric((reason,), count)
    yield failed
    yield CounterMetricFamily(
        "skerry_swap_duration_seconds", "Time of all swaps together.", value=swaps.duration_s
    )
    yield CounterMetricFamily(
        "skerry_swap_outage_seconds",
        "Time without a serving model in all swaps together.",
        value=swaps.outage_s,
    )


def _queue(live: Live) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "skerry_inference_pending",
        "Inferences that run in threads or wait for one.",
        value=live.pending(),
    )
    yield GaugeMetricFamily(
        "skerry_inference_pending_limit",
        "Pending inferences from which on requests are refused.",
        value=live.queue_limit,
    )


def _secrets(reads: Reads | None) -> Iterator[Metric]:
    """Yield whether the mounted tokens and certificates are those in force."""
    if reads is None:
        return
    yield CounterMetricFamily(
        "skerry_secret_read_failures",
        "Times that mounted tokens or certificates could not be read or used.",
        value=reads.failures,
    )
    yield GaugeMetricFamily(
        "skerry_secrets_stale",
        "1 while what is in force is older than what is mounted.",
        value=float(reads.is_stale),
    )


def _progress(status: StatusReport | None) -> Iterator[Metric]:
    """Yield where the assigned revision stands, and what the last swap cost."""
    phase = GaugeMetricFamily(
        "skerry_swap_phase", "1 for the phase of the assigned revision.", labels=("phase",)
    )
    current = status.progress.phase if status and status.progress else None
    for known in SwapPhase:
        phase.add_metric((known.value,), float(known is current))
    yield phase
    swap = status.last_swap if status else None
    if swap is None:
        return
    for name, text, ms in (
        ("skerry_last_swap_seconds", "From the assignment read to the switch.", swap.total_ms),
        ("skerry_model_load_seconds", "Of it: load, exam and warm-up.", swap.switch_ms),
        ("skerry_last_swap_outage_seconds", "Of it: without a model.", swap.outage_ms),
    ):
        yield GaugeMetricFamily(name, text, value=ms / 1000.0)
