"""Fills the placeholders of the demo's manifests."""

from __future__ import annotations

from pathlib import Path
from string import Template

import yaml

from digits_demo.artifacts import Index, TrainedModel
from skerry_operator.api.quantity import duration_s

EXAMPLE = Path(__file__).resolve().parents[1]
MANIFESTS = EXAMPLE / "manifests"
CHART_VALUES = EXAMPLE / "values.yaml"

NAMESPACE = "digits"
DEPLOYMENT = "digits"
MODEL = "digits"


def render_model(index: Index, model: TrainedModel, server_url: str) -> str:
    """Return the EdgeModel of one version, with its files at the given server."""
    return Template((MANIFESTS / "edgemodel.yaml").read_text("utf-8")).substitute(
        version=model.version,
        model_uri=f"{server_url}/{model.file.name}",
        model_sha256=model.file.sha256,
        golden_uri=f"{server_url}/{index.golden.name}",
        golden_sha256=index.golden.sha256,
    )


def namespace() -> str:
    """Return the Namespace."""
    return (MANIFESTS / "namespace.yaml").read_text("utf-8")


def deployment() -> str:
    """Return the EdgeDeployment."""
    return (MANIFESTS / "edgedeployment.yaml").read_text("utf-8")


def latency_limit_ms() -> float | None:
    """Return the largest good p95 that the EdgeDeployment names."""
    analysis = yaml.safe_load(deployment())["spec"]["rollout"]["analysis"]
    limits = [m["max"] for m in analysis["metrics"] if m["name"] == "LatencyP95"]
    return duration_s(limits[0]) * 1000 if limits else None
