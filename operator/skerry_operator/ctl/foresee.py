"""What the operator would make of manifests, by the operator's own decisions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from skerry_operator.api.v1alpha1.edgedeployment import OnUncovered
from skerry_operator.api.v1alpha1.edgedeployment_network import NetworkPeer
from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.catalogue.profiles import DEFAULT_FLAVOR, SHIPPED_FLAVORS, Profile
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.ctl.documents import Raw
from skerry_operator.decide.facts import Uncovered
from skerry_operator.decide.fleet.covering import uncovered
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.replaced import why_replaced
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.placement.place import Cell
from skerry_operator.decide.planned import Manifest, Plan
from skerry_operator.decide.revision import Snapshot
from skerry_operator.decide.windows import outlook
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
from skerry_operator.plan.wanted import wanted_snapshot

UNKNOWN_IMAGE = "the-operator's-default"
"""Stands in for the image that only the operator's own settings name."""

_INVALID = frozenset({Reason.MODEL_NOT_FOUND, Reason.MODEL_INVALID, Reason.INVALID_SPEC})
_KEPT_OF_THE_CLUSTER = ("retry", "paused")
"""Rollout fields that people set by command, and that an apply of a file without them keeps."""


_FATES = {
    OnUncovered.HOLD: "keeps what it has",
    OnUncovered.EXCLUDE: "keeps what it has",
    OnUncovered.ALLOW: "loses its model at the end of the rollout",
}


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
    settings: PlanSettings | None = None
    """The operator's own; None: they are not known."""
    notes: tuple[str, ...] = ()
    """What people should know about all plans that are made of this."""


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
    why: str = ""
    """What takes the units new pods."""


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
    uncovered: tuple[Uncovered, ...] = ()
    """Units that have a model, and none with these manifests."""
    fate: str = ""
    """What would become of them."""
    is_held: bool = False
    """The rollout would not be begun because of them."""
    upgrade: str = ""
    """Which images of the operator the pods do not run in, and what becomes of that."""
    windows: str = ""
    """How it stands with the windows of the rollout; empty: there are none."""
    notes: tuple[str, ...] = ()
    """Where the operator may plan otherwise, and why."""


def foresee(
    deployment: Raw, around: Surroundings, known: ForeseenNodes, now: datetime
) -> Foresight:
    """Return what the operator would do at its next look, were the deployment applied now.

    Raises:
        BadResource: the deployment or its model cannot be read.
    """
    observed = _observed(as_applied(deployment, around.existing), around, now)
    settings = _settings(known, observed, around)
    profiles = known.profiles if known.settings else _as_in_use(known.profiles, observed)
    made = plan(observed, profiles, settings)
    whole = plan(replace(observed, generated={}), profiles, settings)
    wanted = _wanted(observed, whole, profiles, settings)
    flavors = frozenset({DEFAULT_FLAVOR, *settings.flavor_images})
    look = _Look(observed, made, whole, wanted, profiles, flavors)
    return replace(_told(look), notes=known.notes)


def _settings(known: ForeseenNodes, observed: Observed, around: Surroundings) -> PlanSettings:
    """Return the operator's settings, or the likely ones where nobody told."""
    if known.settings is not None:
        return replace(known.settings, default_image=known.image or known.settings.default_image)
    known_ones = _by_importance(observed)
    return PlanSettings(
        default_image=known.image or _usual_image(observed),
        # the chart names them all; what it was told only the operator knows
        flavor_images=dict.fromkeys(SHIPPED_FLAVORS, UNKNOWN_IMAGE),
        triton_image=next(
            (one.triton_image for one in known_ones if one.triton_image), UNKNOWN_IMAGE
        ),
        network=_network(around.children.get("NetworkPolicy", ())),
    )


def as_applied(deployment: Raw, existing: Raw | None) -> Raw:
    """Return the deployment as an apply would leave it."""
    if existing is None:
        return deployment
    held = existing["spec"].get("rollout") or {}
    kept = {name: held[name] for name in _KEPT_OF_THE_CLUSTER if name in held}
    spec = deployment["spec"]
    rollout = {**kept, **(spec.get("rollout") or {})}
    given, there = deployment["metadata"], existing["metadata"]
    annotations = {**(there.get("annotations") or {}), **(given.get("annotations") or {})}
    return {
        **existing,
        "spec": {**spec, "rollout": rollout} if rollout else spec,
        "metadata": {**given, **there, "annotations": annotations},
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
    flavors: frozenset[str]


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
    return next((one.default_image for one in _by_importance(observed)), UNKNOWN_IMAGE)


def _by_importance(observed: Observed) -> list[Snapshot]:
    """Return the known snapshots, that of stable first."""
    stable = observed.deployment.status.stable_revision
    return sorted(observed.snapshots.values(), key=lambda one: one.revision != stable)


def _as_in_use(profiles: tuple[Profile, ...], observed: Observed) -> tuple[Profile, ...]:
    """Return the profiles with the images that they are known to have: nobody told the others."""
    known = _by_importance(observed)[:1]
    images = {name: image for one in known for name, image in one.images.items()}
    usual = {one.default_image for one in known}
    return tuple(
        profile.model_copy(update={"image": images[profile.name]})
        if images.get(profile.name, UNKNOWN_IMAGE) not in {UNKNOWN_IMAGE, *usual}
        else profile
        for profile in profiles
    )


def _wanted(
    observed: Observed, whole: Plan, profiles: tuple[Profile, ...], settings: PlanSettings
) -> Snapshot | None:
    """Return the snapshot of the revision that the manifests ask for; None: it has none."""
    if observed.model is None:
        return None
    revision = wanted_snapshot(observed, profiles, settings).revision
    made = (Snapshot.model_validate(one.body["data"]) for one in whole.records)
    known = {one.revision: one for one in made}
    return known.get(revision) or observed.snapshots.get(revision)


def _told(look: _Look) -> Foresight:
    observed = look.observed
    metadata, wanted = observed.deployment.metadata, look.wanted
    own = {wanted.revision: wanted} if wanted else {}
    snapshots = {**observed.snapshots, **own}
    fleet = Fleet(observed, look.profiles, snapshots, flavors=look.flavors)
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
        uncovered=uncovered(fleet, wanted.revision) if wanted and not is_invalid else (),
        fate=_FATES[observed.deployment.spec.rollout.on_uncovered],
        is_held=reason == Reason.UNITS_UNCOVERED,
        upgrade=_upgrade(look),
        windows=_windows(observed),
    )


def _windows(observed: Observed) -> str:
    rollout = observed.deployment.spec.rollout
    lines = {"": rollout.windows, "downloads ": rollout.download.windows}
    told = [f"{what}{outlook(of, observed.now).why}" for what, of in lines.items() if of]
    return "; ".join(told)


def _ready(look: _Look) -> tuple[str, str]:
    """Return reason and message of the condition Ready as it would be."""
    status = look.whole.status or look.observed.deployment.status
    ready = (one for one in status.conditions if one.type == ConditionType.READY)
    found = next(ready, None)
    return (found.reason, found.message) if found else ("", "")


def _upgrade(look: _Look) -> str:
    status = look.whole.status or look.observed.deployment.status
    return status.upgrade.message if status.upgrade else ""


def _cell(fleet: Fleet, wanted: Snapshot, cell: Cell) -> CellForesight:
    return CellForesight(
        name=cell.name,
        profile=cell.hardware.profile.name,
        arch=cell.hardware.arch,
        variant=cell.variant.name,
        image=fleet.template(wanted.revision, cell.hardware).image,
        units=len(cell.units),
        change=_change(fleet, wanted, cell),
        why="; ".join(why_replaced(fleet, wanted.revision, cell)),
    )


def _change(fleet: Fleet, wanted: Snapshot, cell: Cell) -> str:
    """Return what a rollout of the wanted revision would do to the units of a cell."""
    listed = {unit: fleet.row(unit).berths for unit in cell.units}
    if not any(listed.values()):
        return "new pods"
    wish = {unit: fleet.berth_for(unit, wanted.revision, cell.name) for unit in cell.units}
    if any(wish[unit] not in berths for unit, berths in listed.items()):
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
