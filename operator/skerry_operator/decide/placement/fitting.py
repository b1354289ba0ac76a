"""Whether one node can serve one deployment, and on what: a seat, or a refusal with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from skerry_operator.api.v1alpha1.edgedeployment import Fallback, Placement
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.catalogue.profiles import DEFAULT_PREFERENCE, Profile, Support
from skerry_operator.constants import RejectReason
from skerry_operator.decide.placement.hardware import (
    Hardware,
    alternatives,
    claim_of,
    has_labels,
    resource_index,
)
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.taints import untolerated
from skerry_operator.decide.placement.variants import fitting_choice, missing_variant, suitable
from skerry_runtime.contract import Engine

DEFAULT_GRACE_S = 300.0
NODE = "{node}"
"""Stands for the node's name in a message: nodes of one kind share their refusal."""


@dataclass(frozen=True)
class Wish:
    """What a deployment asks for: where, with which builds, on which known hardware."""

    deployment: str
    placement: Placement
    variants: tuple[Variant, ...]
    profiles: tuple[Profile, ...]
    flavors: frozenset[str] | None = None
    """Skerry's own runtime images that there are; None: an image is given for all hardware."""
    engine: Engine | None = None
    """What is to run the model; None: what its format asks for."""

    @property
    def entries(self) -> tuple[str, ...]:
        """Return the preference, best first."""
        return self.placement.accelerators or DEFAULT_PREFERENCE

    @property
    def may_fall_back(self) -> bool:
        """Tell whether a later entry will do."""
        return self.placement.fallback is Fallback.ALLOW

    @property
    def allowed_entries(self) -> tuple[str, ...]:
        """Return the entries that a unit may be placed by: the first one where no other will do."""
        return self.entries if self.may_fall_back else self.entries[:1]


@dataclass(frozen=True)
class Incumbents:
    """What is there now: units placed before, devices in use, hardware that is missing."""

    now: datetime
    cells: Mapping[str, str] = field(default_factory=dict)
    """Unit -> name of the cell that it is in."""
    lost: Mapping[str, datetime] = field(default_factory=dict)
    """Unit -> since when its hardware is not allocatable."""
    grace_s: float = DEFAULT_GRACE_S
    """How long a unit stays where it is without its hardware."""
    taken: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Node -> claim -> how many units of other deployments hold it."""
    waiting: frozenset[str] = frozenset()
    """Units whose pod waits for a place: they hold no device."""
    spilled: frozenset[str] = frozenset()
    """Replicas whose pod waits for a place for so long that another cell is tried."""
    climbing: frozenset[str] = frozenset()
    """Replicas that may go to better hardware now: a rollout replaces what they run."""

    def stays(self, unit: str) -> bool:
        """Tell whether a unit without its hardware is still in its grace period."""
        since = self.lost.get(unit, self.now)
        return (self.now - since).total_seconds() < self.grace_s


@dataclass(frozen=True)
class Unfit:
    """Why a node, or one entry of the preference on it, is out of the question."""

    reason: RejectReason
    say: Callable[[], str]
    """Makes the message: of the many refusals of a node, people read one."""

    @property
    def message(self) -> str:
        """Return why, and what would help."""
        return self.say()


@dataclass(frozen=True)
class Fit:
    """What a unit would run on."""

    hardware: Hardware
    variant: Variant
    lost_since: datetime | None = None
    passed: Unfit | None = None
    """Why hardware that the node has, and the spec prefers, is not used."""


CLOSENESS = (
    RejectReason.NO_MATCHING_LABEL,
    RejectReason.ACCELERATOR_MISSING,
    RejectReason.ACCELERATOR_IN_USE,
    RejectReason.UNSUPPORTED_HARDWARE,
    RejectReason.ARCHITECTURE_NOT_BUILT,
    RejectReason.IMAGE_MISSING,
    RejectReason.NO_VARIANT_FOR,
    RejectReason.INSUFFICIENT_MEMORY,
)
"""In the order of the checks: the later one fails, the closer the node is to fitting."""


def closest(refusals: Iterable[Unfit]) -> Unfit:
    """Return the refusal of the entry that was closest to fitting; of equals the first."""
    return max(refusals, key=lambda refusal: CLOSENESS.index(refusal.reason))


def admission(node: Node, wish: Wish, *, is_placed: bool) -> Unfit | None:
    """Return why the node gets nothing, whatever its hardware.

    A unit that is placed stays on a node that is cordoned or out of reach; a new one waits.
    """
    if not node.reachable and not is_placed:
        return Unfit(
            RejectReason.NODE_OFFLINE,
            lambda: "its kubelet does not report: the node joins by itself when it is back",
        )
    if node.unschedulable and not is_placed:
        return Unfit(
            RejectReason.NODE_UNSCHEDULABLE,
            lambda: f"the node is cordoned: `kubectl uncordon {NODE}` lets it join",
        )
    taint = untolerated(node.taints, wish.placement.tolerations, placed=is_placed)
    if taint is None:
        return None
    return Unfit(
        RejectReason.TAINT_NOT_TOLERATED,
        lambda: (
            f"taint {taint} is not tolerated: add it to spec.placement.tolerations, "
            "or remove it from the node"
        ),
    )


def profiles_of(entry: str, profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    """Return the profiles that an entry of the preference means: one by its name, or a class."""
    return tuple(profile for profile in profiles if profile.answers_to(entry))


def no_profile(entry: str) -> Unfit:
    """Return the refusal of a class that no profile has."""
    return Unfit(
        RejectReason.NO_MATCHING_LABEL,
        lambda: (
            f"the operator knows no profile of class {entry}: add one with the chart value "
            "`accelerators`"
        ),
    )


def fit(node: Node, profile: Profile, wish: Wish, incumbents: Incumbents) -> Fit | Unfit:
    """Return the seat that the node has on a profile, or why it has none."""
    found = _find_resource(node, profile, incumbents)
    lost_since = None
    if isinstance(found, Unfit):
        kept = _keep_resource(node, profile, wish, incumbents, found)
        if kept is None:
            return found
        found, lost_since = kept
    if refusal := _unusable(node, profile, wish):
        return refusal
    variants = suitable(profile, wish.variants, wish.engine)
    if not variants:
        return Unfit(
            RejectReason.NO_VARIANT_FOR,
            partial(missing_variant, profile, wish.variants, wish.engine),
        )
    choice = fitting_choice(variants, node.allocatable.get("memory"))
    if choice is None:
        return _lack_of_memory(node, variants)
    hardware = alternatives(wish.deployment, profile, node.arch, choice)[found]
    return Fit(hardware, variants[choice], lost_since)


def free_units(node: Node, profile: Profile, resource: str | None, incumbents: Incumbents) -> float:
    """Return how many units the node could have on a resource of the profile; inf: any number."""
    claim = claim_of(profile, resource)
    if claim is None:
        return float("inf")
    held = incumbents.taken.get(node.name, {}).get(claim, 0)
    offered = 1.0 if resource is None else node.allocatable.get(resource, 0)
    return offered - held


def _find_resource(node: Node, profile: Profile, incumbents: Incumbents) -> int | Unfit:
    """Return which resource of the profile (0 also for none) the node proves to have free."""
    if profile.is_ruled_out(node.labels):
        return _another_family(profile)
    resources: tuple[str | None, ...] = profile.resource_names or (None,)
    in_use: str | None = None
    for index, resource in enumerate(resources):
        if resource is None and not any(has_labels(node, labels) for labels in profile.labels):
            continue
        if resource is not None and node.allocatable.get(resource, 0) < 1:
            continue
        if free_units(node, profile, resource, incumbents) >= 1:
            return index
        in_use = in_use or resource or profile.name
    return _missing(node, profile) if in_use is None else _in_use(node, in_use)


def _keep_resource(
    node: Node, profile: Profile, wish: Wish, incumbents: Incumbents, lack: Unfit
) -> tuple[int, datetime | None] | None:
    """Return what the node's unit had, while it may be a device plugin that is late.

    A pod that waits for its place may wait for just that, after a reboot; but not for a device
    that somebody else holds.
    """
    cell = incumbents.cells.get(node.name)
    is_in_use = lack.reason is RejectReason.ACCELERATOR_IN_USE
    if cell is None or (is_in_use and node.name in incumbents.waiting):
        return None
    choices = len(wish.variants)
    index = resource_index(wish.deployment, profile, node.arch, cell, choices)
    if index is None:
        return None
    if not node.reachable:  # what an offline node last said proves nothing
        return index, None
    since = incumbents.lost.get(node.name, incumbents.now)
    return (index, since) if incumbents.stays(node.name) else None


def _unusable(node: Node, profile: Profile, wish: Wish) -> Unfit | None:
    """Return why nothing could run on hardware that is there."""
    if profile.support is Support.UNSUPPORTED:
        return Unfit(
            RejectReason.UNSUPPORTED_HARDWARE,
            lambda: f"profile {profile.name} is not supported: {profile.unsupported_reason}",
        )
    if node.arch not in profile.architectures:
        return Unfit(
            RejectReason.ARCHITECTURE_NOT_BUILT,
            lambda: (
                f"the image of profile {profile.name} is built for "
                f"{', '.join(profile.architectures)}, the node is {node.arch}"
            ),
        )
    if wish.flavors is None or profile.image or profile.flavor in wish.flavors:
        return None
    return Unfit(
        RejectReason.IMAGE_MISSING,
        lambda: (
            f"profile {profile.name} needs a runtime image of the flavor {profile.flavor}, and "
            f"none is set: give one with the chart value runtimeImages.{profile.flavor}, as "
            f"`image` of {profile.name} in the chart value accelerators, or in spec.runtime.image"
        ),
    )


def _missing(node: Node, profile: Profile) -> Unfit:
    has_label = any(labels and has_labels(node, labels) for labels in profile.labels)
    wanted = " or ".join(profile.resource_names)
    if not wanted:
        return Unfit(RejectReason.NO_MATCHING_LABEL, partial(_wanted_labels, profile))
    if has_label:
        return Unfit(
            RejectReason.ACCELERATOR_MISSING,
            lambda: f"label present, no allocatable {wanted}: is the device plugin running?",
        )
    if any(name in node.allocatable for name in profile.resource_names):
        return Unfit(
            RejectReason.ACCELERATOR_MISSING,
            lambda: f"0 allocatable {wanted}: the device plugin runs, but offers no healthy device",
        )
    return Unfit(
        RejectReason.NO_MATCHING_LABEL,
        lambda: (
            f"no allocatable {wanted} (profile {profile.name}): does the node have the hardware, "
            "and its device plugin?"
        ),
    )


def _wanted_labels(profile: Profile) -> str:
    labels = " or ".join(_label_text(labels) for labels in profile.labels)
    return f"profile {profile.name} wants the node label {labels or '(none is given)'}"


def _another_family(profile: Profile) -> Unfit:
    return Unfit(
        RejectReason.NO_MATCHING_LABEL,
        lambda: f"the node's labels say that its hardware is of another family than {profile.name}",
    )


def _in_use(node: Node, what: str) -> Unfit:
    count = node.allocatable.get(what)
    offered = "the one" if count is None else f"each of {count:g}"
    return Unfit(
        RejectReason.ACCELERATOR_IN_USE,
        lambda: (
            f"{offered} {what} is held by pods of other EdgeDeployments "
            "(`kubectl get pods -A -l app.kubernetes.io/managed-by=skerry -o wide`): "
            "delete one of them, or let this one use other hardware"
        ),
    )


def _label_text(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _lack_of_memory(node: Node, variants: list[Variant]) -> Unfit:
    needs = " and ".join(f"{one.name} {one.memory}" for one in variants)
    has = node.allocatable.get("memory", 0) / 2**20
    return Unfit(
        RejectReason.INSUFFICIENT_MEMORY,
        lambda: (
            f"the node has {has:.0f}Mi of memory allocatable, and needed are: {needs}: "
            "offer a smaller variant"
        ),
    )
