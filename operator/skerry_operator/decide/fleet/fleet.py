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
from skerry_operator.decide.observed import Observed, ObservedCell, Pod, speakers
from skerry_operator.decide.placement.fitting import DEFAULT_GRACE_S, Incumbents, Wish
from skerry_operator.decide.placement.hardware import Hardware, hardware_of
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.place import PlacementResult, place
from skerry_operator.decide.revision import Snapshot
from skerry_runtime.contract import Engine, RevisionContent

HOSTNAME_LABEL = "kubernetes.io/hostname"
SPILL_S = 30.0
"""How long a replica's pod may find no place before other hardware is tried."""
UNSCHEDULABLE = "Unschedulable"
"""Waiting reason of a pod that the scheduler finds no node for."""


@dataclass(frozen=True, order=True)
class Berth:
    """The DaemonSet, or with Replicas the kind of ReplicaSet, that a unit's pod comes from."""

    cell: str
    template: str


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

    def node_of(self, unit: str) -> Node | None:
        """Return the node that a unit is, or that its pod runs on; None: it has none yet."""
        if self.is_per_node:
            return self.nodes.get(unit)
        pod = self.pods.get(unit)
        return self.nodes.get(pod.node) if pod else None

    def is_reachable(self, unit: str) -> bool:
        """Tell whether the unit's node reports; one that is still to be found counts as if."""
        node = self.node_of(unit)
        return node is None or node.reachable

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
        return frozenset(unit for unit in self.listed if self.assigned(unit) != revision)

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
        placement = self.observed.deployment.spec.placement
        return template_of(self.snapshots[revision], hardware, placement)

    @cached_property
    def _berths(self) -> dict[tuple[str, str], Berth]:
        """Return the berths that were asked for: all units of a cell ask for the same few."""
        return {}

    def site(self, unit: str) -> str:
        """Return the unit's site; nodes without the label share one that has no name."""
        label = self.observed.deployment.spec.placement.site_label
        node = self.node_of(unit)
        return node.labels.get(label, "") if node else ""

    def assigned(self, unit: str, cell: str | None = None) -> str | None:
        """Return the revision that the cluster gives the unit now."""
        berths = self.listed.get(unit)
        name = berths[0].cell if berths else cell
        observed = self.cells.get(name or "")
        return observed.assignment.revision_of(unit) if observed else None

    def known_contents(self, cell: str) -> Mapping[str, RevisionContent]:
        """Return the revisions that a cell's file holds now."""
        observed = self.cells.get(cell)
        return observed.assignment.revisions if observed else {}

    def is_serving(self, unit: str, berths: tuple[Berth, ...]) -> bool:
        """Tell whether a pod out of one of the `berths` serves on the unit."""
        pod, report = self.pods.get(unit), self.observed.reports.get(unit)
        if pod is None or Berth(pod.cell, pod.template) not in berths:
            return False
        return pod.ready if report is None else report.serving is not None
