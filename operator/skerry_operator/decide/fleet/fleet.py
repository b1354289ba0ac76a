"""The fleet as one deployment sees it: nodes, pods and lists, looked up by unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property

from skerry_operator.api.v1alpha1.edgedeployment import PlacementMode
from skerry_operator.catalogue.profiles import Profile
from skerry_operator.decide.fleet.podtemplate import PodTemplate, template_of
from skerry_operator.decide.fleet.row import Berth, UnitRow
from skerry_operator.decide.observed import Observed, ObservedCell, Pod, speakers
from skerry_operator.decide.placement.fitting import DEFAULT_GRACE_S, Incumbents, Wish
from skerry_operator.decide.placement.hardware import Hardware, hardware_of
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.place import PlacementResult, place
from skerry_operator.decide.revision import Snapshot
from skerry_operator.decide.supplies import own_supplies, supplies_for
from skerry_runtime.contract import Engine, RevisionContent

HOSTNAME_LABEL = "kubernetes.io/hostname"
SPILL_S = 30.0
"""How long a replica's pod may find no place before other hardware is tried."""
UNSCHEDULABLE = "Unschedulable"
"""Waiting reason of a pod that the scheduler finds no node for."""


def hostname_of(node: Node) -> str:
    """Return the value by which an affinity names the node."""
    return node.labels.get(HOSTNAME_LABEL, node.name)


@dataclass(frozen=True)
class Fleet:
    """Observed, with the lookups that every later decision shares."""

    observed: Observed
    profiles: tuple[Profile, ...]
    snapshots: Mapping[str, Snapshot]
    """Revision -> snapshot, that of the wanted revision included."""
    grace_s: float = DEFAULT_GRACE_S
    flavors: frozenset[str] | None = None
    """Flavors of the runtime images that the operator has; None: it has one for everything."""
    earlier: Mapping[str, PlacementResult] = field(default_factory=dict, repr=False)
    """Revision -> its placement at the last look. Saves work, decides nothing."""

    @property
    def is_per_node(self) -> bool:
        """Tell whether a unit is a node, and not a replica."""
        return self.observed.deployment.spec.placement.mode is PlacementMode.PER_NODE

    @property
    def is_scaled_to_zero(self) -> bool:
        """Tell whether the spec asks for no unit at all."""
        placement = self.observed.deployment.spec.placement
        return not self.is_per_node and placement.replicas == 0

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Return the nodes by name."""
        return {node.name: node for node in self.observed.nodes}

    @cached_property
    def hardware(self) -> dict[str, Hardware]:
        """Return every cell that could be, by name."""
        name = self.observed.deployment.metadata.name
        choices = max((len(one.model.variants) for one in self.snapshots.values()), default=1)
        architectures = (node.arch for node in self.observed.nodes)
        return hardware_of(name, self.profiles, architectures, choices)

    @cached_property
    def cells(self) -> dict[str, ObservedCell]:
        """Return the cells that are in the cluster, by name."""
        return {cell.name: cell for cell in self.observed.cells}

    @cached_property
    def listed(self) -> dict[str, tuple[Berth, ...]]:
        """Return what makes pods for a unit: one, or two after a torn write."""
        names = {hostname_of(node): node.name for node in self.observed.nodes}
        berths: dict[str, list[Berth]] = defaultdict(list)
        for template in self.observed.templates:
            if template.unit:
                berths[template.unit].append(Berth(template.cell, template.template))
            for hostname in template.nodes:
                if hostname in names:
                    berths[names[hostname]].append(Berth(template.cell, template.template))
        return {unit: tuple(sorted(found)) for unit, found in berths.items()}

    @cached_property
    def listed_cells(self) -> dict[str, str]:
        """Return the cell that each unit is in now, by what makes its pod."""
        return {unit: berths[0].cell for unit, berths in self.listed.items()}

    @cached_property
    def pods(self) -> dict[str, Pod]:
        """Return the pod that speaks for each unit."""
        return speakers(self.observed.pods)

    def row(self, unit: str) -> UnitRow:
        """Return all that was observed of a unit; of an unknown one, that there is nothing."""
        row = self._rows.get(unit)
        if row is None:
            row = self._rows[unit] = self._gathered(unit)
        return row

    @cached_property
    def _rows(self) -> dict[str, UnitRow]:
        """Return the rows that were asked for."""
        return {}

    def _gathered(self, unit: str) -> UnitRow:
        pod, berths = self.pods.get(unit), self.listed.get(unit, ())
        node = self.nodes.get(unit if self.is_per_node else pod.node if pod else "")
        return UnitRow(
            unit=unit,
            node=node,
            reachable=node is None or node.reachable,
            site=node.labels.get(self._site_label, "") if node else "",
            pod=pod,
            report=self.observed.reports.get(unit),
            berths=berths,
            assigned=self._given(unit, berths[0].cell) if berths else None,
        )

    @cached_property
    def _site_label(self) -> str:
        return self.observed.deployment.spec.placement.site_label

    def _given(self, unit: str, cell: str) -> str | None:
        """Return the revision that a cell's file gives a unit."""
        observed = self.cells.get(cell)
        return observed.assignment.revision_of(unit) if observed else None

    @cached_property
    def incumbents(self) -> Incumbents:
        """Return where the units are, for a placement that keeps them there."""
        waiting = {unit: pod for unit, pod in self.pods.items() if not pod.is_scheduled}
        return Incumbents(
            now=self.observed.now,
            cells=self.listed_cells,
            lost={lost.node: lost.since for lost in self.observed.deployment.status.lost_hardware},
            grace_s=self.grace_s,
            taken=self.observed.taken,
            waiting=frozenset(waiting),
            spilled=frozenset(unit for unit, pod in waiting.items() if self._is_spilled(pod)),
        )

    def _is_spilled(self, pod: Pod) -> bool:
        """Tell whether the scheduler has found no place for a replica for too long."""
        if self.is_per_node or pod.waiting_reason != UNSCHEDULABLE or pod.created_at is None:
            return False
        return self.observed.now - pod.created_at >= timedelta(seconds=SPILL_S)

    def place(self, revision: str) -> PlacementResult:
        """Return the placement of a revision; an unknown one is placed nowhere."""
        known = self._places.get(revision)
        if known is None:
            known = self._places[revision] = self._placed(revision)
        return known

    @cached_property
    def _places(self) -> dict[str, PlacementResult]:
        """Return the placements that were asked for."""
        return {}

    def _placed(self, revision: str) -> PlacementResult:
        snapshot = self.snapshots.get(revision)
        if snapshot is None:
            return PlacementResult()
        metadata, spec = self.observed.deployment.metadata, self.observed.deployment.spec
        engine = snapshot.runtime.engine
        has_any_image = snapshot.runtime.image or engine is Engine.TRITON  # the plain one will do
        flavors = None if has_any_image else self.flavors
        variants = snapshot.model.variants
        wish = Wish(metadata.name, spec.placement, variants, self.profiles, flavors, engine)
        incumbents = replace(self.incumbents, climbing=self._climbing(revision))
        earlier = self.earlier.get(revision)
        return place(self.observed.nodes, wish, incumbents, earlier)

    def _climbing(self, revision: str) -> frozenset[str]:
        """Return the replicas that a rollout of the revision may take to better hardware.

        Those that have it already stay: who climbed and found no place must not climb again.
        """
        stable = self.observed.deployment.status.stable_revision
        if self.is_per_node or stable is None or revision == stable:
            return frozenset()
        return frozenset(unit for unit in self.listed if self.row(unit).assigned != revision)

    def berth(self, revision: str, cell: str) -> Berth:
        """Return the DaemonSet of a revision's pods in a cell.

        Raises:
            KeyError: no such snapshot, or no such hardware.
        """
        known = self._berths.get((revision, cell))
        if known is None:
            template = self.template(revision, self.hardware[cell])
            known = self._berths[revision, cell] = Berth(cell, template.hash)
        return known

    def template(self, revision: str, hardware: Hardware) -> PodTemplate:
        """Return the template of a revision's pods on some hardware.

        Raises:
            KeyError: no such snapshot.
        """
        known = self._templates.get((revision, hardware.cell))
        if known is None:
            placement = self.observed.deployment.spec.placement
            snapshot = self.snapshots[revision]
            known = template_of(snapshot, hardware, placement, self._supplies_of(revision))
            self._templates[revision, hardware.cell] = known
        return known

    def suits(self, berth: Berth, revision: str) -> bool:
        """Tell whether pods of a berth can run a revision: theirs, or with more supplies.

        Raises:
            KeyError: no such snapshot, or no such hardware.
        """
        known = self._suited.get((berth, revision))
        if known is None:
            known = self._suited[berth, revision] = self._does_suit(berth, revision)
        return known

    def _does_suit(self, berth: Berth, revision: str) -> bool:
        if berth == self.berth(revision, berth.cell):
            return True
        had = self.supplied.get(berth)
        if had is None or not own_supplies(self.snapshots[revision]) <= set(had):
            return False
        template = self.template(revision, self.hardware[berth.cell])
        return replace(template, supplies=had or None).hash == berth.template

    def berth_for(self, unit: str, revision: str, cell: str) -> Berth:
        """Return the berth for a unit: the one that it has, where that can run the revision.

        Raises:
            KeyError: no such snapshot, or no such hardware.
        """
        own = self.berth(revision, cell)
        listed = self.row(unit).berths
        if not listed or own in listed:
            return own
        return next((one for one in listed if one.cell == cell and self.suits(one, revision)), own)

    def named_after(self, berth: Berth) -> tuple[PodTemplate, ...]:
        """Return the templates of known revisions that a berth has its name from.

        Raises:
            KeyError: no such hardware.
        """
        known = self._named.get(berth)
        if known is None:
            known = self._named[berth] = self._named_after(berth)
        return known

    def _named_after(self, berth: Berth) -> tuple[PodTemplate, ...]:
        had, hardware = self.supplied.get(berth) or None, self.hardware[berth.cell]
        made = (self.template(revision, hardware) for revision in self.snapshots)
        both = (one for template in made for one in (template, replace(template, supplies=had)))
        return tuple(one for one in both if one.hash == berth.template)

    def lacks(self, berth: Berth, revision: str) -> frozenset[str]:
        """Return the supplies that a revision needs and the pods of a berth do not have.

        Raises:
            KeyError: no such snapshot.
        """
        return own_supplies(self.snapshots[revision]) - set(self.supplied.get(berth, ()))

    @cached_property
    def _templates(self) -> dict[tuple[str, str], PodTemplate]:
        """Return the templates that were asked for, by revision and cell."""
        return {}

    @cached_property
    def _named(self) -> dict[Berth, tuple[PodTemplate, ...]]:
        """Return what berths were found to be named after."""
        return {}

    @cached_property
    def _suited(self) -> dict[tuple[Berth, str], bool]:
        """Return what was asked of berths: all units of a cell ask the same."""
        return {}

    @cached_property
    def supplied(self) -> dict[Berth, tuple[str, ...]]:
        """Return what the pods of each berth in the cluster mount to fetch with."""
        return {Berth(one.cell, one.template): one.supplies for one in self.observed.templates}

    def _supplies_of(self, revision: str) -> tuple[str, ...]:
        known = self._supplies.get(revision)
        if known is None:
            kept = self.snapshots.values()
            known = self._supplies[revision] = supplies_for(self.snapshots[revision], kept)
        return known

    @cached_property
    def _supplies(self) -> dict[str, tuple[str, ...]]:
        """Return the supplies that were asked for."""
        return {}

    @cached_property
    def _berths(self) -> dict[tuple[str, str], Berth]:
        """Return the berths that were asked for: all units of a cell ask for the same few."""
        return {}

    def assigned(self, unit: str, cell: str) -> str | None:
        """Return the revision that the cluster gives the unit; `cell` counts while it has none."""
        row = self.row(unit)
        return row.assigned if row.berths else self._given(unit, cell)

    def known_contents(self, cell: str) -> Mapping[str, RevisionContent]:
        """Return the revisions that a cell's file holds now."""
        observed = self.cells.get(cell)
        return observed.assignment.revisions if observed else {}
