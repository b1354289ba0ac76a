"""`kubectl scale`, and what an autoscaler reads, on a real API server."""

from __future__ import annotations

import json
import zlib

import pytest

from bare_api import Kubectl
from crd_objects import placement

pytestmark = pytest.mark.integration

SCALE = "/apis/skerry.dev/v1alpha1/namespaces/{}/edgedeployments/{}/scale"


@pytest.fixture
def name(kubectl: Kubectl, request: pytest.FixtureRequest) -> str:
    """Make an EdgeDeployment with one replica."""
    name = f"d{zlib.crc32(request.node.name.encode()):08x}"
    body = placement(mode="Replicas", replicas=1)
    body["metadata"]["name"] = name
    kubectl("apply", "-f", "-", stdin=json.dumps(body))
    return name


def test_kubectl_scale_changes_the_replicas(kubectl: Kubectl, name: str) -> None:
    kubectl("scale", f"ed/{name}", "--replicas=3")
    found = json.loads(kubectl("get", f"ed/{name}", "-o", "json"))
    assert found["spec"]["placement"]["replicas"] == 3


def test_an_autoscaler_reads_how_many_there_are_and_how_they_are_found(
    kubectl: Kubectl, namespace: str, name: str
) -> None:
    status = {"replicas": 1, "selector": f"skerry.dev/deployment={name}"}
    patch = json.dumps({"status": status})
    kubectl("patch", f"ed/{name}", "--subresource=status", "--type=merge", f"--patch={patch}")
    scale = json.loads(kubectl("get", "--raw", SCALE.format(namespace, name)))
    assert scale["spec"]["replicas"] == 1
    assert scale["status"] == status


def test_a_node_cannot_be_scaled(kubectl: Kubectl) -> None:
    body = placement(mode="PerNode")
    body["metadata"]["name"] = "pernode"
    kubectl("apply", "-f", "-", stdin=json.dumps(body))
    with pytest.raises(AssertionError, match="replicas belongs to mode: Replicas"):
        kubectl("scale", "ed/pernode", "--replicas=3")
