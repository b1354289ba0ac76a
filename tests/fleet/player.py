"""Plays DaemonSet controller and kubelet: pods that exist as objects, and say that they run.

For what a thousand nodes would need three more programs for. It makes a pod for every node that a
DaemonSet of ours names, gives it an address in 127.0.0.0/8 and says that it is ready; what its
runtime answers is told by SimulatedRuntimes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

import aiohttp

from fleet.runtimes import follow
from skerry_operator.constants import LABEL_MANAGED_BY, MANAGED_BY
from skerry_operator.kube.paths import collection_path, object_path

Raw = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name of a DaemonSet."""
WORKERS = 8
_OURS = {"labelSelector": f"{LABEL_MANAGED_BY}={MANAGED_BY}"}
_READY = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]


class Player:
    """The pods of the DaemonSets of some namespaces."""

    def __init__(self, session: aiohttp.ClientSession, namespaces: Collection[str]) -> None:
        self._session = session
        self._namespaces = namespaces
        self._sets: dict[Key, Raw] = {}
        self._pods: defaultdict[Key, dict[str, str]] = defaultdict(dict)
        """DaemonSet -> node -> name of the pod that is there or being made."""
        self._ending: defaultdict[Key, set[str]] = defaultdict(set)
        """DaemonSet -> pods that somebody deleted, and that wait for their kubelet."""
        self._due: asyncio.Queue[Key] = asyncio.Queue()
        self._addresses = _addresses()
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Play until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("DaemonSet", self._set))
            group.create_task(self._follow("Pod", self._pod))
            for _ in range(WORKERS):
                group.create_task(self._work())

    def count(self) -> int:
        """Count the pods."""
        return sum(map(len, self._pods.values()))

    async def _follow(self, kind: str, tell: Any) -> None:
        await follow(self._session, collection_path(kind), _OURS, tell)

    def _set(self, event: str, raw: Raw) -> None:
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        if key[0] not in self._namespaces:
            return
        if event == "DELETED":
            self._sets.pop(key, None)
        else:
            self._sets[key] = raw
        self._due.put_nowait(key)

    def _pod(self, event: str, raw: Raw) -> None:
        metadata = raw["metadata"]
        names = [one["name"] for one in metadata.get("ownerReferences", ())]
        key = (metadata["namespace"], names[0] if names else "")
        if key not in self._pods:
            return
        if event == "DELETED":
            nodes = [node for node, name in self._pods[key].items() if name == metadata["name"]]
            for node in nodes:
                del self._pods[key][node]
        elif "deletionTimestamp" in metadata:
            self._ending[key].add(metadata["name"])
        else:
            return
        self._due.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._due.get()
            wanted = _nodes(self._sets[key]) if key in self._sets else frozenset()
            here = self._pods[key]
            for node in wanted - here.keys():
                here[node] = f"{key[1]}-{node}-{next(self._numbers)}"
                await self._start(key, node, here[node])
            over = [name for node, name in here.items() if node not in wanted]
            while over or self._ending[key]:
                await self._end(key, over.pop() if over else self._ending[key].pop())

    async def _start(self, key: Key, node: str, name: str) -> None:
        """Make a pod that runs; when its DaemonSet has gone meanwhile, it is ended later."""
        made = self._sets.get(key)
        if made is None:
            return
        template = made["spec"]["template"]
        owner = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "name": key[1],
            "uid": made["metadata"]["uid"],
            "controller": True,
        }
        metadata = {**template["metadata"], "name": name, "ownerReferences": [owner]}
        spec = {**template["spec"], "nodeName": node}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        await self._send("POST", collection_path("Pod", key[0]), body)
        status = {"phase": "Running", "podIP": next(self._addresses), "conditions": _READY}
        path = f"{object_path('Pod', key[0], name)}/status"
        await self._send("PATCH", path, {"status": status})

    async def _end(self, key: Key, name: str) -> None:
        path = object_path("Pod", key[0], name)
        async with self._session.delete(path, params={"gracePeriodSeconds": "0"}) as answer:
            assert answer.status in {200, 404}, await answer.text()

    async def _send(self, verb: str, path: str, body: Raw) -> None:
        headers = {"Content-Type": "application/json"}
        if verb == "PATCH":
            headers = {"Content-Type": "application/merge-patch+json"}
        async with self._session.request(verb, path, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()


def _nodes(made: Raw) -> frozenset[str]:
    """Return the nodes that a DaemonSet of ours names."""
    affinity = made["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (expression,) = term["matchExpressions"]
    return frozenset(expression["values"])


def _addresses() -> Iterator[str]:
    """Count through 127.1.0.1 and on."""
    for number in itertools.count(1 << 16 | 1):
        yield f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
