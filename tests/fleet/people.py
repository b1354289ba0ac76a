"""What people and kubelets write to a bare API server: their objects, and nodes that stand by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from skerry_operator.kube.paths import API_VERSIONS, object_path

Raw = dict[str, Any]
AT_ONCE = 8
"""Requests at one time: as many as the operator has workers."""
NO_NODE_TAINTS = "--disable-admission-plugins=TaintNodesByCondition"
"""For the API server, which would taint every new node until a controller, which there is not,
sees that it is ready."""
_CONTENT = {"PATCH": "application/merge-patch+json", "APPLY": "application/apply-patch+yaml"}
_NODE_INFO = (
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "osImage",
    "systemUUID",
)


class People:
    """Everybody but the operator."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def send(self, verb: str, path: str, body: Raw) -> float:
        """Send a request; return when it began, in Unix seconds. APPLY is a server-side apply."""
        headers = {"Content-Type": _CONTENT.get(verb, "application/json")}
        query = {"fieldManager": "people", "force": "true"} if verb == "APPLY" else {}
        method = "PATCH" if verb == "APPLY" else verb
        async with self._gate:
            began = time.time()
            request = self.session.request(method, path, json=body, headers=headers, params=query)
            async with request as answer:
                assert answer.status < 300, f"{verb} {path}: {await answer.text()}"
                await answer.read()
        return began

    async def put(self, kind: str, namespace: str, name: str, spec: Raw) -> float:
        """Put one of the user's objects; return when."""
        body = {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": {"name": name}}
        return await self.send("APPLY", object_path(kind, namespace, name), {**body, "spec": spec})

    async def namespace(self, name: str) -> None:
        """Make a namespace."""
        await self.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    async def nodes(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        """Make nodes, name -> labels; they are ready, and have no lease."""
        made = (_node(index, *item) for index, item in enumerate(labels.items()))
        await asyncio.gather(*(self.send("POST", "/api/v1/nodes", body) for body in made))

    async def node_status(self, node: str, status: Raw) -> None:
        """Let a node say something."""
        await self.send("PATCH", f"/api/v1/nodes/{node}/status", {"status": status})


def _node(index: int, name: str, labels: Mapping[str, str]) -> Raw:
    capacity = {"cpu": "4", "memory": f"{8 * 1024 * 1024 + index}Ki", "pods": "110"}
    known = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64"}
    return {
        "metadata": {"name": name, "labels": {**known, **labels}},
        "status": {"capacity": capacity, "allocatable": capacity, **readiness(is_ready=True)},
    }


def readiness(*, is_ready: bool) -> Raw:
    """Return the part of a node's status that says whether it is ready."""
    info = {"architecture": "amd64", "operatingSystem": "linux"}
    return {
        "conditions": [{"type": "Ready", "status": str(is_ready)}],
        "nodeInfo": {**info, **dict.fromkeys(_NODE_INFO, "played")},
    }


def model(version: str) -> Raw:
    """Return the spec of an EdgeModel; how pods take to it may be in the version (see Habit)."""
    source = {"uri": f"https://models.example/{version}.onnx", "sha256": "a" * 64}
    return {
        "version": version,
        "variants": [{"name": "fp32", "format": "ONNX", "source": source}],
    }
