"""What the events of a workload say reaches the condition, on a real API server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from skerry_operator.kube.paths import collection_path

from .conftest import Cluster, Raw, Start, eventually

pytestmark = pytest.mark.integration


def say(cluster: Cluster, about: Raw, reason: str, message: str) -> None:
    """Write an event as a controller of Kubernetes does."""
    metadata = about["metadata"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "metadata": {"generateName": "cause-", "namespace": cluster.namespace},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "namespace": cluster.namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": now,
    }
    cluster.client.create(collection_path("Event", cluster.namespace), body, "Event")


def test_why_no_pod_may_be_made_stands_in_the_condition_with_where_to_look(
    cluster: Cluster, start: Start
) -> None:
    cluster.put_model()
    start()
    cluster.put_deployment()
    (workload,) = eventually(lambda: cluster.all("DaemonSet"), "there is a workload")
    name = workload["metadata"]["name"]
    say(
        cluster,
        workload,
        "FailedCreate",
        f'Error creating: pods "{name}-x7k2p" is forbidden: exceeded quota: small\x1b[31m',
    )
    wanted = (
        f"FailedCreate (see `kubectl describe daemonset {name}`): the pod is forbidden: exceeded"
    )
    eventually(
        lambda: wanted in cluster.condition("digits", "Available").get("message", ""),
        "the condition says why",
    )
    message = cluster.condition("digits", "Available")["message"]
    assert message.count("exceeded quota: small") == 1
    assert "node-a, node-b, node-c: " in message
    assert message.isprintable()
