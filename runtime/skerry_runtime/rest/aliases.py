"""The serving model's counts under Triton's names, so that dashboards made for it show them.

Names and units: Triton Inference Server, docs/user_guide/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric, UntypedMetricFamily

from skerry_runtime.metrics import Tally

_LABELS = ("model", "version")


def triton_metrics(model: str, version: str, total: Tally, pending: int) -> Iterator[Metric]:
    """Yield what Triton would tell of a model.

    Args:
        model: its name.
        version: the version that serves.
        total: counts of its revision since it serves.
        pending: inferences that run or wait.
    """
    failed = sum(total.failures.values())
    values = {
        "nv_inference_request_success": total.requests - failed,
        "nv_inference_request_failure": failed,
        "nv_inference_count": total.requests - failed,
        "nv_inference_request_duration_us": round(total.sum_ms * 1000.0),
        "nv_inference_pending_request_count": pending,
    }
    for name, value in values.items():
        # Untyped: the library would end the name of a counter in _total, which Triton does not.
        family = UntypedMetricFamily(name, "As Triton counts it.", labels=_LABELS)
        family.add_metric((model, version), value)
        yield family
