"""Pods that are made anew because they never started, and what they have besides has changed.

Pull secrets, priority and labels change no model, so a pod that runs is not replaced for them. One
that cannot run without the right pull secret must be: nothing of a pod that exists can be mended.
It leaves the list of what makes its pods for one look, and comes back when it is gone.
"""

from __future__ import annotations

from skerry_operator.api.v1alpha1.edgedeployment_pods import PodExtras
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.stuck import PATIENCE
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.revision import content_hash

HASH_LENGTH = 8


def extras_hash(extras: PodExtras) -> str:
    """Return the hash of what pods have besides; empty when that is nothing."""
    content = {name: value for name, value in extras.model_dump(mode="json").items() if value}
    return content_hash(content, HASH_LENGTH) if content else ""


def must_renew(fleet: Fleet, unit: str, extras: PodExtras) -> bool:
    """Tell whether the unit's pod never started and would be another one today."""
    row = fleet.row(unit)
    if row.pod is None or row.report is not None or not row.reachable:
        return False
    return row.pod.extras != extras_hash(extras) and _never_started(fleet, row.pod)


def _never_started(fleet: Fleet, pod: Pod) -> bool:
    """Tell whether something keeps the pod from its first start, and is known."""
    has_run = pod.is_started or pod.ready or pod.restarts > 0 or bool(pod.last_exit)
    is_kept = bool(pod.waiting_reason or pod.unit in fleet.observed.causes)
    now = fleet.observed.now
    return not has_run and is_kept and now - (pod.created_at or now) >= PATIENCE
