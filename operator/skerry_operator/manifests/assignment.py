"""The assignment of a cell, and the ConfigMap that carries it to the pods."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.quantity import duration_s, quantity
from skerry_operator.api.v1alpha1.edgedeployment import BatchingSpec
from skerry_operator.api.v1alpha1.edgemodel import Golden, Variant
from skerry_operator.decide.observed import ObservedCell
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.placement.variants import variant_of
from skerry_operator.decide.planned import Manifest
from skerry_operator.decide.revision import Snapshot, canonical_json
from skerry_operator.manifests.metadata import cell_labels, manifest, ref
from skerry_runtime.contract import (
    ASSIGNMENT_FILE,
    MAX_COUNT,
    Assignment,
    Execution,
    Format,
    GoldenExam,
    ModelContent,
    ModelFile,
    RevisionContent,
    Shadow,
)
from skerry_runtime.contract import Batching as BatchingContent

_PATHS = {
    Format.ONNX: "model.onnx",
    Format.ORT: "model.ort",
    Format.TFLITE: "model.tflite",
}
_OTHER_PATH = "model.bin"
"""Of a format that only the vendor's own image reads."""


@dataclass(frozen=True)
class CellAssignment:
    """What one cell's units are given."""

    hardware: Hardware
    default: str | None
    units: Mapping[str, str | None]
    """Every unit of the cell; None: nothing yet."""
    keep: str | None = None
    """Revision that is listed although no unit has it: the one to go back to."""
    retries: Mapping[str, str] = field(default_factory=dict)
    """Revision -> retry text; only what is being tried has one."""
    shadows: Mapping[str, Shadow] = field(default_factory=dict)
    """Revision -> how it is compared with stable; only what is being tried has one."""
    may_fall_back: bool = True
    earlier: Mapping[str, RevisionContent] = field(default_factory=dict)
    """What the file holds now: stands in for a snapshot that was lost."""


def build_assignment(
    owner: ObjectMeta, cell: CellAssignment, snapshots: Mapping[str, Snapshot]
) -> Assignment:
    """Return the cell's assignment; a revision that has no variant here is left out."""
    profile = cell.hardware.profile
    named = {cell.default, cell.keep, *cell.units.values()} - {None}
    contents = {
        revision: content
        for revision in sorted(str(name) for name in named)
        if (content := _content_or_earlier(cell, revision, snapshots.get(revision)))
    }
    default = cell.default if cell.default in contents else None
    return Assignment(
        deployment=f"{owner.namespace}/{owner.name}",
        cell=cell.hardware.cell,
        execution=Execution(
            profile=profile.name,
            providers=profile.providers,
            provider_options=profile.provider_options,
            static_shapes=profile.static_shapes,
            fallback=cell.may_fall_back,
        ),
        default=default,
        units={
            unit: given
            for unit, given in sorted(cell.units.items())
            if given is not None and given in contents and given != default
        },
        revisions=contents,
    )


def assignment_text(assignment: Assignment) -> str:
    """Return the file's text: equal for equal assignments, so that its hash says something."""
    return canonical_json(assignment.model_dump(mode="json", by_alias=True, exclude_none=True))


def as_cell(assignment: Assignment) -> ObservedCell:
    """Return the cell as it will be observed once this assignment is written."""
    digest = hashlib.sha256(assignment_text(assignment).encode()).hexdigest()
    return ObservedCell(assignment.cell, assignment, digest)


def build_config_map(owner: ObjectMeta, assignment: Assignment) -> Manifest:
    """Return the ConfigMap that the cell's pods mount."""
    return manifest(
        owner,
        ref("ConfigMap", assignment.cell),
        {"data": {ASSIGNMENT_FILE: assignment_text(assignment)}},
        cell_labels(assignment.cell),
    )


def _content_or_earlier(
    cell: CellAssignment, revision: str, snapshot: Snapshot | None
) -> RevisionContent | None:
    if snapshot is None:
        return cell.earlier.get(revision)
    content = _content(snapshot, cell.hardware, cell.retries.get(revision, ""))
    shadow = cell.shadows.get(revision)
    return content.model_copy(update={"shadow": shadow}) if content and shadow else content


def _content(snapshot: Snapshot, hardware: Hardware, retry: str) -> RevisionContent | None:
    variant = variant_of(hardware, snapshot.model.variants, snapshot.runtime.engine)
    if variant is None:
        return None
    model = ModelContent(
        version=snapshot.model.version,
        variant=variant.name,
        format=variant.format,
        files=_files(variant),
        memory_bytes=_memory_bytes(variant),
        input_shapes=dict(variant.input_shapes),
        golden=_exam(snapshot.model.golden),
        threads=snapshot.runtime.threads,
        batching=_batching(snapshot.runtime.batching),
    )
    return RevisionContent(
        models={snapshot.model_names[0]: model}, swap=snapshot.runtime.swap, retry=retry
    )


def _batching(asked: BatchingSpec | None) -> BatchingContent | None:
    if asked is None:
        return None
    delay_s = 0.0 if asked.max_delay is None else duration_s(asked.max_delay)
    # An object from before the rule may hold more; the contract does not.
    return BatchingContent(max_size=asked.max_size, max_delay_s=min(delay_s, 1.0), mode=asked.mode)


def _files(variant: Variant) -> tuple[ModelFile, ...]:
    """Return the variant's files; the one that the engine opens comes first."""
    path = _PATHS.get(variant.format, _OTHER_PATH)
    return (ModelFile(path=path, uri=variant.source.uri, sha256=variant.source.sha256),)


def _memory_bytes(variant: Variant) -> int | None:
    return None if variant.memory is None else min(int(quantity(variant.memory)), MAX_COUNT)


def _exam(golden: Golden | None) -> GoldenExam | None:
    if golden is None:
        return None
    return GoldenExam(
        uri=golden.source.uri,
        sha256=golden.source.sha256,
        metric=golden.metric,
        threshold=golden.threshold,
    )
