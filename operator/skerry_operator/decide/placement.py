"""Placement: nodes and hardware in, cells and rejected nodes out.

A node fits a profile when its extended resource is allocatable (the proof that a pod can get
one) or, for a profile without a resource, when a label alternative matches. Every decision
looks at one node alone, so a node that comes or goes never moves another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment import Fallback, Placement
from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.catalogue.profiles import DEFAULT_PREFERENCE, Profile
from skerry_operator.constants import RejectReason
from skerry_operator.decide.names import cell_name
from skerry_operator.decide.observed import Node
from skerry_operator.decide.taints import untolerated

DEFAULT_GRACE_S = 300.0
_MESSAGE_LIMIT = 1024


@dataclass(frozen=True)
class Wish:
    """What a deployment asks for: where, with which builds, on which known hardware."""

    deployment: str
    placement: Placement
    variants: tuple[Variant, ...]
    profiles: tuple[Profile, ...]


@dataclass(frozen=True)
class Incumbents:
    """What is there now: units that were placed before, and hardware that is missing."""

    now: datetime
    cells: Mapping[str, str] = field(default_factory=dict)
    """Node -> name of the cell that it is in."""
    lost: Mapping[str, datetime] = field(default_factory=dict)
    """Node -> since when its hardware is not allocatable."""
    grace_s: float = DEFAULT_GRACE_S
    """How long a unit stays where it is without its hardware."""


@dataclass(frozen=True)
class Hardware:
    """What all units of a cell run on."""

    cell: str
    profile: Profile
    arch: str
    resource: str | None
    """Extended resource of the pods; None for a profile without one."""


@dataclass(frozen=True)
class Cell:
    """Units that share their hardware; they get one variant and one pod template."""

    hardware: Hardware
    variant: Variant
    units: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the cell's name."""
        return self.hardware.cell


@dataclass(frozen=True)
class PlacementResult:
    """Where the units are, and why the other nodes have none."""

    cells: tuple[Cell, ...] = ()
    rejected: tuple[RejectedNode, ...] = ()
    lost: Mapping[str, datetime] = field(default_factory=dict)
    """Node -> since when it is placed without its hardware."""

    @cached_property
    def cell_of(self) -> dict[str, str]:
        """Return the name of every unit's cell."""
        return {unit: cell.name for cell in self.cells for unit in cell.units}


@dataclass(frozen=True)
class _Seat:
    hardware: Hardware
    variant: Variant
    lost_since: datetime | None = None


@dataclass(frozen=True)
class _Refusal:
    reason: RejectReason
    message: str


def place(nodes: Iterable[Node], wish: Wish, incumbents: Incumbents) -> PlacementResult:
    """Give every node that matches the selector a cell, or a reason why it has none."""
    verdicts = {
        node.name: _judge(node, wish, incumbents) for node in nodes if _is_selected(node, wish)
    }
    seats = {name: seat for name, seat in verdicts.items() if isinstance(seat, _Seat)}
    return PlacementResult(
        cells=_cells(seats),
        rejected=tuple(
            RejectedNode(node=name, reason=verdict.reason, message=verdict.message[:_MESSAGE_LIMIT])
            for name, verdict in sorted(verdicts.items())
            if isinstance(verdict, _Refusal)
        ),
        lost={name: seat.lost_since for name, seat in sorted(seats.items()) if seat.lost_since},
    )


def accelerator_problem(placement: Placement, profiles: Iterable[Profile]) -> str | None:
    """Return what is wrong with `accelerators`, naming the field, the value and the known ones."""
    known = [*DEFAULT_PREFERENCE, *sorted(profile.name for profile in profiles)]
    known = list(dict.fromkeys(str(name) for name in known))
    unknown = [entry for entry in placement.accelerators if entry not in known]
    if not unknown:
        return None
    named = ", ".join(repr(entry) for entry in unknown)
    return (
        f"spec.placement.accelerators names {named}, which is no class and no profile. "
        f"Known: {', '.join(known)}. Correct the entry, or add a profile with the chart value "
        "`accelerators`."
    )


def variant_for(profile: Profile, variants: Iterable[Variant]) -> Variant | None:
    """Return the first variant that runs on the profile, or None."""
    names = {profile.name, str(profile.accelerator_class)}
    for variant in variants:
        allowed = not variant.runs_on or names & set(variant.runs_on)
        if allowed and variant.format in profile.formats:
            return variant
    return None


def hardware_of(
    deployment: str, profiles: Iterable[Profile], architectures: Iterable[str]
) -> dict[str, Hardware]:
    """Return every cell that the deployment could have, by name."""
    return {
        hardware.cell: hardware
        for arch in sorted(set(architectures))
        for profile in profiles
        for hardware in _alternatives(deployment, profile, arch)
    }


def _alternatives(deployment: str, profile: Profile, arch: str) -> list[Hardware]:
    resources: tuple[str | None, ...] = profile.resource_names or (None,)
    return [
        Hardware(cell_name(deployment, profile.name, arch, index), profile, arch, resource)
        for index, resource in enumerate(resources)
    ]


def _cells(seats: Mapping[str, _Seat]) -> tuple[Cell, ...]:
    members: dict[str, list[str]] = defaultdict(list)
    for unit, seat in seats.items():
        members[seat.hardware.cell].append(unit)
    return tuple(
        Cell(seats[units[0]].hardware, seats[units[0]].variant, tuple(sorted(units)))
        for _, units in sorted(members.items())
    )


def _is_selected(node: Node, wish: Wish) -> bool:
    return _has_labels(node, wish.placement.node_selector)


def _has_labels(node: Node, labels: Mapping[str, str]) -> bool:
    return all(node.labels.get(key) == value for key, value in labels.items())


def _judge(node: Node, wish: Wish, incumbents: Incumbents) -> _Seat | _Refusal:
    is_placed = node.name in incumbents.cells
    # A unit that is placed stays on a node that is cordoned or out of reach; a new one waits.
    if not node.reachable and not is_placed:
        return _Refusal(
            RejectReason.NODE_OFFLINE,
            "its kubelet does not report: the node joins by itself when it is back",
        )
    if node.unschedulable and not is_placed:
        return _Refusal(
            RejectReason.NODE_UNSCHEDULABLE,
            f"the node is cordoned: `kubectl uncordon {node.name}` lets it join",
        )
    taint = untolerated(node.taints, wish.placement.tolerations, placed=is_placed)
    if taint is not None:
        return _Refusal(
            RejectReason.TAINT_NOT_TOLERATED,
            f"taint {taint} is not tolerated: add it to spec.placement.tolerations, "
            "or remove it from the node",
        )
    return _walk(node, wish, incumbents)


def _walk(node: Node, wish: Wish, incumbents: Incumbents) -> _Seat | _Refusal:
    """Take the first entry of the preference that the node fits."""
    entries = wish.placement.accelerators or DEFAULT_PREFERENCE
    outcomes: list[_Seat | _Refusal] = []
    for entry in entries:
        outcome = _fit_entry(node, entry, wish, incumbents)
        outcomes.append(outcome)
        if isinstance(outcome, _Seat):
            break
    if wish.placement.fallback is Fallback.FORBID:
        return _without_fallback(outcomes, entries)
    last = outcomes[-1]
    return last if isinstance(last, _Seat) else _closest(outcomes)


def _without_fallback(
    outcomes: list[_Seat | _Refusal], entries: tuple[str, ...]
) -> _Seat | _Refusal:
    first, last = outcomes[0], outcomes[-1]
    if first is last or isinstance(first, _Seat) or isinstance(last, _Refusal):
        return first
    return _Refusal(
        RejectReason.FALLBACK_FORBIDDEN,
        f"{entries[0]} is asked for: {first.message}. The node could serve on "
        f"{last.hardware.profile.name}: set spec.placement.fallback to Allow to let it",
    )


_CLOSENESS = (
    RejectReason.NO_MATCHING_LABEL,
    RejectReason.ACCELERATOR_MISSING,
    RejectReason.ARCHITECTURE_NOT_BUILT,
    RejectReason.NO_VARIANT_FOR,
    RejectReason.INSUFFICIENT_MEMORY,
)
"""In the order of the checks: the later one fails, the closer the node is to fitting."""


def _closest(outcomes: Iterable[_Seat | _Refusal]) -> _Refusal:
    """Return the refusal of the entry that was closest to fitting; of equals the first."""
    refusals = [outcome for outcome in outcomes if isinstance(outcome, _Refusal)]
    return max(refusals, key=lambda refusal: _CLOSENESS.index(refusal.reason))


def _fit_entry(node: Node, entry: str, wish: Wish, incumbents: Incumbents) -> _Seat | _Refusal:
    profiles = [
        profile for profile in wish.profiles if entry in (profile.name, profile.accelerator_class)
    ]
    if not profiles:
        return _Refusal(
            RejectReason.NO_MATCHING_LABEL,
            f"the operator knows no profile of class {entry}: add one with the chart value "
            "`accelerators`",
        )
    outcomes: list[_Seat | _Refusal] = []
    for profile in profiles:
        outcome = _fit_profile(node, profile, wish, incumbents)
        if isinstance(outcome, _Seat):
            return outcome
        outcomes.append(outcome)
    return _closest(outcomes)


def _fit_profile(
    node: Node, profile: Profile, wish: Wish, incumbents: Incumbents
) -> _Seat | _Refusal:
    found = _find_hardware(node, profile, wish.deployment) or _keep_hardware(
        node, profile, wish.deployment, incumbents
    )
    if found is None:
        return _missing_hardware(node, profile)
    if node.arch not in profile.architectures:
        return _Refusal(
            RejectReason.ARCHITECTURE_NOT_BUILT,
            f"the image of profile {profile.name} is built for "
            f"{', '.join(profile.architectures)}, the node is {node.arch}",
        )
    variant = variant_for(profile, wish.variants)
    if variant is None:
        return _missing_variant(profile, wish.variants)
    hardware, lost_since = found
    return _lack_of_memory(node, variant) or _Seat(hardware, variant, lost_since)


def _find_hardware(
    node: Node, profile: Profile, deployment: str
) -> tuple[Hardware, datetime | None] | None:
    """Return the hardware that the node proves to have."""
    for hardware in _alternatives(deployment, profile, node.arch):
        if hardware.resource is None:
            has_it = any(_has_labels(node, labels) for labels in profile.labels)
        else:
            has_it = node.allocatable.get(hardware.resource, 0) >= 1
        if has_it:
            return hardware, None
    return None


def _keep_hardware(
    node: Node, profile: Profile, deployment: str, incumbents: Incumbents
) -> tuple[Hardware, datetime | None] | None:
    """Return the hardware that the unit had, while it may be a device plugin that restarts."""
    cell = incumbents.cells.get(node.name)
    for hardware in _alternatives(deployment, profile, node.arch):
        if hardware.cell != cell:
            continue
        if not node.reachable:  # what an offline node last said proves nothing
            return hardware, None
        since = incumbents.lost.get(node.name, incumbents.now)
        in_grace = (incumbents.now - since).total_seconds() < incumbents.grace_s
        return (hardware, since) if in_grace else None
    return None


def _missing_hardware(node: Node, profile: Profile) -> _Refusal:
    has_label = any(labels and _has_labels(node, labels) for labels in profile.labels)
    wanted = " or ".join(profile.resource_names)
    if not wanted:
        labels = " or ".join(_label_text(labels) for labels in profile.labels)
        return _Refusal(
            RejectReason.NO_MATCHING_LABEL,
            f"profile {profile.name} wants the node label {labels or '(none is given)'}",
        )
    if has_label:
        return _Refusal(
            RejectReason.ACCELERATOR_MISSING,
            f"label present, no allocatable {wanted}: is the device plugin running?",
        )
    if any(name in node.allocatable for name in profile.resource_names):
        return _Refusal(
            RejectReason.ACCELERATOR_MISSING,
            f"0 allocatable {wanted}: the device plugin runs, but offers no healthy device",
        )
    return _Refusal(
        RejectReason.NO_MATCHING_LABEL,
        f"no allocatable {wanted} (profile {profile.name}): does the node have the hardware, "
        "and its device plugin?",
    )


def _label_text(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _missing_variant(profile: Profile, variants: Iterable[Variant]) -> _Refusal:
    offered = ", ".join(
        f"{variant.name} ({variant.format} for {', '.join(variant.runs_on) or 'anything'})"
        for variant in variants
    )
    formats = " or ".join(profile.formats)
    return _Refusal(
        RejectReason.NO_VARIANT_FOR,
        f"the model has no {formats} variant for {profile.name}, only {offered}: add one with "
        f"{profile.name} or {profile.accelerator_class} in runsOn",
    )


def _lack_of_memory(node: Node, variant: Variant) -> _Refusal | None:
    has = node.allocatable.get("memory")
    if variant.memory is None or has is None or quantity(variant.memory) <= has:
        return None
    return _Refusal(
        RejectReason.INSUFFICIENT_MEMORY,
        f"variant {variant.name} needs {variant.memory} of memory, the node has "
        f"{has / 2**20:.0f}Mi allocatable: offer a smaller variant first",
    )
