"""Counters per revision."""

from __future__ import annotations

import re
import threading

from hypothesis import given
from hypothesis import strategies as st

from serving.fakes import FakeModel, serving
from serving.running import ROOT
from skerry_runtime.contract import (
    LATENCY_BOUNDS_MS,
    FailureReason,
    Progress,
    StatusReport,
    SwapMode,
    SwapPhase,
    SwapRecord,
)
from skerry_runtime.metrics import KEPT_REVISIONS, Metrics
from skerry_runtime.registry import Registry
from skerry_runtime.rest.exposition import Exposition, Live


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def metrics_at(clock: Clock) -> Metrics:
    return Metrics(monotonic=clock, now=lambda: 7.0)


def test_totals_keep_what_the_last_minute_forgets() -> None:
    clock = Clock()
    revision = metrics_at(clock).activate("r1")
    revision.succeed(0.001)
    clock.seconds += 59
    revision.fail("InferenceFailed")
    assert revision.counters().last_minute.requests == 2
    clock.seconds += 1
    counters = revision.counters()
    assert (counters.last_minute.requests, counters.total.requests) == (1, 2)
    clock.seconds += 600
    assert revision.counters().last_minute.requests == 0
    assert revision.counters().total.failures == {"InferenceFailed": 1}


def test_a_place_of_the_ring_is_emptied_before_it_is_used_again() -> None:
    clock = Clock()
    revision = metrics_at(clock).activate("r1")
    for _ in range(300):
        revision.succeed(0.001)
        clock.seconds += 1
    assert revision.counters().last_minute.requests == 59
    assert revision.counters().total.requests == 300


def test_rejected_requests_are_no_requests_and_no_failures() -> None:
    revision = metrics_at(Clock()).activate("r1")
    revision.reject()
    total = revision.counters().total
    assert (total.requests, total.failures, total.rejected) == (0, {}, 1)


@given(st.floats(0, 1e6))
def test_a_latency_lies_in_the_first_bucket_that_bounds_it(ms: float) -> None:
    revision = metrics_at(Clock()).activate("r1")
    revision.succeed(ms / 1000.0)
    counts = revision.counters().total.latency.counts
    bounds = (*LATENCY_BOUNDS_MS, float("inf"))
    place = counts.index(1)
    told = ms / 1000.0 * 1000.0
    assert told <= bounds[place]
    assert place == 0 or told > bounds[place - 1]


def test_activating_again_counts_anew() -> None:
    metrics = metrics_at(Clock())
    metrics.activate("r1").succeed(0.001)
    metrics.activate("r1")
    assert [c.total.requests for c in metrics.counters()] == [0]
    assert metrics.counters()[0].since == 7.0


def test_only_the_latest_revisions_are_kept_latest_first() -> None:
    metrics = metrics_at(Clock())
    for number in range(8):
        metrics.activate(f"r{number}")
    assert [c.revision for c in metrics.counters()] == ["r7", "r6", "r5", "r4", "r3"]
    assert len(metrics.counters()) == KEPT_REVISIONS


def test_no_count_is_lost_between_threads() -> None:
    revision = Metrics().activate("r1")

    def count() -> None:
        for _ in range(2000):
            revision.succeed(0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counters = revision.counters()
    assert counters.total.requests == sum(counters.total.latency.counts) == 8000


def test_prometheus_reads_the_same_counts() -> None:
    metrics, registry = metrics_at(Clock()), Registry()
    revision = metrics.activate("r1")
    revision.succeed(0.004)
    revision.succeed(1000.0)
    revision.fail("InferenceFailed")
    metrics.swaps.record_failure(FailureReason.EXAM_FAILED)
    metrics.swaps.record_success(
        SwapRecord(
            from_revision=None,
            to_revision="r1",
            mode=SwapMode.OVERLAP,
            total_ms=1500.0,
            switch_ms=1.0,
            outage_ms=0.0,
            fetched=True,
            at=1.0,
        )
    )
    registry.switch(serving(FakeModel()))
    page = Exposition(metrics, registry).text().decode()
    for line in (
        'skerry_inference_requests_total{revision="r1"} 3.0',
        'skerry_inference_failures_total{kind="InferenceFailed",revision="r1"} 1.0',
        'skerry_inference_request_duration_seconds_count{revision="r1"} 2.0',
        'skerry_inference_request_duration_seconds_bucket{le="63.7237",revision="r1"} 1.0',
        'skerry_swap_failures_total{reason="ExamFailed"} 1.0',
        "skerry_swap_duration_seconds_total 1.5",
    ):
        assert line in page
    assert 'skerry_model_info{model="digits",provider="CPUExecutionProvider"' in page


def test_prometheus_sees_the_queue_the_phase_and_what_triton_would_tell() -> None:
    metrics, registry = metrics_at(Clock()), Registry()
    revision = metrics.activate("r1")
    revision.succeed(0.004)
    revision.fail("InferenceFailed")
    registry.switch(serving(FakeModel()))
    progress = Progress(revision="r2", phase=SwapPhase.PROBING)
    status = StatusReport(
        unit="n", runtime_version="0", boot_id="b", started_at=0.0, now=1.0, progress=progress
    )
    page = Exposition(metrics, registry, Live(lambda: 3, 128, lambda: status)).text()
    for line in (
        "skerry_inference_pending 3.0",
        "skerry_inference_pending_limit 128.0",
        'skerry_swap_phase{phase="Probing"} 1.0',
        'skerry_swap_phase{phase="Serving"} 0.0',
        'nv_inference_request_success{model="digits",version="1.0.0"} 1.0',
        'nv_inference_request_failure{model="digits",version="1.0.0"} 1.0',
        'nv_inference_pending_request_count{model="digits",version="1.0.0"} 3.0',
        'nv_inference_request_duration_us{model="digits",version="1.0.0"} 4000.0',
    ):
        assert line in page.decode()


def test_the_documentation_has_every_metric() -> None:
    metrics, registry = metrics_at(Clock()), Registry()
    registry.switch(serving(FakeModel()))
    swap = SwapRecord(
        from_revision=None,
        to_revision="r1",
        mode=SwapMode.OVERLAP,
        total_ms=1.0,
        switch_ms=1.0,
        outage_ms=0.0,
        fetched=True,
        at=1.0,
    )
    status = StatusReport(
        unit="n", runtime_version="0", boot_id="b", started_at=0.0, now=1.0, last_swap=swap
    )
    page = Exposition(metrics, registry, Live(status=lambda: status)).text().decode()
    found = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    page_of_pods = (ROOT / "docs/observability.md").read_text().split("\n## The operator ")[0]
    told = set(re.findall(r"`(\w+)`", page_of_pods))
    assert {name for name in found if not name.startswith("process_")} <= told
    assert {name for name in told if name.startswith(("skerry_", "nv_"))} - {"skerry_runtime"} <= (
        found
    )
