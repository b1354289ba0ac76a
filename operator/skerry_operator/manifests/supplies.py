"""What a pod mounts to fetch models with, and how it is read again from what makes the pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry_operator.decide.supplies import CLAIM, SECRET
from skerry_runtime.contract import CLAIMS_DIR, SOURCES_DIR

_VOLUME = "source-"


def volumes(supplies: Iterable[str]) -> list[dict[str, Any]]:
    """Return the volumes: a Secret that is missing keeps no pod from starting."""
    return [
        {"name": f"{_VOLUME}{index}", **_content(supply)}
        for index, supply in enumerate(sorted(supplies))
    ]


def _content(supply: str) -> dict[str, Any]:
    if supply.startswith(CLAIM):
        claim = {"claimName": supply.removeprefix(CLAIM), "readOnly": True}
        return {"persistentVolumeClaim": claim}
    name = supply.removeprefix(SECRET)
    # Readable by the pod's group, which is the container's user, and by nobody else.
    return {"secret": {"secretName": name, "optional": True, "defaultMode": 0o440}}


def mounts(supplies: Iterable[str]) -> list[dict[str, Any]]:
    """Return where the container has them: each in a folder of its name."""
    return [
        {"name": f"{_VOLUME}{index}", "mountPath": _folder(supply), "readOnly": True}
        for index, supply in enumerate(sorted(supplies))
    ]


def supplies_of(pod_spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the pods of a template mount to fetch with, sorted."""
    volumes = pod_spec.get("volumes") or ()
    ours = (one for one in volumes if str(one.get("name", "")).startswith(_VOLUME))
    return tuple(sorted(_supply_in(volume) for volume in ours))


def _supply_in(volume: Mapping[str, Any]) -> str:
    claim = volume.get("persistentVolumeClaim")
    if claim:
        return f"{CLAIM}{claim.get('claimName', '')}"
    return f"{SECRET}{(volume.get('secret') or {}).get('secretName', '')}"


def _folder(supply: str) -> str:
    if supply.startswith(CLAIM):
        return f"{CLAIMS_DIR}/{supply.removeprefix(CLAIM)}"
    return f"{SOURCES_DIR}/{supply.removeprefix(SECRET)}"
