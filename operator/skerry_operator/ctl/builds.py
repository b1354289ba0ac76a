"""`skerry optimize status`: how the builds of a model are getting on, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.api.v1alpha1.edgemodel import ArtifactStatus, EdgeModel
from skerry_operator.api.v1alpha1.edgemodel_optimize import JobStatus
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.ctl.answer import Answer, Declined, Exit
from skerry_operator.ctl.cluster import Cluster
from skerry_operator.ctl.follow import LOOK_EVERY_S, Following
from skerry_operator.ctl.table import as_json, page, section, table
from skerry_operator.kube.read import BadResource, model_entry, read_model

HEAD = ("BUILD", "PHASE", "SECONDS", "MESSAGE")
WORTH = ("VARIANT", "MADE BY", "BYTES", "EXAM", "WORSE BY", "TIME", "MEMORY")


def builds_status(cluster: Cluster, name: str, *, json: bool) -> Answer:
    """Tell how the builds of a model are.

    Raises:
        Declined: there is no such model, or it asks for no builds.
    """
    model = _model(cluster, name)
    return Answer(as_json(_as_json(model)) if json else builds_text(model))


def watch_builds(
    cluster: Cluster, name: str, say: Callable[[str], None], watch: Following
) -> Answer:
    """Say every change of a job in one line until no job is under way, or the time is over."""
    end = None if watch.timeout_s is None else watch.monotonic() + watch.timeout_s
    said: dict[str, str] = {}
    while True:
        model = _model(cluster, name)
        for job in model.status.jobs:
            if (line := _line(job)) != said.get(job.name):
                say(line)
                said[job.name] = line
        if (code := _outcome(model)) is not None:
            return Answer(builds_text(model), code)
        if end is not None and watch.monotonic() >= end:
            return Answer(f"still under way after {watch.timeout_s:g} s", Exit.TIMED_OUT)
        watch.pause(LOOK_EVERY_S)


def builds_text(model: EdgeModel) -> str:
    """Return what people read of the builds of a model."""
    ready = _ready(model)
    first = f"{ready.reason}: {ready.message}" if ready else "the operator has not seen it yet"
    jobs = table(HEAD, [(one.name, one.phase, one.seconds, one.message) for one in _jobs(model)])
    worth = table(WORTH, [_worth(one) for one in model.status.artifacts])
    return page(first, section("Jobs", jobs), section("Builds", worth))


def _worth(one: ArtifactStatus) -> tuple[object, ...]:
    memory = None if one.peak_memory_bytes is None else f"{one.peak_memory_bytes / 2**20:.1f}Mi"
    ratio = None if one.latency_ratio is None else f"{one.latency_ratio} of its origin's"
    return (
        one.variant,
        one.job or one.origin,
        one.size_bytes,
        one.accuracy,
        one.accuracy_drop,
        ratio,
        memory,
    )


def _as_json(model: EdgeModel) -> dict[str, Any]:
    ready = _ready(model)
    return {
        "ready": ready.to_dict() if ready else None,
        "jobs": [one.model_dump(mode="json", by_alias=True) for one in _jobs(model)],
        "artifacts": [one.model_dump(mode="json", by_alias=True) for one in model.status.artifacts],
    }


def _outcome(model: EdgeModel) -> Exit | None:
    """Return how the builds ended that the spec asks for now; None: some are under way."""
    ready = _ready(model)
    if model.status.observed_generation != model.metadata.generation or ready is None:
        return None
    if ready.status is ConditionStatus.TRUE:
        return Exit.OK
    return None if ready.reason == Reason.OPTIMIZING else Exit.NOT_READY


def _model(cluster: Cluster, name: str) -> EdgeModel:
    raw = cluster.model(name)
    if raw is None:
        raise Declined(f"there is no EdgeModel {cluster.namespace}/{name}: correct the name or -n")
    try:
        model = read_model(model_entry(raw))
    except BadResource as error:
        raise Declined(f"{cluster.namespace}/{name}: {error}: is this CLI too old?") from error
    if model.spec.optimize is None:
        raise Declined(f"EdgeModel {name} asks for no builds: add spec.optimize")
    return model


def _jobs(model: EdgeModel) -> tuple[JobStatus, ...]:
    return model.status.jobs


def _ready(model: EdgeModel) -> Condition | None:
    return next((c for c in model.status.conditions if c.type == ConditionType.READY), None)


def _line(job: JobStatus) -> str:
    return f"{job.name}: {job.phase}: {job.message}".rstrip(": ")
