"""The operator as a process asks the Prometheus of its settings; the server is simulated."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from bare_api import kubectl_of
from skerry_operator.constants import LABEL_CELL, LABEL_DEPLOYMENT, LABEL_MANAGED_BY, MANAGED_BY

from .conftest import Cluster, Start, eventually

pytestmark = pytest.mark.integration

QUERY = 'min(ovens_ok{node=~"{{units}}",revision="{{revision}}"})'


class SimulatedPrometheus(ThreadingHTTPServer):
    """Answers every query with one series, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: SimulatedPrometheus

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        self.server.asked.append(form["query"][0])
        series = {"metric": {}, "value": [1700000000, "1"]}
        data = {"resultType": "vector", "result": [series]}
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200 if self.path == "/api/v1/query" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def prometheus() -> Iterator[SimulatedPrometheus]:
    with SimulatedPrometheus() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def put_pod(cluster: Cluster, cell: str) -> None:
    """Make the pod that a DaemonSet would make: nobody runs controllers here."""
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_DEPLOYMENT: "digits", LABEL_CELL: cell}
    (maker,) = cluster.all("DaemonSet")
    owner = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "name": maker["metadata"]["name"],
        "uid": maker["metadata"]["uid"],
        "controller": True,
    }
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "digits-1", "labels": labels, "ownerReferences": [owner]},
        "spec": {
            "nodeName": "node-a",
            "automountServiceAccountToken": False,
            "containers": [{"name": "runtime", "image": "skerry/runtime:test"}],
        },
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [account, pod]})
    where = f"--namespace={cluster.namespace}"
    kubectl_of(cluster.kubeconfig)("apply", "--server-side", "-f", "-", where, stdin=text)


def test_a_rollout_asks_the_prometheus_of_the_settings_about_its_own_units(
    cluster: Cluster, start: Start, prometheus: SimulatedPrometheus
) -> None:
    process = start("--no-lease", f"--prometheus-url=http://127.0.0.1:{prometheus.server_port}")
    metric = {"name": "ovens-ok", "min": "1", "prometheus": {"query": QUERY}}
    cluster.put_model()
    cluster.put_deployment(rollout={"analysis": {"interval": "1s", "metrics": [metric]}})
    config = eventually(
        lambda: [name for name in cluster.generated() if name.startswith("ConfigMap/")],
        "there is an assignment",
    )
    eventually(lambda: cluster.all("DaemonSet"), "there is what makes pods")
    put_pod(cluster, config[0].removeprefix("ConfigMap/"))
    eventually(lambda: len(prometheus.asked) >= 2, "it was asked, and asked again")
    status = (cluster.get("EdgeDeployment", "digits") or {})["status"]
    revision = status["targetRevision"]
    assert set(prometheus.asked) == {f'min(ovens_ok{{node=~"node-a",revision="{revision}"}})'}
    assert process.metrics()['skerry_prometheus_queries_total{result="read"}'] >= 2
