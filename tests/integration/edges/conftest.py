"""A real API server of our own with three nodes that nobody runs, and the operator as a process."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import config

from bare_api import bare_api, install_crds, kubectl_of
from operator_process import WITHIN_S, Process, running_operator
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.errors import NotFound
from skerry_operator.kube.paths import API_VERSIONS, collection_path, object_path
from skerry_operator.telemetry import Telemetry

Raw = dict[str, Any]
GENERATED = ("ConfigMap", "DaemonSet", "Service", "ControllerRevision")
OURS = ("EdgeDeployment", "EdgeModel")
NODES = {
    "node-a": {"skerry.dev/site": "harbour"},
    "node-b": {"skerry.dev/site": "harbour"},
    "node-c": {"skerry.dev/site": "hill"},
}


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Return the first true value of `look`."""
    end = time.monotonic() + WITHIN_S
    while not (value := look()):
        assert time.monotonic() < end, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.05)
    return value


@dataclass
class Cluster:
    """The API server, seen from one namespace."""

    kubeconfig: Path
    client: KubeClient
    namespace: str

    def put(self, kind: str, name: str, **body: Any) -> Raw:
        """Apply an object of the user's."""
        whole = {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": {"name": name}, **body}
        path = object_path(kind, self.namespace, name)
        text = json.dumps(whole)
        argv = ["apply", "--server-side", "--force-conflicts", "-f", "-"]
        kubectl_of(self.kubeconfig)(*argv, f"--namespace={self.namespace}", stdin=text)
        return self.client.get(path)

    def get(self, kind: str, name: str) -> Raw | None:
        try:
            return self.client.get(object_path(kind, self.namespace, name))
        except NotFound:
            return None

    def all(self, kind: str) -> list[Raw]:
        items: list[Raw] = self.client.get(collection_path(kind, self.namespace))["items"]
        return items

    def generated(self) -> dict[str, Raw]:
        """Every object that the operator made, as `Kind/name`."""
        return {
            f"{kind}/{raw['metadata']['name']}": raw
            for kind in GENERATED
            for raw in self.all(kind)
            if raw["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "skerry"
        }

    def versions(self) -> dict[str, str]:
        """resourceVersion of everything in the namespace that the operator could write."""
        kinds = (*GENERATED, *OURS)
        found = [(kind, raw) for kind in kinds for raw in self.all(kind)]
        found += [("Event", raw) for raw in self.events()]
        return {
            f"{kind}/{raw['metadata']['name']}": raw["metadata"]["resourceVersion"]
            for kind, raw in found
        }

    def events(self) -> list[Raw]:
        """Events of our kinds; the API server itself may say something about a Service."""
        return [e for e in self.all("Event") if e["involvedObject"]["kind"] in OURS]

    def condition(
        self, name: str, kind: str = "Ready", of: str = "EdgeDeployment"
    ) -> Mapping[str, Any]:
        """A condition of one of our objects; empty when it is not there."""
        status = (self.get(of, name) or {}).get("status", {})
        found = [c for c in status.get("conditions", []) if c["type"] == kind]
        return found[0] if found else {}

    def ready_reason(self, name: str) -> str:
        return str(self.condition(name).get("reason", ""))

    def put_model(self, name: str = "digits", **spec: Any) -> Raw:
        source = {"uri": "https://models.example/a.onnx", "sha256": "a" * 64}
        variant = {"name": "fp32", "format": "ONNX", "source": source}
        return self.put("EdgeModel", name, spec={"version": "1.0.0", "variants": [variant], **spec})

    def put_deployment(self, name: str = "digits", **spec: Any) -> Raw:
        return self.put("EdgeDeployment", name, spec={"modelRef": {"name": "digits"}, **spec})


Start = Callable[..., Process]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield an API server of our own: an operator elsewhere would write the same objects."""
    with bare_api(tmp_path_factory.mktemp("api")) as path:
        install_crds(path)
        yield path


@pytest.fixture(scope="module")
def client(kubeconfig: Path) -> Iterator[KubeClient]:
    api = config.new_client_from_config(str(kubeconfig))
    client = KubeClient(api, Telemetry())
    for name, labels in NODES.items():
        put_node(client, name, labels)
    yield client
    client.close()


def put_node(client: KubeClient, name: str, labels: Mapping[str, str]) -> None:
    """Create a node that looks as if its kubelet reported."""
    path = f"/api/v1/nodes/{name}"
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}
    client.apply(path, {"apiVersion": "v1", "kind": "Node", "metadata": metadata}, "Node")
    status = {
        "nodeInfo": {"architecture": "amd64"},
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    client.merge(f"{path}/status", {"status": status}, "Node")


@pytest.fixture
def cluster(
    kubeconfig: Path, client: KubeClient, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """Yield a namespace of the test's own."""
    name = f"edges-{zlib.crc32(request.node.name.encode()):08x}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    client.apply(f"/api/v1/namespaces/{name}", body, "Namespace")
    yield Cluster(kubeconfig, client, name)
    kinds = ",".join(("EdgeDeployment", "EdgeModel", *GENERATED))
    kubectl_of(kubeconfig)("delete", kinds, "--all", f"--namespace={name}", "--wait=false")


@pytest.fixture
def start(cluster: Cluster, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts an operator; all are ended with the test."""
    with ExitStack() as processes:

        def run(*flags: str) -> Process:
            wanted = flags or ("--no-lease",)
            running = running_operator(cluster.kubeconfig, cluster.namespace, tmp_path, *wanted)
            process = processes.enter_context(running)
            eventually(process.is_ready, "the operator is ready")
            return process

        yield run
