"""One row a unit: everything that was observed of it, gathered once for all who decide."""

from __future__ import annotations

from dataclasses import dataclass

from skerry_operator.decide.observed import Pod
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.reported import UnitReport


@dataclass(frozen=True, order=True)
class Berth:
    """The DaemonSet, or with Replicas the kind of ReplicaSet, that a unit's pod comes from."""

    cell: str
    template: str


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A unit as it is in the cluster."""

    unit: str
    node: Node | None
    """The node that it is, or that its pod runs on; None: it has none yet."""
    reachable: bool
    """Its node reports; one that is still to be found counts as if."""
    site: str
    """Nodes without the label share a site that has no name."""
    pod: Pod | None
    """The newest that is not being deleted."""
    report: UnitReport | None
    """What was last heard of it."""
    berths: tuple[Berth, ...]
    """What makes pods for it: one, two after a torn write, or none yet."""
    assigned: str | None
    """Revision that the file of its first berth's cell gives it."""

    def serves_from(self, berths: tuple[Berth, ...]) -> bool:
        """Tell whether a pod out of one of the `berths` serves on the unit."""
        pod = self.pod
        if pod is None or Berth(pod.cell, pod.template) not in berths:
            return False
        return pod.ready if self.report is None else self.report.serving is not None
