"""Raw objects of Kubernetes -> the few fields that decisions read; the cache -> Observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic as machine_monotonic

from pydantic import ValidationError

from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.constants import LABEL_DEPLOYMENT
from skerry_operator.decide.names import bounded
from skerry_operator.decide.observed import Observed, Pod
from skerry_operator.decide.placement.nodes import Node, Taint
from skerry_operator.decide.planned import ObjectRef
from skerry_operator.decide.reported import UnitReport
from skerry_operator.decide.revision import Snapshot
from skerry_operator.kube.cache import Entry, Key, Table
from skerry_operator.kube.children import WORKLOADS, Child, read_child
from skerry_operator.kube.paths import CHILDREN
from skerry_operator.kube.pods import read_pod
from skerry_operator.kube.raw import Raw, key_of, metadata_of, version_of

_KEPT_METADATA = ("name", "namespace", "uid", "generation", "labels", "deletionTimestamp")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PLAIN_RESOURCES = frozenset({"cpu", "memory"})


class Cache:
    """Everything that the watches deliver, in tables of trimmed values."""

    def __init__(self, monotonic: Callable[[], float] = machine_monotonic) -> None:
        self.deployments: Table[Raw] = Table(monotonic)
        self.models: Table[Raw] = Table(monotonic)
        self.nodes: Table[Node] = Table(monotonic)
        self.pods: Table[Pod] = Table(monotonic, _node_of_claim)
        self.children: Mapping[str, Table[Child]] = {kind: Table(monotonic) for kind in CHILDREN}
        self._repaired: dict[tuple[str, Key], int] = {}

    def wrote_child(self, kind: str, raw: Raw) -> None:
        """Take the answer to an apply of a generated object."""
        entry = child_entry(kind, raw)
        self.children[kind].wrote(entry)
        self._repaired[kind, entry.key] = entry.version
        if len(self._repaired) > 2 * sum(len(table) for table in self.children.values()):
            self._repaired = {
                (kind, key): version
                for (kind, key), version in self._repaired.items()
                if self.children[kind].get(key) is not None
            }

    def forget_child(self, ref: ObjectRef, namespace: str) -> None:
        """Drop a generated object that was deleted."""
        self.children[ref.kind].discard((namespace, ref.name))
        self._repaired.pop((ref.kind, (namespace, ref.name)), None)

    def digest_of(self, kind: str, entry: Entry[Child], owner_uid: str) -> str:
        """Return the digest that the object carries; nothing when it must be applied again.

        That is when it was edited by hand (also the assignment ConfigMap: its annotation tells
        what was applied, not what it holds), or lost its owner.
        After an apply that left the foreign fields alone (somebody added one that the operator
        does not name), the object counts as ours until it changes again.
        """
        is_repaired = self._repaired.get((kind, entry.key)) == entry.version
        is_orphan = entry.value.owner_uid != owner_uid
        return "" if is_orphan or (entry.value.edited and not is_repaired) else entry.value.digest


def deployment_entry(raw: Raw) -> Entry[Raw]:
    """Return an EdgeDeployment for the cache."""
    namespace, name = key = key_of(raw)
    owner = (namespace, bounded(name))
    return Entry(key, metadata_of(raw).get("uid", ""), version_of(raw), trimmed(raw), owner)


def model_entry(raw: Raw) -> Entry[Raw]:
    """Return an EdgeModel for the cache."""
    return Entry(key_of(raw), metadata_of(raw).get("uid", ""), version_of(raw), trimmed(raw))


def node_entry(raw: Raw) -> Entry[Node]:
    """Return a node for the cache."""
    key = ("", metadata_of(raw)["name"])
    return Entry(key, metadata_of(raw).get("uid", ""), version_of(raw), read_node(raw))


def pod_entry(raw: Raw) -> Entry[Pod]:
    """Return a pod for the cache."""
    return Entry(
        key_of(raw), metadata_of(raw).get("uid", ""), version_of(raw), read_pod(raw), owner_of(raw)
    )


def child_entry(kind: str, raw: Raw) -> Entry[Child]:
    """Return a generated object for the cache."""
    child = read_child(kind, raw)
    return Entry(
        key_of(raw), metadata_of(raw).get("uid", ""), version_of(raw), child, owner_of(raw)
    )


def owner_of(raw: Raw) -> Key | None:
    """Return namespace and deployment label of a generated object or pod."""
    label = (metadata_of(raw).get("labels") or {}).get(LABEL_DEPLOYMENT)
    return (key_of(raw)[0], label) if label else None


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


def observe(
    cache: Cache,
    subject: Subject,
    *,
    now: datetime,
    reports: Mapping[str, UnitReport],
    polled: bool,
    apply_error: str | None,
) -> Observed:
    """Return all that one plan is made from. Reads memory only."""
    deployment = subject.deployment
    namespace, name = deployment.metadata.namespace, deployment.metadata.name
    owner = (namespace, bounded(name))
    children = _children_of(cache, owner, subject.uid)
    model, problem = _model_of(cache, (namespace, deployment.spec.model_ref.name))
    return Observed(
        now=now,
        deployment=deployment,
        model=model,
        model_problem=problem,
        nodes=tuple(sorted((entry.value for entry in cache.nodes), key=lambda node: node.name)),
        pods=pods_of(cache, owner),
        reports=reports,
        polled=polled,
        cells=tuple(c for _, e in children if (c := e.value.cell)),
        templates=tuple(t for _, e in children if (t := e.value.template)),
        taken=_taken(cache, owner),
        snapshots=_snapshots(entry.value.snapshot for _, entry in children),
        generated={
            f"{kind}/{entry.key[1]}": cache.digest_of(kind, entry, subject.uid)
            for kind, entry in children
        },
        apply_error=apply_error,
    )


def _node_of_claim(pod: Pod) -> str | None:
    """Return the node on which the pod holds something."""
    return pod.node if pod.node and pod.claim else None


def _taken(cache: Cache, owner: Key) -> dict[str, Counter[str]]:
    """Return what pods of other deployments hold, by node."""
    held = {
        node: Counter(str(entry.value.claim) for entry in members.values() if entry.owner != owner)
        for node, members in cache.pods.groups.items()
    }
    return {node: claims for node, claims in held.items() if claims}


def pods_of(cache: Cache, owner: Key) -> tuple[Pod, ...]:
    """Return the deployment's pods, by name."""
    return tuple(entry.value for entry in cache.pods.owned_by(owner))


def workloads_of(cache: Cache, owner: Key, uid: str) -> frozenset[str]:
    """Return the uids of the workloads that belong to the deployment: what they make is its own."""
    return frozenset(
        entry.uid
        for kind in WORKLOADS
        for entry in cache.children[kind].owned_by(owner)
        if entry.value.owner_uid == uid
    )


def _children_of(cache: Cache, owner: Key, uid: str) -> Sequence[tuple[str, Entry[Child]]]:
    """Return the generated objects: its own, and orphans, which are adopted.

    Those of an earlier EdgeDeployment of the same name are being collected, and do not count.
    """
    return tuple(
        (kind, entry)
        for kind, table in cache.children.items()
        for entry in table.owned_by(owner)
        if entry.value.owner_uid in (uid, "")
    )


def _model_of(cache: Cache, key: Key) -> tuple[EdgeModel | None, str]:
    """Return the model, or why there is none; a model that is no use stops no deployment."""
    entry = cache.models.get(key)
    try:
        return (read_model(entry) if entry else None), ""
    except BadResource as error:
        return None, str(error)


def _snapshots(snapshots: Iterable[Snapshot | None]) -> dict[str, Snapshot]:
    return {snapshot.revision: snapshot for snapshot in snapshots if snapshot}
