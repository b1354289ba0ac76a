"""What people are told about an EdgeModel: whether it can be used, its files, its builds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.api.v1alpha1.edgemodel import (
    ArtifactStatus,
    EdgeModel,
    EdgeModelSpec,
    EdgeModelStatus,
    Variant,
)
from skerry_operator.api.v1alpha1.edgemodel_optimize import (
    ArtifactOrigin,
    BuildJobPhase,
    Built,
    JobStatus,
)
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.decide.builds.effective import (
    built_variant,
    effective_spec,
    hold_of,
    result_of,
)
from skerry_operator.decide.builds.wanted import wanted_builds
from skerry_operator.decide.observed import ModelHold
from skerry_operator.decide.planned import EventNote, ModelPlan
from skerry_operator.decide.told.validate import model_problems

_LIMIT = 4096


@dataclass(frozen=True)
class BuildsTold:
    """How the builds of a model stand."""

    jobs: tuple[JobStatus, ...] = ()
    results: Mapping[str, Built] = field(default_factory=dict)
    """Key -> result."""
    problems: tuple[str, ...] = ()
    """Why builds that are wanted cannot be made here."""


NONE_TOLD = BuildsTold()


def assess_model(model: EdgeModel, now: datetime, told: BuildsTold = NONE_TOLD) -> ModelPlan:
    """Return the status of a model: whether it can be used, and its files."""
    problems = [*model_problems(model.spec), *told.problems]
    hold = None if problems else hold_of(model.spec, told.results)
    ready = _ready(model, now, problems, hold, told)
    status = EdgeModelStatus(
        observed_generation=model.metadata.generation,
        conditions=(ready, *_besides(model, ready)),
        artifacts=() if problems else tuple(_artifacts(model.spec, told.results)),
        jobs=told.jobs,
    )
    return ModelPlan(status, _events(_previous(model, ConditionType.READY), ready))


def _ready(
    model: EdgeModel,
    now: datetime,
    problems: list[str],
    hold: ModelHold | None,
    told: BuildsTold,
) -> Condition:
    reason = Reason.INVALID_SPEC if problems else hold.reason if hold else Reason.VALID
    said = "; ".join(problems) or (hold.message if hold else _praise(model.spec, told))
    status = ConditionStatus.FALSE if problems or hold else ConditionStatus.TRUE
    previous = _previous(model, ConditionType.READY)
    is_same = previous is not None and previous.status is status
    return Condition(
        type=ConditionType.READY,
        status=status,
        reason=reason,
        message=said[:_LIMIT],
        last_transition_time=previous.last_transition_time if previous and is_same else now,
        observed_generation=model.metadata.generation,
    )


def _besides(model: EdgeModel, ready: Condition) -> tuple[Condition, ...]:
    """Return the condition by which kstatus tells work from a case for a person."""
    if ready.status is ConditionStatus.TRUE:
        return ()
    is_work = ready.reason == Reason.OPTIMIZING
    kind = ConditionType.RECONCILING if is_work else ConditionType.STALLED
    previous = _previous(model, kind)
    since = previous.last_transition_time if previous else ready.last_transition_time
    changes = {"type": kind, "status": ConditionStatus.TRUE, "last_transition_time": since}
    return (ready.model_copy(update=changes),)


def _praise(spec: EdgeModelSpec, told: BuildsTold) -> str:
    variants = ", ".join(one.name for one in effective_spec(spec, told.results).variants)
    exam = "with a golden exam" if spec.golden else "without a golden exam: add spec.golden"
    text = f"version {spec.version}, variants {variants}, {exam}"
    left = [one for one in told.jobs if one.phase in (BuildJobPhase.REFUSED, BuildJobPhase.FAILED)]
    return "; ".join([text, *(f"job {one.name} is {one.phase}: {one.message}" for one in left)])


def _previous(model: EdgeModel, kind: ConditionType) -> Condition | None:
    return next((one for one in model.status.conditions if one.type == kind), None)


def _events(previous: Condition | None, ready: Condition) -> tuple[EventNote, ...]:
    """Say it once: when a model becomes invalid, or invalid for another reason."""
    if ready.status is ConditionStatus.TRUE or ready.reason == Reason.OPTIMIZING:
        return ()
    is_known = previous is not None and previous.message == ready.message
    return () if is_known else (EventNote(True, ready.reason, ready.message),)


def _artifacts(spec: EdgeModelSpec, results: Mapping[str, Built]) -> Iterator[ArtifactStatus]:
    for wanted in wanted_builds(spec):
        result = result_of(wanted, results)
        variant = None if result is None else built_variant(wanted, result, None)
        if result is not None and variant is not None:
            yield _artifact(variant).model_copy(
                update={
                    "origin": ArtifactOrigin.OPTIMIZED,
                    "job": wanted.name,
                    "size_bytes": result.size_bytes,
                    "accuracy": result.accuracy,
                    "accuracy_drop": result.accuracy_drop,
                    "latency_ratio": result.latency_ratio,
                    "peak_memory_bytes": result.peak_memory_bytes,
                }
            )
    yield from map(_artifact, spec.variants)


def _artifact(variant: Variant) -> ArtifactStatus:
    return ArtifactStatus(
        variant=variant.name,
        format=variant.format,
        precision=variant.precision,
        sha256=variant.source.sha256,
        uri=variant.source.uri,
        origin=ArtifactOrigin.SOURCE,
    )
