"""Raw generated object -> what it carries, whose it is, and a fingerprint of what it holds."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from skerry_operator.api.bounds import on_one_line
from skerry_operator.api.v1alpha1.edgemodel_optimize import Built
from skerry_operator.constants import (
    ANNOTATION_DIGEST,
    ANNOTATION_MODELS,
    GROUP,
    LABEL_CELL,
    LABEL_MANAGED_BY,
    LABEL_TEMPLATE,
    LABEL_UNIT,
)
from skerry_operator.decide.builds.jobs import ObservedJob
from skerry_operator.decide.observed import ObservedCell, ObservedTemplate
from skerry_operator.decide.revision import Snapshot
from skerry_operator.kube.owners import is_made_by_us
from skerry_operator.kube.raw import Raw, metadata_of
from skerry_operator.manifests.buildrecord import read_record
from skerry_operator.manifests.snapshot import read_snapshot
from skerry_operator.manifests.supplies import supplies_of
from skerry_runtime.contract import ASSIGNMENT_FILE, Assignment

CONTENT = ("spec", "data", "binaryData", "immutable", "revision")
"""Top-level fields that say what an object is; the rest is bookkeeping."""

WORKLOADS = frozenset({"DaemonSet", "ReplicaSet"})
"""Kinds that make pods."""

CONTENT_LIMIT = 512 * 1024
"""Longest content, as JSON, that is looked at: an assignment of 1000 units takes 60 KiB. What is
longer is none of ours, or blown up by somebody, and is applied again."""

JOB_TEXT = 512
"""Longest text about a Job that was given up."""

TOO_LARGE = "tooLarge"
"""Stands in the place of a content that was cut off at the door (`kube/slim.py`)."""

FIELD_BYTES = 32
"""About what a field of JSON costs in memory, beside its text, once it is read."""

WEIGHT_LIMIT = 1024 * 1024
"""Heaviest content that is read: many tiny fields take far more memory than their text."""


class Content:
    """What an object holds, packed, until somebody compared it with what it ought to hold."""

    __slots__ = ("packed",)

    def __init__(self, text: bytes = b"") -> None:
        self.packed = zlib.compress(text, 1) if text else b""

    def read(self) -> Raw | None:
        """Return the content; None: it was too large, or is not kept any more."""
        if not self.packed:
            return None
        content: Raw = json.loads(zlib.decompress(self.packed))
        return content

    def drop(self) -> None:
        """Free the memory."""
        self.packed = b""


@dataclass(frozen=True)
class Child:
    """A generated object."""

    kind: str
    name: str
    digest: str
    """Digest annotation: of the manifest that was applied last."""
    owner_uid: str
    """uid of the object that controls it; empty: nobody does."""
    is_ours: bool
    """Our server-side apply wrote it: the server's own book says so."""
    fingerprint: str
    """Hash of what it holds; empty: it holds too much."""
    template: ObservedTemplate | None = None
    job: ObservedJob | None = None
    weight: int = 0
    """About how many bytes it takes once it is read."""
    content: Content = field(default_factory=Content, compare=False, repr=False)

    @cached_property
    def cell(self) -> ObservedCell | None:
        """Return the assignment in a ConfigMap. Read at first use, so only where it is wanted."""
        data = (self._read("ConfigMap") or {}).get("data") or {}
        text = data.get(ASSIGNMENT_FILE)
        if text is None:
            return None
        try:
            assignment = Assignment.model_validate_json(text)
        except ValidationError:  # edited into something else: as good as absent, and applied again
            return None
        return ObservedCell(self.name, assignment, hashlib.sha256(text.encode()).hexdigest())

    @cached_property
    def snapshot(self) -> Snapshot | None:
        """Return the revision in a ControllerRevision. Read at first use, as `cell` is."""
        content = self._read("ControllerRevision")
        if content is None:
            return None
        try:
            return read_snapshot(content)
        except ValidationError:  # not written by this operator
            return None

    @cached_property
    def record(self) -> Built | None:
        """Return what is recorded of a build in a ControllerRevision."""
        content = self._read("ControllerRevision")
        if content is None:
            return None
        try:
            return read_record(content)
        except ValidationError:  # that of a revision, or not written by this operator
            return None

    def settle(self) -> None:
        """Keep what was read of the content, and let the rest go: it is as it ought to be."""
        _ = self.cell, self.snapshot, self.record
        self.content.drop()

    def _read(self, kind: str) -> Raw | None:
        return self.content.read() if self.kind == kind and self.weight <= WEIGHT_LIMIT else None


def read_child(kind: str, raw: Raw) -> Child:
    """Return a generated object as decisions read it."""
    metadata = metadata_of(raw)
    text = _canonical(content_of(raw))
    fits = len(text) <= CONTENT_LIMIT and TOO_LARGE not in raw
    return Child(
        kind=kind,
        name=metadata["name"],
        digest=(metadata.get("annotations") or {}).get(ANNOTATION_DIGEST, ""),
        owner_uid=owner_uid_of(raw),
        is_ours=is_made_by_us(raw),
        fingerprint=hashlib.sha256(text).hexdigest() if fits else "",
        template=_template(raw) if kind in WORKLOADS and fits else None,
        job=_job(raw) if kind == "Job" else None,
        weight=len(text) + FIELD_BYTES * text.count(b":"),
        content=Content(text) if fits and kind != "Job" else Content(),
    )


def stranger(kind: str, raw: Raw) -> Child:
    """Return an object that carries our labels and is not ours: nothing of it is read."""
    return Child(
        kind, metadata_of(raw)["name"], "", owner_uid_of(raw), is_ours=False, fingerprint=""
    )


def content_of(raw: Mapping[str, Any]) -> Raw:
    """Return the fields of an object that say what it is, with the labels that are ours."""
    content = {name: raw[name] for name in CONTENT if name in raw}
    labels: Mapping[str, str] = (raw.get("metadata") or {}).get("labels") or {}
    ours = {k: v for k, v in labels.items() if k == LABEL_MANAGED_BY or k.startswith(f"{GROUP}/")}
    kept: Raw = {"labels": ours}
    annotations: Mapping[str, str] = (raw.get("metadata") or {}).get("annotations") or {}
    if ANNOTATION_MODELS in annotations:
        kept["annotations"] = {ANNOTATION_MODELS: annotations[ANNOTATION_MODELS]}
    return {**content, "metadata": kept}


def _canonical(content: Mapping[str, Any]) -> bytes:
    """Return the content as JSON, equal for equal contents."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def owner_uid_of(raw: Mapping[str, Any]) -> str:
    """Return the uid of the owner that controls an object; empty when none does."""
    owners = metadata_of(raw).get("ownerReferences") or ()
    uids = [owner["uid"] for owner in owners if owner.get("controller")]
    return uids[0] if uids else ""


def _job(raw: Raw) -> ObservedJob:
    status = raw.get("status") or {}
    ended = {
        condition["type"]: f"{condition.get('reason', '')}: {condition.get('message', '')}"
        for condition in status.get("conditions") or ()
        if condition.get("status") == "True"
    }
    started = status.get("startTime")
    return ObservedJob(
        name=metadata_of(raw)["name"],
        uid=metadata_of(raw).get("uid", ""),
        is_complete="Complete" in ended,
        failure=on_one_line(ended.get("Failed", ""), JOB_TEXT),
        failed_pods=int(status.get("failed") or 0),
        started_at=datetime.fromisoformat(started) if started else None,
    )


def _template(raw: Raw) -> ObservedTemplate:
    labels = metadata_of(raw).get("labels") or {}
    spec = (raw.get("spec") or {}).get("template", {}).get("spec", {})
    return ObservedTemplate(
        name=metadata_of(raw)["name"],
        cell=labels.get(LABEL_CELL, ""),
        template=labels.get(LABEL_TEMPLATE, ""),
        nodes=_hostnames(spec.get("affinity") or {}),
        unit=labels.get(LABEL_UNIT, ""),
        uid=metadata_of(raw).get("uid", ""),
        supplies=supplies_of(spec),
    )


def _hostnames(affinity: Mapping[str, Any]) -> tuple[str, ...]:
    node_affinity = affinity.get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    expressions = (
        expression
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    )
    return tuple(
        value
        for expression in expressions
        if expression["key"] == "kubernetes.io/hostname"
        for value in expression.get("values") or ()
    )
