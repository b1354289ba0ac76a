"""The assignment of a cell, and the ConfigMap that carries it to the pods."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.quantity import duration_s, quantity
from skerry_operator.api.v1alpha1.edgedeployment import BatchingSpec
from skerry_operator.api.v1alpha1.edgemodel import (
    EncryptionSpec,
    Golden,
    SignatureSpec,
    Variant,
)
from skerry_operator.api.v1alpha1.edgemodel_source import Source
from skerry_operator.decide.observed import ObservedCell
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.placement.variants import variant_of
from skerry_operator.decide.planned import Manifest
from skerry_operator.decide.revision import Snapshot, canonical_json
from skerry_operator.manifests.metadata import cell_labels, manifest, ref
from skerry_runtime.contract import (
    ASSIGNMENT_FILE,
    MAX_COUNT,
    MAX_LOAD_TIMEOUT_S,
    SCHEMA,
    SCHEMA_OF_TRUST,
    Assignment,
    CacheAccess,
    DownloadRules,
    Encryption,
    Execution,
    GoldenExam,
    ModelContent,
    ModelFile,
    RequiredSignature,
    RevisionContent,
    Shadow,
    TrustPolicy,
)
from skerry_runtime.contract import Batching as BatchingContent


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
    """Revision -> retry text of what is tried, and of stable, which a unit may refuse."""
    shadows: Mapping[str, Shadow] = field(default_factory=dict)
    """Revision -> how it is compared with stable; only what is being tried has one."""
    download: DownloadRules | None = None
    """How the pods may use the line."""
    prepare: str | None = None
    """Revision whose files units with another one fetch ahead."""
    may_try_prepared: bool = False
    """They may try it ahead, too."""
    cache: Callable[[Iterable[RevisionContent]], CacheAccess | None] | None = None
    """Tells, of what it lists, how the pods reach the caches of their sites; None: not at all."""
    may_fall_back: bool = True
    trust: TrustPolicy | None = None
    """Whose word counts in this namespace; None: models say it themselves."""
    earlier: Mapping[str, RevisionContent] = field(default_factory=dict)
    """What the file holds now: stands in for a snapshot that was lost."""


def build_assignment(
    owner: ObjectMeta, cell: CellAssignment, snapshots: Mapping[str, Snapshot]
) -> Assignment:
    """Return the cell's assignment; a revision that has no variant here is left out."""
    profile = cell.hardware.profile
    named = {cell.default, cell.keep, cell.prepare, *cell.units.values()} - {None}
    contents = {
        revision: content
        for revision in sorted(str(name) for name in named)
        if (content := _content_or_earlier(cell, revision, snapshots.get(revision)))
    }
    default = cell.default if cell.default in contents else None
    prepare = cell.prepare if cell.prepare in contents else None
    return Assignment(
        schema_=_schema(cell.trust, contents.values()),
        trust=cell.trust,
        deployment=f"{owner.namespace}/{owner.name}",
        cell=cell.hardware.cell,
        execution=Execution(
            profile=profile.name,
            providers=profile.providers,
            provider_options=profile.provider_options,
            static_shapes=profile.static_shapes,
            fallback=cell.may_fall_back,
            load_timeout_s=_load_timeout_s(profile.load_timeout),
        ),
        default=default,
        download=cell.download,
        prepare=prepare,
        try_prepared=True if prepare and cell.may_try_prepared else None,
        units={
            unit: given
            for unit, given in sorted(cell.units.items())
            if given is not None and given in contents and given != default
        },
        revisions=contents,
        cache=cell.cache(contents.values()) if cell.cache else None,
    )


def _schema(trust: TrustPolicy | None, contents: Iterable[RevisionContent]) -> int:
    """Return a schema that only those read who do not serve unsigned what has to be signed."""
    models = (model for content in contents for model in content.models.values())
    is_asked = trust is not None and trust.public_keys is not None
    return SCHEMA_OF_TRUST if is_asked or any(one.signature for one in models) else SCHEMA


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
        load_timeout_s=_load_timeout_s(snapshot.runtime.load_timeout),
        signature=_signature(variant.signature),
        encryption=_encryption(variant.encryption),
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


def _load_timeout_s(asked: str | None) -> float | None:
    return None if asked is None else min(max(duration_s(asked), 0.001), MAX_LOAD_TIMEOUT_S)


def _files(variant: Variant) -> tuple[ModelFile, ...]:
    """Return the variant's files; the one that the engine opens comes first."""
    source = variant.source
    secret = _secret(source)
    first = ModelFile(path=variant.path, uri=source.uri, sha256=source.sha256, secret=secret)
    return (first, *(ModelFile(**file.model_dump(), secret=secret) for file in source.files))


def _secret(source: Source) -> str | None:
    return source.secret_ref.name if source.secret_ref else None


def _signature(asked: SignatureSpec | None) -> RequiredSignature | None:
    if asked is None:
        return None
    return RequiredSignature(public_keys=asked.public_keys, uri=asked.uri, sha256=asked.sha256)


def _encryption(asked: EncryptionSpec | None) -> Encryption | None:
    if asked is None:
        return None
    key = asked.key_ref
    return Encryption(format=asked.format, secret=key.name, key=key.key)


def _memory_bytes(variant: Variant) -> int | None:
    return None if variant.memory is None else min(int(quantity(variant.memory)), MAX_COUNT)


def _exam(golden: Golden | None) -> GoldenExam | None:
    if golden is None:
        return None
    return GoldenExam(
        uri=golden.source.uri,
        sha256=golden.source.sha256,
        secret=_secret(golden.source),
        metric=golden.metric,
        threshold=golden.threshold,
    )
