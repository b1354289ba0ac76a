"""What others do to generated objects, or make to look like them, against a real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bare_api import kubectl_of
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.paths import API_VERSIONS, object_path

from .conftest import Cluster, Raw, Start, eventually

LIMIT_MIB = 384
"""The chart's limit of the operator's memory."""

LABELS = {"app.kubernetes.io/managed-by": "skerry", "skerry.dev/deployment": "digits"}


def deployed(cluster: Cluster) -> str:
    """Deploy on every node; return the name of the DaemonSet."""
    cluster.put_model()
    cluster.put_deployment()
    eventually(lambda: cluster.all("DaemonSet"), "a DaemonSet is made")
    eventually(lambda: cluster.all("Service"), "a Service is made")
    return str(cluster.all("DaemonSet")[0]["metadata"]["name"])


def reasons(cluster: Cluster) -> set[str]:
    return {event["reason"] for event in cluster.events()}


def patch(cluster: Cluster, kind: str, name: str, operations: list[Raw], manager: str) -> None:
    argv = ["patch", kind, name, "--type=json", "-p", json.dumps(operations)]
    kubectl_of(cluster.kubeconfig)(
        *argv, f"--namespace={cluster.namespace}", f"--field-manager={manager}"
    )


def pod_spec(cluster: Cluster, name: str) -> Raw:
    found = cluster.get("DaemonSet", name)
    assert found
    spec: Raw = found["spec"]["template"]["spec"]
    return spec


def test_what_others_write_into_objects_of_ours_is_put_back(cluster: Cluster, start: Start) -> None:
    start()
    name = deployed(cluster)
    before = pod_spec(cluster, name)
    kubectl = kubectl_of(cluster.kubeconfig)
    kubectl("set", "env", f"daemonset/{name}", "EVIL=1", f"--namespace={cluster.namespace}")
    eventually(lambda: pod_spec(cluster, name) == before, "the variable is taken out")
    add = [{"op": "add", "path": "/spec/template/spec/hostNetwork", "value": True}]
    patch(cluster, "daemonset", name, add, "skerry-operator")
    eventually(lambda: pod_spec(cluster, name) == before, "the host's network is taken away")
    (cell,) = (one for one in cluster.all("ConfigMap") if "assignment.json" in one.get("data", {}))
    remove = [{"op": "remove", "path": "/data/assignment.json"}]
    patch(cluster, "configmap", cell["metadata"]["name"], remove, "somebody")
    held = lambda: (cluster.get("ConfigMap", cell["metadata"]["name"]) or {}).get("data")  # noqa: E731
    eventually(lambda: held() == cell["data"], "the file is back")
    outside = [{"op": "add", "path": "/spec/externalIPs", "value": ["8.8.8.8"]}]
    patch(cluster, "service", "digits", outside, "somebody")
    eventually(
        lambda: "externalIPs" not in (cluster.get("Service", "digits") or {})["spec"],
        "the address is taken out",
    )
    eventually(lambda: "PutBack" in reasons(cluster), "people are told")
    kubectl("rollout", "restart", f"daemonset/{name}", f"--namespace={cluster.namespace}")
    eventually(lambda: "RestartIgnored" in reasons(cluster), "the restart is answered")


def test_a_copy_of_an_object_of_ours_is_left_alone_and_told(cluster: Cluster, start: Start) -> None:
    start()
    deployed(cluster)
    service = cluster.get("Service", "digits")
    assert service
    kept = ("labels", "annotations", "ownerReferences")
    metadata = {key: service["metadata"][key] for key in kept} | {"name": "my-own"}
    spec = {key: service["spec"][key] for key in ("selector", "ports")}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    kubectl_of(cluster.kubeconfig)(
        "create", "-f", "-", f"--namespace={cluster.namespace}", stdin=json.dumps(body)
    )
    eventually(lambda: "ForeignObject" in reasons(cluster), "people are told")
    assert cluster.get("Service", "my-own")


def test_forty_large_maps_with_our_labels_cost_no_memory(cluster: Cluster, start: Start) -> None:
    put_large(cluster)
    process = start()
    deployed(cluster)
    peak_mib = _peak_mib(process.popen.pid)
    assert peak_mib < LIMIT_MIB


def put_large(cluster: Cluster) -> None:
    text = json.dumps({"units": {f"{number:x}": "" for number in range(80_000)}})
    for number in range(40):
        body: dict[str, Any] = {
            "apiVersion": API_VERSIONS["ConfigMap"],
            "kind": "ConfigMap",
            "metadata": {"name": f"large-{number}", "labels": LABELS},
            "data": {"assignment.json": text[:900_000]},
        }
        client: KubeClient = cluster.client
        client.apply(
            object_path("ConfigMap", cluster.namespace, f"large-{number}"), body, "ConfigMap"
        )


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (one for one in lines if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
