"""A fleet of simulated nodes, and what people, weather and failures do to it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import config

from bare_api import operator_kubeconfig
from fleet.audit import Audit, writes
from fleet.control_plane import FAKE, control_plane
from fleet.runtimes import SimulatedRuntimes
from fleet.simulated_pod import LABEL_HABIT, Habit
from operator_process import Process, running_operator
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.constants import LABEL_MANAGED_BY, MANAGED_BY
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.paths import API_VERSIONS, collection_path, object_path
from skerry_operator.telemetry import Telemetry

T = TypeVar("T")
Raw = dict[str, Any]
Way = Callable[[Path], AbstractContextManager[Path]]
NAMESPACE = "fleet"
SITES = ("harbour", "hill", "island")
NPU = "simulated.skerry.dev/npu"
NPU_EVERY = 4
"""Every fourth node has the simulated NPU; the others are the second cell."""
_PROFILES = f"""
- name: simulated-npu
  class: npu
  resourceNames: [{NPU}]
  providers: [CPUExecutionProvider]
  description: simulated
"""
SETTLED_S = 2.5
START_WITHIN_S = 180.0
_AT_ONCE = 16
"""Requests of the tests at one time."""
_NOBODY = "nobody"
"""Holder of the lease of a node that is off."""


@dataclass
class Fleet:
    """The fleet, and the operator that serves it."""

    client: KubeClient
    runtimes: SimulatedRuntimes
    audit: Audit
    operator: Process
    nodes: tuple[str, ...]

    # what people do

    def model(self, version: str) -> None:
        """Put a model whose behaviour is in its version: `2.0.0+fails-later` (see Habit)."""
        source = {"uri": f"https://models.example/{version}.onnx", "sha256": "a" * 64}
        variant = {"name": "fp32", "format": "ONNX", "source": source}
        self.put("EdgeModel", "digits", {"version": version, "variants": [variant]})

    def deployment(self, name: str, rollout: Raw) -> None:
        """Put an EdgeDeployment of the model on every node."""
        self.put("EdgeDeployment", name, {"modelRef": {"name": "digits"}, "rollout": rollout})

    def put(self, kind: str, name: str, spec: Raw) -> None:
        """Apply one of the user's objects."""
        body = {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": {"name": name}}
        self.client.apply(object_path(kind, NAMESPACE, name), {**body, "spec": spec}, kind)

    # what happens to nodes

    def take_to(self, habit: Habit, nodes: Iterable[str]) -> None:
        """Let nodes take to what is new as `habit` says."""
        body = {"metadata": {"labels": {LABEL_HABIT: str(habit)}}}
        self._each(nodes, lambda node: self.client.merge(f"/api/v1/nodes/{node}", body, "Node"))

    def switch_off(self, nodes: Iterable[str]) -> None:
        """Let nodes fall silent: their leases run out, and their pods do not answer."""
        off = tuple(nodes)
        self.take_to(Habit.GONE, off)
        # Held by somebody else for a day, renewed long ago: KWOK keeps its hands off it.
        spec = {"holderIdentity": _NOBODY, "leaseDurationSeconds": 86400}
        self._each(off, lambda node: self.client.merge(_lease(node), {"spec": spec}, "Lease"))

    def switch_on(self, nodes: Iterable[str]) -> None:
        """Let nodes come back."""
        on = tuple(nodes)
        self.take_to(Habit.GOOD, on)
        spec = {"holderIdentity": None, "leaseDurationSeconds": None}
        self._each(on, lambda node: self.client.merge(_lease(node), {"spec": spec}, "Lease"))

    def _each(self, nodes: Iterable[str], do: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(do, nodes))

    # what one sees

    def status(self, name: str) -> EdgeDeploymentStatus:
        """Return an EdgeDeployment's status; an outdated one counts as empty."""
        found = self.client.get(object_path("EdgeDeployment", NAMESPACE, name))
        status = EdgeDeploymentStatus.model_validate(found.get("status", {}))
        is_current = status.observed_generation == found["metadata"]["generation"]
        return status if is_current else EdgeDeploymentStatus()

    def last_to_get(self, name: str, but: Container[str]) -> str:
        """Return the node that was the last to fetch stable, of those that are not in `but`.

        The order of the units is the same in every rollout.
        """
        stable = self.status(name).stable_revision
        got = {
            swap.at: pod.unit
            for pod in self.runtimes.pods()
            for swap in pod.swaps
            if swap.to_revision == stable and swap.fetched and pod.unit not in but
        }
        return got[max(got)]

    def served(self) -> Counter[str]:
        """Count the pods by the version that they serve."""
        versions = [pod.serving.version if pod.serving else "" for pod in self.runtimes.pods()]
        return Counter(versions)

    def generated(self) -> set[str]:
        """Name every object that the operator made and still wants, but for the snapshots."""
        kinds = ("ConfigMap", "DaemonSet", "Service")
        found = [(kind, self.client.get(collection_path(kind, NAMESPACE))) for kind in kinds]
        return {
            f"{kind}/{item['metadata']['name']}"
            for kind, listed in found
            for item in listed["items"]
            if item["metadata"].get("labels", {}).get(LABEL_MANAGED_BY) == MANAGED_BY
        }

    def is_settled(self) -> bool:
        """Tell whether the operator wrote nothing for a while: effects follow their intent."""
        return not writes(self.audit.requests(time.time() - SETTLED_S))

    def story(self) -> str:
        """Return what a person would look at when something went wrong."""
        listed = self.client.get(collection_path("EdgeDeployment", NAMESPACE))["items"]
        states = [one.get("status", {}) for one in listed]
        told = [f"{one.get('phase')}: {one.get('rollout', {}).get('message')}" for one in states]
        conditions = [c["message"] for one in states for c in one.get("conditions", [])[:1]]
        return "\n".join([f"served: {self.served()}", *told, *conditions])

    def wait(self, look: Callable[[], T | None], what: str, within_s: float) -> T:
        """Return the first true answer.

        Raises:
            AssertionError: none came in time.
        """
        end = time.monotonic() + within_s
        while not (answer := look()):
            self.operator.is_ready()  # tells its log when it has ended
            if time.monotonic() > end:
                raise AssertionError(f"not within {within_s} s: {what}\n{self.story()}")
            time.sleep(0.1)
        return answer


@contextlib.contextmanager
def fleet_of(count: int, folder: Path, way: Way = contextlib.nullcontext) -> Iterator[Fleet]:
    """Start everything for a fleet of `count` nodes with the operator; end it all.

    `way` leads from the operator's kubeconfig to the one that it is really given.
    """
    audit = Audit(folder)
    profiles = folder / "profiles.yaml"
    profiles.write_text(_PROFILES)
    with contextlib.ExitStack() as parts:
        kubeconfig = parts.enter_context(control_plane(folder, audit))
        api = config.new_client_from_config(str(kubeconfig))
        client = KubeClient(api, Telemetry(), manager="git")
        parts.callback(client.close)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        client.apply(f"/api/v1/namespaces/{NAMESPACE}", body, "Namespace")
        runtimes = parts.enter_context(SimulatedRuntimes(kubeconfig))
        flags = ("--no-lease", f"--profiles={profiles}")
        own = parts.enter_context(way(operator_kubeconfig(kubeconfig)))
        operator = parts.enter_context(running_operator(own, NAMESPACE, folder, *flags))
        nodes = tuple(f"node-{index:04}" for index in range(count))
        fleet = Fleet(client, runtimes, audit, operator, nodes)
        create = partial(client.create, "/api/v1/nodes", kind="Node")
        fleet._each(nodes, lambda node: create(body=_node(node, nodes.index(node))))
        fleet.wait(
            lambda: _ready_nodes(client) == count,
            f"{count} nodes are ready",
            START_WITHIN_S + count,
        )
        fleet.wait(operator.is_ready, "the operator is ready", START_WITHIN_S)
        yield fleet


def _node(name: str, index: int) -> Raw:
    """Return a node that KWOK brings up; its pods get addresses in a /24 of 127.0.0.0/8."""
    capacity = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    capacity |= {NPU: "8"} if index % NPU_EVERY == 0 else {}
    site = SITES[index % len(SITES)]
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": site}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": dict([FAKE])},
        "spec": {"podCIDR": f"127.{100 + index // 250}.{index % 250}.0/24"},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _ready_nodes(client: KubeClient) -> int:
    nodes = client.get("/api/v1/nodes")["items"]
    conditions = [one for node in nodes for one in node["status"].get("conditions", [])]
    return sum(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _lease(node: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"
