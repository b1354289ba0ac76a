"""EdgeModel checks that one look at the schema cannot make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.api.bounds import PLAIN, is_plain
from skerry_operator.api.v1alpha1.edgemodel import (
    ArtifactStatus,
    EdgeModel,
    EdgeModelSpec,
    EdgeModelStatus,
    Variant,
)
from skerry_operator.api.v1alpha1.edgemodel_source import ModelSource
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.decide.planned import EventNote, ModelPlan
from skerry_runtime.contract import GoldenMetric, clashing_paths


def model_problems(spec: EdgeModelSpec) -> list[str]:
    """Return why the model cannot be used, each with its field and its remedy; empty: it can."""
    return [problem for check in _CHECKS for problem in check(spec)]


def assess_model(model: EdgeModel, now: datetime) -> ModelPlan:
    """Return the status of a model: whether it can be used, and its files."""
    problems = model_problems(model.spec)
    ready = _ready(model, problems, now)
    status = EdgeModelStatus(
        observed_generation=model.metadata.generation,
        conditions=(ready, *_stalled(ready)),
        artifacts=() if problems else tuple(_artifact(v) for v in model.spec.variants),
    )
    return ModelPlan(status, _events(_previous(model), ready))


def _unique_names(spec: EdgeModelSpec) -> Iterable[str]:
    names = [variant.name for variant in spec.variants]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"spec.variants: the name {name!r} is used twice: rename one"


def _one_digest_per_address(spec: EdgeModelSpec) -> Iterable[str]:
    digests: dict[str, set[str]] = defaultdict(set)
    for variant in spec.variants:
        digests[variant.source.uri].add(variant.source.sha256)
        for file in variant.source.files:
            digests[file.uri].add(file.sha256)
    for uri, found in digests.items():
        # An artefact in a registry holds several files, and the sha256 says which one is meant.
        if len(found) > 1 and not uri.startswith("oci://"):
            yield (
                f"spec.variants: {uri} is named with {len(found)} different sha256, and one "
                "file has only one: correct them with `sha256sum FILE`"
            )


def _places_for_files(spec: EdgeModelSpec) -> Iterable[str]:
    for index, variant in enumerate(spec.variants):
        clash = clashing_paths([variant.path, *(file.path for file in variant.source.files)])
        if clash:
            yield (
                f"spec.variants[{index}].source.files: {' and '.join(clash)} cannot lie in one "
                f"folder, where the model's own file is {variant.path}: give each file the path by "
                "which the model names it"
            )


def _secrets_where_needed(spec: EdgeModelSpec) -> Iterable[str]:
    """The bucket's endpoint stands in the Secret; a rule of the definition cannot see the files."""
    sources = {f"spec.variants[{at}].source": one.source for at, one in enumerate(spec.variants)}
    exam = {"spec.golden.source": spec.golden.source} if spec.golden else {}
    for path, source in {**sources, **exam}.items():
        files = source.files if isinstance(source, ModelSource) else ()
        uris = (source.uri, *(file.uri for file in files))
        if source.secret_ref is None and any(uri.startswith("s3://") for uri in uris):
            yield (
                f"{path}.secretRef: an s3:// address needs one: name the Secret that says which "
                "endpoint and keys to use"
            )


def _threshold_in_range(spec: EdgeModelSpec) -> Iterable[str]:
    if spec.golden is None:
        return
    threshold, metric = float(spec.golden.threshold), spec.golden.metric
    if metric is GoldenMetric.MAX_ABS_ERROR:
        if threshold < 0:
            yield f"spec.golden.threshold: {threshold} is no error: write 0 or more"
    elif not 0 <= threshold <= 1:
        yield f'spec.golden.threshold: {metric} is a share: write 0 to 1, for example "0.95"'


def _plain_texts(spec: EdgeModelSpec) -> Iterable[str]:
    """An older CRD let such texts in; pods refuse a file that holds them."""
    texts = {"spec.version": spec.version}
    for index, one in enumerate(spec.variants):
        texts[f"spec.variants[{index}].source.uri"] = one.source.uri
        texts[f"spec.variants[{index}].inputShapes"] = "".join(one.input_shapes)
    if spec.golden is not None:
        texts["spec.golden.source.uri"] = spec.golden.source.uri
    for path, text in texts.items():
        if not is_plain(text):
            yield f"{path}: {text!a} cannot be printed: {PLAIN.message}"


_CHECKS = (
    _plain_texts,  # what people read must be what is there
    _unique_names,  # a cell names its variant
    _one_digest_per_address,  # a copy and paste that no pod could ever satisfy
    _places_for_files,  # a pod would have no place for one of them
    _secrets_where_needed,  # no pod could fetch it
    _threshold_in_range,  # an exam that everything or nothing passes
)


def _ready(model: EdgeModel, problems: list[str], now: datetime) -> Condition:
    previous = _previous(model)
    status = ConditionStatus.FALSE if problems else ConditionStatus.TRUE
    is_same = previous is not None and previous.status is status
    return Condition(
        type=ConditionType.READY,
        status=status,
        reason=Reason.INVALID_SPEC if problems else Reason.VALID,
        message="; ".join(problems)[:4096] or _praise(model.spec),
        last_transition_time=previous.last_transition_time if previous and is_same else now,
        observed_generation=model.metadata.generation,
    )


def _stalled(ready: Condition) -> tuple[Condition, ...]:
    """Return the condition by which kstatus knows that only a person can help."""
    if ready.status is ConditionStatus.TRUE:
        return ()
    changes = {"type": ConditionType.STALLED, "status": ConditionStatus.TRUE}
    return (ready.model_copy(update=changes),)


def _praise(spec: EdgeModelSpec) -> str:
    variants = ", ".join(variant.name for variant in spec.variants)
    exam = "with a golden exam" if spec.golden else "without a golden exam: add spec.golden"
    return f"version {spec.version}, variants {variants}, {exam}"


def _previous(model: EdgeModel) -> Condition | None:
    ready = [c for c in model.status.conditions if c.type == ConditionType.READY]
    return ready[0] if ready else None


def _events(previous: Condition | None, ready: Condition) -> tuple[EventNote, ...]:
    """Say it once: when a model becomes invalid, or invalid for another reason."""
    if ready.status is ConditionStatus.TRUE:
        return ()
    is_known = previous is not None and previous.message == ready.message
    return () if is_known else (EventNote(True, ready.reason, ready.message),)


def _artifact(variant: Variant) -> ArtifactStatus:
    return ArtifactStatus(
        variant=variant.name,
        format=variant.format,
        precision=variant.precision,
        sha256=variant.source.sha256,
        uri=variant.source.uri,
        origin="Source",
    )
