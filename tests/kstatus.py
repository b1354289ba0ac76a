"""What kstatus, and with it Helm and Flux, makes of an object of a kind it does not know.

Its published rules (sigs.k8s.io/cli-utils, pkg/kstatus/status), in its order: deletion, generation,
then Reconciling and Stalled as they come among the conditions, then Ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def kstatus(obj: Mapping[str, Any]) -> str:
    """Return Terminating, InProgress, Failed or Current."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation"):
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:
        if condition["status"] == "True" and condition["type"] in _ABNORMAL:
            return _ABNORMAL[condition["type"]]
    ready = [condition["status"] for condition in conditions if condition["type"] == "Ready"]
    return "Current" if not ready or ready[0] == "True" else "InProgress"


_ABNORMAL = {"Reconciling": "InProgress", "Stalled": "Failed"}
