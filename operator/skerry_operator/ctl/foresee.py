"""What the operator would make of manifests, by the operator's own decisions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from skerry_operator.api.v1alpha1.edgedeployment_network import NetworkPeer
from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.catalogue.profiles import SHIPPED_FLAVORS, Profile
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.ctl.documents import Raw
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.placement.place import Cell
from skerry_operator.decide.planned import Manifest, Plan
from skerry_operator.decide.revision import Snapshot, revision_of
from skerry_operator.kube.observe import observe
from skerry_operator.kube.read import (
    child_entry,
    deployment_entry,
    model_entry,
    node_entry,
    pod_entry,
    read_deployment,
)
from skerry_operator.kube.tables import Cache
from skerry_operator.manifests.networkpolicy import NetworkDefaults
from skerry_operator.plan import PlanSettings, plan

UNKNOWN_IMAGE = "the-operator's-default"
"""Stands in for the image that only the operator's own settings name."""

_INVALID = frozenset({Reason.MODEL_NOT_FOUND, Reason.MODEL_INVALID, Reason.INVALID_SPEC})
_KEPT_OF_THE_CLUSTER = ("retry", "paused")
"""Rollout fields that people set by command, and that an apply of a file without them keeps."""


@dataclass(frozen=True)
class Surroundings:
    """Raw objects that a plan is made in."""

    nodes: Sequence[Raw]
    model: Raw | None
    existing: Raw | None = None
    """The deployment as the cluster has it."""
    children: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    pods: Sequence[Raw] = ()


@dataclass(frozen=True)
class ForeseenNodes:
    """What a plan knows besides objects."""

    profiles: tuple[Profile, ...]
    image: str | None = None
    """The operator's default runtime image; None: that of the newest revision, if any."""


@dataclass(frozen=True)
class CellForesight:
    """A cell as it would be."""

    name: str
    profile: str
    arch: str
    variant: str
    image: str
    units: int
    change: str


@dataclass(frozen=True)
class Foresight:
    """What would come of the manifests."""

    title: str
    stable: str | None
    wanted: str | None
    cells: tuple[CellForesight, ...]
    rejected: tuple[RejectedNode, ...]
    passed_over: tuple[RejectedNode, ...]
    """Nodes with hardware that the spec prefers and that is not used."""
    objects: Mapping[str, tuple[str, ...]]
    """created, changed, unchanged, removed -> `Kind/name`."""
    ready: str
    """What the condition Ready would say."""
    is_invalid: bool
    """Nothing would be done: the manifests are wrong, or the model is missing."""


def foresee(
    deployment: Raw, around: Surroundings, known: ForeseenNodes, now: datetime
) -> Foresight:
    """Return what the operator would do at its next look, were the deployment applied now.

    Raises:
        BadResource: the deployment or its model cannot be read.
    """
    observed = _observed(as_applied(deployment, around.existing), around, now)
    settings = PlanSettings(
        default_image=known.image or _usual_image(observed),
        # the chart names them all; what it was told only the operator knows
        flavor_images=dict.fromkeys(SHIPPED_FLAVORS, UNKNOWN_IMAGE),
        triton_image=UNKNOWN_IMAGE,
        network=_network(around.children.get("NetworkPolicy", ())),
    )
    made = plan(observed, known.profiles, settings)
    whole = plan(replace(observed, generated={}), known.profiles, settings)
    wanted = _wanted(observed, whole)
    return _told(_Look(observed, made, whole, wanted, known.profiles))


def as_applied(deployment: Raw, existing: Raw | None) -> Raw:
    """Return the deployment as an apply would leave it."""
    if existing is None:
        return deployment
    held = existing["spec"].get("rollout") or {}
    kept = {name: held[name] for name in _KEPT_OF_THE_CLUSTER if name in held}
    spec = deployment["spec"]
    rollout = {**kept, **(spec.get("rollout") or {})}
    return {
        **existing,
        "spec": {**spec, "rollout": rollout} if rollout else spec,
        "metadata": {**deployment["metadata"], **existing["metadata"]},
    }


@dataclass(frozen=True)
class _Look:
    """A plan with what it was made from."""

    observed: Observed
    made: Plan
    whole: Plan
    """The same plan for a cluster that holds no generated object yet."""
    wanted: Snapshot | None
    profiles: tuple[Profile, ...]


def _network(policies: Sequence[Raw]) -> NetworkDefaults:
    """Return what the operator was told, as far as the policy that it made shows it."""
    rules = [
        rule for policy in policies for rule in (policy.get("spec") or {}).get("ingress") or ()
    ]
    peers = rules[-1].get("from") or () if rules else ()
    try:
        known = tuple(NetworkPeer.model_validate(peer) for peer in peers)
    except ValidationError:  # edited into something else: the operator will write it again
        known = ()
    return NetworkDefaults(bool(policies), known)


def _observed(deployment: Raw, around: Surroundings, now: datetime) -> Observed:
    cache = Cache()
    for raw in around.nodes:
        cache.nodes.seen(node_entry(raw))
    if around.model is not None:
        cache.models.seen(model_entry(around.model))
    for kind, raws in around.children.items():
        for raw in raws:
            cache.children[kind].seen(entry := child_entry(kind, raw))
            cache.accept(kind, entry)  # what somebody changed by hand is put back anyway
    for raw in around.pods:
        cache.pods.seen(pod_entry(raw))
    subject = read_deployment(deployment_entry(deployment))
    return observe(cache, subject, now=now, reports={}, polled=False, apply_error=None)


def _usual_image(observed: Observed) -> str:
    """Return the default image of stable, or of any revision; else what stands in for it."""
    stable = observed.snapshots.get(observed.deployment.status.stable_revision or "")
    known = [stable, *observed.snapshots.values()]
    return next((one.default_image for one in known if one), UNKNOWN_IMAGE)


def _wanted(observed: Observed, whole: Plan) -> Snapshot | None:
    """Return the snapshot of the revision that the manifests ask for; None: it has none."""
    if observed.model is None:
        return None
    revision = revision_of(observed.model.spec, observed.deployment.spec)
    made = (Snapshot.model_validate(one.body["data"]) for one in whole.records)
    known = {one.revision: one for one in made}
    return known.get(revision) or observed.snapshots.get(revision)


def _told(look: _Look) -> Foresight:
    observed = look.observed
    metadata, wanted = observed.deployment.metadata, look.wanted
    own = {wanted.revision: wanted} if wanted else {}
    snapshots = {**observed.snapshots, **own}
    fleet = Fleet(observed, look.profiles, snapshots, flavors=frozenset(SHIPPED_FLAVORS))
    reason, message = _ready(look)
    is_invalid = reason in _INVALID
    placement = fleet.place(wanted.revision) if wanted and not is_invalid else None
    return Foresight(
        title=f"{metadata.namespace}/{metadata.name}",
        stable=observed.deployment.status.stable_revision,
        wanted=wanted.revision if wanted else None,
        cells=tuple(_cell(fleet, wanted, cell) for cell in placement.cells)
        if placement and wanted
        else (),
        rejected=placement.rejected if placement else (),
        passed_over=placement.passed_over if placement else (),
        objects=_objects(look),
        ready=f"{reason}: {message}".rstrip(": "),
        is_invalid=is_invalid,
    )


def _ready(look: _Look) -> tuple[str, str]:
    """Return reason and message of the condition Ready as it would be."""
    status = look.whole.status or look.observed.deployment.status
    ready = (one for one in status.conditions if one.type == ConditionType.READY)
    found = next(ready, None)
    return (found.reason, found.message) if found else ("", "")


def _cell(fleet: Fleet, wanted: Snapshot, cell: Cell) -> CellForesight:
    return CellForesight(
        name=cell.name,
        profile=cell.hardware.profile.name,
        arch=cell.hardware.arch,
        variant=cell.variant.name,
        image=fleet.template(wanted.revision, cell.hardware).image,
        units=len(cell.units),
        change=_change(fleet, wanted, cell),
    )


def _change(fleet: Fleet, wanted: Snapshot, cell: Cell) -> str:
    """Return what a rollout of the wanted revision would do to the units of a cell."""
    berth = fleet.berth(wanted.revision, cell.name)
    listed = [fleet.row(unit).berths for unit in cell.units]
    if not any(listed):
        return "new pods"
    if any(berth not in berths for berths in listed):
        return "pods are replaced"
    given = {fleet.assigned(unit, cell.name) for unit in cell.units}
    return "as it is" if given == {wanted.revision} else "swapped in place"


def _objects(look: _Look) -> dict[str, tuple[str, ...]]:
    """Return what would become of every generated object at the next look."""
    there = look.observed.generated
    keys = {_key(one): one.digest for one in (*look.whole.records, *look.whole.objects)}
    held = {key for key in keys if key in there}
    same = {key for key in held if key.startswith("ControllerRevision/") or there[key] == keys[key]}
    return {
        "created": tuple(sorted(set(keys) - held)),
        "changed": tuple(sorted(held - same)),
        "unchanged": tuple(sorted(same)),
        "removed": tuple(sorted(f"{gone.kind}/{gone.name}" for gone in look.made.prune)),
    }


def _key(manifest: Manifest) -> str:
    return f"{manifest.ref.kind}/{manifest.ref.name}"


def manifest_of(kind: str, body: Mapping[str, Any], namespace: str) -> Raw:
    """Return a manifest as the API server would hold it, as far as decisions read it."""
    metadata = {"namespace": namespace, **body["metadata"]}
    return {"kind": kind, "metadata": metadata, "spec": body["spec"]}
