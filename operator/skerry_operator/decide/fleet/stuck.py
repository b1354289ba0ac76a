"""Who is to be asked for reasons: workloads that make no pod, and pods that never start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from skerry_operator.decide.observed import Observed, ObservedTemplate, Pod

STUCK_LIMIT = 8
"""Objects of one deployment whose events are read at one time: the others wait for the same."""
PATIENCE = timedelta(seconds=10)
"""How long a pod may take to get its volumes and its address before somebody asks why."""
_HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True)
class Stuck:
    """An object whose events may say why units do not serve."""

    kind: str
    name: str
    uid: str
    units: tuple[str, ...]


def stuck(observed: Observed) -> tuple[Stuck, ...]:
    """Return what to ask about, at most STUCK_LIMIT: workloads first, as each speaks for many."""
    found = [*_without_pods(observed), *_without_containers(observed)]
    return tuple(islice((one for one in found if one.uid), STUCK_LIMIT))


def _without_pods(observed: Observed) -> Iterator[Stuck]:
    """Yield the workloads that have units on reachable nodes without any pod, ending ones too."""
    has_pod = {pod.unit for pod in observed.pods}
    names = {
        node.labels.get(_HOSTNAME, node.name): node.name
        for node in observed.nodes
        if node.reachable
    }
    for template in observed.templates:
        missing = tuple(unit for unit in _units(template, names) if unit not in has_pod)
        if missing:
            kind = "ReplicaSet" if template.unit else "DaemonSet"
            yield Stuck(kind, template.name, template.uid, missing)


def _units(template: ObservedTemplate, names: dict[str, str]) -> tuple[str, ...]:
    if template.unit:
        return (template.unit,)
    return tuple(names[hostname] for hostname in template.nodes if hostname in names)


def _without_containers(observed: Observed) -> Iterator[Stuck]:
    """Yield the pods that have a node and have been getting no address for a while."""
    for pod in observed.pods:
        if _hangs(pod) and observed.now - (pod.created_at or observed.now) >= PATIENCE:
            yield Stuck("Pod", pod.name, pod.uid, (pod.unit,))


def _hangs(pod: Pod) -> bool:
    is_coming = pod.is_scheduled and not (pod.deleting or pod.is_over)
    return is_coming and not (pod.waiting_reason or pod.ip)
