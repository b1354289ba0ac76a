"""A change of placement that would take the model from most of the units that serve."""

from __future__ import annotations

from dataclasses import dataclass, replace

from skerry_operator.api.v1alpha1.edgedeployment import Fallback, Placement
from skerry_operator.api.v1alpha1.edgedeployment_status import PlacementInForce
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.names import unit_name

LEAST_SHARE = 0.5
"""Of the units that serve, how many a change of placement must leave."""
_NAMED = 3


@dataclass(frozen=True)
class Shrinkage:
    """What a change of placement would leave."""

    fields: tuple[str, ...]
    """What was changed, as the spec names it."""
    serving: frozenset[str]
    """Units that serve now, and that the spec still asks for."""
    left: frozenset[str]
    """Of these, the units that would stay."""

    @property
    def message(self) -> str:
        """Return what is held and why, and what would help."""
        lost = sorted(self.serving - self.left)
        rest = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        fields = " and ".join(f"spec.placement.{name}" for name in self.fields)
        return (
            f"the change of {fields} is held: it would leave {len(self.left)} of "
            f"{len(self.serving)} units that serve, without {', '.join(lost[:_NAMED])}{rest}; all "
            "go on where they are. Correct it, or set spec.rollout.allowShrink: true"
        )


def in_force(placement: Placement) -> PlacementInForce:
    """Return what is kept of a placement that is carried out."""
    return PlacementInForce(
        node_selector=placement.node_selector or None,
        accelerators=placement.accelerators,
        fallback=placement.fallback,
    )


def shrinkage(fleet: Fleet, revision: str | None) -> Shrinkage | None:
    """Return what a change of placement would leave of those that serve, if that is too little.

    Only a change of the spec is held: nodes and labels that go are the world's. How many replicas
    are asked for is a clear word. `revision` is what is placed, stable in doubt.
    """
    deployment = fleet.observed.deployment
    kept = deployment.status.placement_in_force
    if kept is None or revision is None or deployment.spec.rollout.allow_shrink:
        return None
    fields = _changed(kept, in_force(deployment.spec.placement))
    if not fields or revision not in fleet.snapshots:
        return None
    serving = _serving(fleet)
    left = serving & fleet.place(revision).cell_of.keys()
    if len(left) >= LEAST_SHARE * len(serving):
        return None
    return Shrinkage(fields, serving, frozenset(left))


def held(fleet: Fleet) -> Fleet:
    """Return the fleet as it is placed by what is in force, whatever the spec has changed."""
    deployment = fleet.observed.deployment
    kept = deployment.status.placement_in_force
    if kept is None:
        return fleet
    update = {
        "node_selector": kept.node_selector or {},
        "accelerators": kept.accelerators,
        # a word that only a newer operator knows forbids nothing here
        "fallback": Fallback.FORBID if kept.fallback == Fallback.FORBID else Fallback.ALLOW,
    }
    placement = deployment.spec.placement.model_copy(update=update)
    spec = deployment.spec.model_copy(update={"placement": placement})
    deployment = deployment.model_copy(update={"spec": spec})
    return replace(fleet, observed=replace(fleet.observed, deployment=deployment))


def _changed(kept: PlacementInForce, wanted: PlacementInForce) -> tuple[str, ...]:
    before, after = kept.to_dict(), wanted.to_dict()
    if not kept.node_selector:
        before.pop("nodeSelector", None)
    return tuple(name for name in sorted({*before, *after}) if before.get(name) != after.get(name))


def _serving(fleet: Fleet) -> frozenset[str]:
    """Return the units that serve as far as anybody knows; silent ones may well do."""
    return frozenset(unit for unit in _asked(fleet) if _may_serve(fleet, unit))


def _asked(fleet: Fleet) -> frozenset[str]:
    """Return the units that are there and that the spec still asks for."""
    if fleet.is_per_node:
        return frozenset(fleet.listed)
    deployment = fleet.observed.deployment
    count = deployment.spec.placement.replicas
    names = {unit_name(deployment.metadata.name, i) for i in range(1 if count is None else count)}
    return frozenset(names & fleet.listed.keys())


def _may_serve(fleet: Fleet, unit: str) -> bool:
    row = fleet.row(unit)
    if row.pod is None:
        return False
    if row.report is not None:
        return row.report.serving is not None
    return row.pod.ready or not row.reachable
