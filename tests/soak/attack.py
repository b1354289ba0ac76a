"""What a tenant with the rights of `edit` in one namespace can do to everybody else's operator.

1. ConfigMaps of a megabyte with labels of ours: of no deployment, of a deployment, and with an
   ownerReference that names it by its uid.
2. Pods of a deployment that answer GET /status with a megabyte of empty counters.
3. Pods of a deployment that never answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.people import People, model
from fleet.runtimes import SimulatedRuntimes
from fleet.simulated_pod import LABEL_HABIT, Habit
from skerry_operator.constants import (
    API_VERSION,
    LABEL_CELL,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    MANAGED_BY,
)
from skerry_operator.kube.paths import object_path
from skerry_runtime.contract import (
    ASSIGNMENT_FILE,
)

Raw = dict[str, Any]
NAMESPACE = "tenant-a"
TENANT = "tenant"
LOUD, SILENT = "loud", "silent"
MAP_BYTES = 1_000_000
"""A ConfigMap may hold 1 MiB, names included."""
BODY_BYTES = 1 << 20
EVERY_S = 1.0
"""Time between two changes of a ConfigMap."""


@dataclass(frozen=True)
class Size:
    """How much of each."""

    maps: int = 40
    loud: int = 8
    silent: int = 640

    def nodes(self) -> dict[str, dict[str, str]]:
        """Return the nodes of the tenant's pods, with their labels."""
        loud = {f"loud-{index:03}": {TENANT: LOUD} for index in range(self.loud)}
        gone = {TENANT: SILENT, LABEL_HABIT: str(Habit.GONE)}
        return loud | {f"silent-{index:03}": gone for index in range(self.silent)}


class Attack:
    """One tenant's attack."""

    def __init__(self, people: People, size: Size) -> None:
        self._people = people
        self._size = size
        self._content = assignment_of(MAP_BYTES)

    async def begin(self) -> None:
        """Put everything there."""
        uid = ""
        for name in (LOUD, SILENT):
            await self._people.put("EdgeModel", NAMESPACE, name, model("1.0.0"))
            selector = {"nodeSelector": {TENANT: name}}
            spec = {"modelRef": {"name": name}, "placement": selector}
            await self._people.put("EdgeDeployment", NAMESPACE, name, spec)
        path = object_path("EdgeDeployment", NAMESPACE, LOUD)
        async with self._people.session.get(path) as answer:
            uid = (await answer.json())["metadata"]["uid"]
        self._bodies = [self._map(index, uid) for index in range(self._size.maps)]
        await asyncio.gather(*(self._put(body, 0) for body in self._bodies))

    async def go_on(self) -> None:
        """Change one ConfigMap after the other, and bring back what was deleted; never ends."""
        for number in itertools.count(1):
            await self._put(self._bodies[number % len(self._bodies)], number)
            await asyncio.sleep(EVERY_S)

    async def _put(self, body: Raw, number: int) -> None:
        metadata = {**body["metadata"], "annotations": {"tenant": str(number)}}
        path = object_path("ConfigMap", NAMESPACE, metadata["name"])
        await self._people.send("APPLY", path, {**body, "metadata": metadata})

    def _map(self, index: int, uid: str) -> Raw:
        owner = {"apiVersion": API_VERSION, "kind": "EdgeDeployment", "name": LOUD, "uid": uid}
        labels = {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_DEPLOYMENT: (LOUD, LOUD, "nobody")[index % 3],
            LABEL_CELL: f"cell-{index}",
        }
        metadata: Raw = {"name": f"map-{index:02}", "labels": labels}
        if index % 3 == 0:
            metadata["ownerReferences"] = [{**owner, "controller": True}]
        data = {ASSIGNMENT_FILE: self._content}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def assignment_of(size: int) -> str:
    """Return about an assignment, of so many bytes: units without number, and no revision."""
    units = {f"{index}": "" for index in range(size // 12)}
    names = {"deployment": f"{NAMESPACE}/{LOUD}", "cell": "cell"}
    return json.dumps(
        {**names, "execution": {"profile": "cpu"}, "units": units}, separators=(",", ":")
    )


class HostileRuntimes(SimulatedRuntimes):
    """Runtimes of which the loud ones answer as much as anybody reads."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig)
        plain = {"revision": "", "since": 0, "total": {}, "lastMinute": {}}
        text = json.dumps(plain, separators=(",", ":"))
        self._counters = ",".join([text] * ((BODY_BYTES - 16384) // (len(text) + 1)))

    def _answer(self, ip: str) -> bytes | None:
        body, pod = super()._answer(ip), self._by_ip.get(ip)
        if body is None or pod is None or pod.cell[0] != NAMESPACE:
            return body
        content = json.loads(body)
        del content["counters"]
        return f'{json.dumps(content)[:-1]}, "counters": [{self._counters}]}}'.encode()
