"""EdgeModels and EdgeDeployments: what a change of one wakes."""

from __future__ import annotations

from collections.abc import Iterable

from skerry_operator.handlers.change import Change, Key
from skerry_operator.kube.raw import Raw
from skerry_operator.kube.tables import Cache


def deployment_wakes(change: Change[Raw]) -> Iterable[Key]:
    """Return the EdgeDeployment itself."""
    return [("EdgeDeployment", *change.entry.key)]


def model_wakes(cache: Cache, change: Change[Raw]) -> Iterable[Key]:
    """Return the EdgeModel itself and every EdgeDeployment that refers to it."""
    namespace, name = change.entry.key
    users = (
        ("EdgeDeployment", *entry.key)
        for entry in cache.deployments
        if entry.key[0] == namespace and entry.value["spec"].get("modelRef", {}).get("name") == name
    )
    return [("EdgeModel", namespace, name), *users]
