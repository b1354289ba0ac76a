"""Raw objects of Kubernetes -> the few fields that decisions read, as entries of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.placement.nodes import Node, Taint
from skerry_operator.kube.cache import Entry
from skerry_operator.kube.children import Child, read_child, stranger
from skerry_operator.kube.owners import Owner, controller_of, is_made_by_us, owner_of_child
from skerry_operator.kube.pods import read_pod
from skerry_operator.kube.raw import Raw, key_of, metadata_of, version_of

_KEPT_METADATA = ("name", "namespace", "uid", "generation", "labels", "deletionTimestamp")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PLAIN_RESOURCES = frozenset({"cpu", "memory"})


def deployment_entry(raw: Raw) -> Entry[Raw]:
    """Return an EdgeDeployment for the cache."""
    return resource_entry("EdgeDeployment", raw)


def model_entry(raw: Raw) -> Entry[Raw]:
    """Return an EdgeModel for the cache."""
    return resource_entry("EdgeModel", raw)


def resource_entry(kind: str, raw: Raw) -> Entry[Raw]:
    """Return a custom resource for the cache, to be found by all that may belong to it."""
    key, uid = key_of(raw), metadata_of(raw).get("uid", "")
    return Entry(key, uid, version_of(raw), trimmed(raw), Owner(kind, *key, uid).orphans)


def node_entry(raw: Raw) -> Entry[Node]:
    """Return a node for the cache."""
    key = ("", metadata_of(raw)["name"])
    return Entry(key, metadata_of(raw).get("uid", ""), version_of(raw), read_node(raw))


def pod_entry(raw: Raw) -> Entry[Pod]:
    """Return a pod for the cache."""
    uid = metadata_of(raw).get("uid", "")
    return Entry(key_of(raw), uid, version_of(raw), read_pod(raw), controller_of(raw))


def child_entry(kind: str, raw: Raw) -> Entry[Child]:
    """Return a generated object for the cache; of one that is not ours, nothing is kept."""
    child = read_child(kind, raw) if is_made_by_us(raw) else stranger(kind, raw)
    uid = metadata_of(raw).get("uid", "")
    return Entry(key_of(raw), uid, version_of(raw), child, owner_of_child(raw))


def trimmed(raw: Raw) -> Raw:
    """Return a custom resource without managed fields and kubectl's copy of it."""
    metadata = metadata_of(raw)
    annotations = metadata.get("annotations") or {}
    kept: Raw = {name: metadata[name] for name in _KEPT_METADATA if name in metadata}
    kept["annotations"] = {k: v for k, v in annotations.items() if k != _LAST_APPLIED}
    return {"metadata": kept, "spec": raw.get("spec") or {}, "status": raw.get("status") or {}}


def read_node(raw: Raw) -> Node:
    """Return a node as placement reads it."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    return Node(
        name=metadata_of(raw)["name"],
        arch=(status.get("nodeInfo") or {}).get("architecture", ""),
        labels=dict(metadata_of(raw).get("labels") or {}),
        allocatable=_allocatable(status.get("allocatable") or {}),
        taints=tuple(
            Taint(taint["key"], taint["effect"], taint.get("value") or "")
            for taint in spec.get("taints") or ()
        ),
        unschedulable=bool(spec.get("unschedulable")),
        reachable=any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions") or ()
        ),
    )


def _allocatable(texts: Mapping[str, str]) -> dict[str, float]:
    kept = {name: text for name, text in texts.items() if "/" in name or name in _PLAIN_RESOURCES}
    return {name: value for name, text in kept.items() if (value := _number(text)) is not None}


def _number(text: str) -> float | None:
    try:
        return quantity(text)
    except ValueError:  # a unit that no cores, bytes or devices come in
        return None


@dataclass(frozen=True)
class Subject:
    """An EdgeDeployment with what a write to it must name."""

    deployment: EdgeDeployment
    uid: str
    version: int

    @property
    def owner(self) -> Owner:
        """Return what its objects belong to."""
        metadata = self.deployment.metadata
        return Owner("EdgeDeployment", metadata.namespace, metadata.name, self.uid)


class BadResource(ValueError):  # noqa: N818 (it says what is bad)
    """A custom resource that this operator cannot read: an older or newer CRD let it in."""


def read_deployment(entry: Entry[Raw]) -> Subject:
    """Parse an EdgeDeployment; a status that cannot be read counts as absent.

    Raises:
        BadResource: the spec cannot be read.
    """
    try:
        deployment = EdgeDeployment.model_validate(entry.value)
    except ValidationError as error:
        if not any(item["loc"][:1] == ("status",) for item in error.errors()):
            raise BadResource(_first_problem(error)) from error
        return read_deployment(_without_status(entry))
    return Subject(deployment, entry.uid, entry.version)


def _without_status(entry: Entry[Raw]) -> Entry[Raw]:
    value = {**entry.value, "status": {}}
    return Entry(entry.key, entry.uid, entry.version, value, entry.owner)


def read_model(entry: Entry[Raw]) -> EdgeModel:
    """Parse an EdgeModel; a status that cannot be read counts as absent.

    Raises:
        BadResource: the spec cannot be read.
    """
    try:
        return EdgeModel.model_validate(entry.value)
    except ValidationError as error:
        if not any(item["loc"][:1] == ("status",) for item in error.errors()):
            raise BadResource(_first_problem(error)) from error
        return read_model(_without_status(entry))


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
