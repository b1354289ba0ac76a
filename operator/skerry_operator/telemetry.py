"""What the operator tells of itself: metrics in the manner of controller-runtime, and logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from typing_extensions import override

DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    """All metrics of one operator process, on a registry of its own.

    Labels hold only words from closed sets, or names of objects that exist now; so the number
    of series is bounded by the cluster.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "skerry_reconcile",
            "Reconciles by kind and result: success, error or conflict.",
            ["kind", "result"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "skerry_reconcile_seconds",
            "Time of one reconcile.",
            ["kind"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "skerry_queue_depth", "Objects that are due.", registry=self.registry
        )
        self.queue_latency_seconds = Histogram(
            "skerry_queue_latency_seconds",
            "Time from due to started.",
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self.longest_running_seconds = Gauge(
            "skerry_longest_running_reconcile_seconds",
            "Age of the oldest reconcile that has not ended.",
            registry=self.registry,
        )
        self.api_writes = Counter(
            "skerry_api_writes",
            "Writes to the API server by kind, verb and result (the HTTP status, or error).",
            ["kind", "verb", "result"],
            registry=self.registry,
        )
        self.rollouts = Counter(
            "skerry_rollouts",
            "Rollouts that ended or were stopped, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self.status_refused = Counter(
            "skerry_status_refused",
            "Writes of a status that the API server refused, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.objects_refused = Counter(
            "skerry_objects_refused",
            "Changes of objects that were not looked at because their namespace holds too many, "
            "by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.put_back = Counter(
            "skerry_objects_put_back",
            "Generated objects that somebody else had changed, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.deployment_info = Gauge(
            "skerry_deployment_info",
            "1 for the phase that an EdgeDeployment is in.",
            ["namespace", "name", "phase"],
            registry=self.registry,
        )
        self.pod_status_reads = Counter(
            "skerry_pod_status_reads",
            "Reads of pods' /status by result.",
            ["result"],
            registry=self.registry,
        )
        self.pods_followed = Gauge(
            "skerry_pods_followed",
            "Pods whose reports are kept up to date.",
            registry=self.registry,
        )
        self.pods_silent = Gauge(
            "skerry_pods_silent",
            "Of these, pods that did not answer the last question, or whose answer was refused.",
            registry=self.registry,
        )
        self.pods_asked_now = Gauge(
            "skerry_pods_asked_now",
            "Questions to pods that are under way.",
            registry=self.registry,
        )
        self.prometheus_queries = Counter(
            "skerry_prometheus_queries",
            "Analysis queries to Prometheus by result: read, empty, odd or down.",
            ["result"],
            registry=self.registry,
        )
        self.analysis_value = Gauge(
            "skerry_analysis_value",
            "Latest value of an analysis metric while a rollout is under way.",
            ["namespace", "name", "metric", "cell"],
            registry=self.registry,
        )
        self.leader = Gauge("skerry_leader", "1 while the Lease is held.", registry=self.registry)

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)


_QUIET = ("kopf", "urllib3", "kubernetes", "aiohttp", "asyncio")
"""Libraries that say at `info` and `debug` what only their authors need."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line. Only these fields: an `extra` could carry what is secret."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logs(level: str, *, as_json: bool) -> None:
    """Send all logs to standard error: one JSON object a line, or text for people."""
    handler = logging.StreamHandler()
    if as_json:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
