"""The status: what is kept of it, and what `kubectl get` makes of it.

Always on an API server of our own: elsewhere an operator may write its own status over ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client import CustomObjectsApi

from bare_api import install_crds, kubectl_of
from skerry_operator.constants import GROUP, VERSION

pytestmark = pytest.mark.integration

Object = dict[str, Any]
Write = Callable[[Object], Object]
EYES = {
    "apiVersion": f"{GROUP}/{VERSION}",
    "kind": "EdgeDeployment",
    "metadata": {"name": "eyes"},
    "spec": {"modelRef": {"name": "digits"}},
}
REVISION = "a1b2c3d4e5"
COLUMNS = ["PHASE", "STEP", "MODEL", "STABLE", "TARGET", "UNITS"]
STATUS = {
    "observedGeneration": 1,
    "phase": "Stable",
    "step": "4/4",
    "modelVersion": "2.0.0",
    "stableRevision": REVISION,
    "targetRevision": REVISION,
    "unitsText": "2/3",
    "units": {"eligible": 3, "updated": 2, "serving": 2, "failed": 0, "offline": 1},
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Stable",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


@pytest.fixture(scope="module")
def api(own_api: Path) -> Iterator[CustomObjectsApi]:
    install_crds(own_api)
    with config.new_client_from_config(str(own_api)) as client:
        yield CustomObjectsApi(client)


@pytest.fixture
def write(api: CustomObjectsApi) -> Iterator[Write]:
    where = (GROUP, VERSION, "default", "edgedeployments")
    api.create_namespaced_custom_object(*where, EYES)

    def do(status: Object) -> Object:
        body = {"status": status}
        return api.patch_namespaced_custom_object_status(*where, "eyes", body)

    yield do
    api.delete_namespaced_custom_object(*where, "eyes")


def test_a_status_keeps_what_is_known_and_loses_what_is_not(write: Write) -> None:
    assert write(STATUS | {"secret": "x"})["status"] == STATUS


def test_a_status_write_changes_no_spec(write: Write) -> None:
    written = write(STATUS)
    assert written["spec"] == EYES["spec"]
    assert written["metadata"]["generation"] == 1


def test_the_columns_tell_the_story(write: Write, own_api: Path) -> None:
    write(STATUS)
    head, row = kubectl_of(own_api)("get", "ed", "eyes", "-o", "wide").splitlines()
    wide = ["READY", "REASON", "FAILED", "OFFLINE", "UPGRADE", "SERVICE", "AGE"]
    assert head.split() == ["NAME", *COLUMNS, *wide]
    values = f"eyes Stable 4/4 2.0.0 {REVISION} {REVISION} 2/3 True Stable 0 1"
    assert row.split()[:-1] == values.split()
    narrow = kubectl_of(own_api)("get", "ed", "eyes").splitlines()[0]
    assert narrow.split()[1:] == [*COLUMNS, "READY", "AGE"]
