"""Pods that may not be made, do not start or are out of reach: the condition says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.lab import NODES, Lab

NODE = NODES[2]
ONE_NODE = {"nodeSelector": {"kubernetes.io/hostname": NODE}}
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}
LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "large"},
    "spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}}]},
}
QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "none"},
    "spec": {"hard": {"pods": "0"}},
}
TIGHT = {"threads": 1, "resources": {"memoryRequest": "16Mi", "memoryLimit": "32Mi"}}
"""Enough to begin, and not enough to load the engines."""
MISSING = "localhost/skerry/missing:1"


@contextmanager
def deployed(lab: Lab, *objects: dict[str, Any], **spec: Any) -> Iterator[None]:
    """Deploy to one node, among other objects; clear it all away."""
    try:
        lab.apply(*objects, lab.model("v1"), lab.deployment(placement=ONE_NODE, **spec))
        yield
    finally:
        lab.delete_deployment()
        for one in objects:
            lab.kubectl("delete", one["kind"], one["metadata"]["name"], "--ignore-not-found")


def said(lab: Lab, *words: str) -> Callable[[], str]:
    """Return a look: what Available says, once all the words are in it."""

    def look() -> str:
        status, _, message = lab.condition("Available")
        is_it = status == "False" and all(word in message for word in words)
        return message if is_it else ""

    return look


@pytest.mark.parametrize(
    ("objects", "spec", "words"),
    [
        ((QUOTA,), {}, ("FailedCreate", "describe daemonset digits-", "exceeded quota: none")),
        ((LIMITS,), {}, ("FailedCreate", "minimum cpu usage per Container is 2")),
        (
            (),
            {"pods": {"priorityClassName": "nobody"}},
            ("FailedCreate", "no PriorityClass with name nobody was found"),
        ),
        (
            (),
            {"serving": {"tls": {"secretName": "gone"}}},
            ("FailedMount", "describe pod digits-", 'secret "gone" not found'),
        ),
        ((), {"runtime": {"image": MISSING}}, ("ErrImagePull", MISSING)),
        ((), {"runtime": TIGHT}, ("OOMKilled", "memoryLimit")),
        ((DENY,), {}, ("Unreachable: the pod runs", "kubectl get networkpolicy")),
    ],
    ids=["quota", "limits", "no such priority", "no such secret", "no such image",
         "too little memory", "default deny"],
)  # fmt: skip
def test_the_condition_says_why_a_model_does_not_serve_and_where_to_look(
    lab: Lab, objects: tuple[dict[str, Any], ...], spec: dict[str, Any], words: tuple[str, ...]
) -> None:
    with deployed(lab, *objects, **spec):
        message = lab.wait(said(lab, *words), f"the condition says {words}")
        print(lab.kubectl("get", "ed", "-o", "wide"), message, sep="\n")  # noqa: T201 (for docs)
        assert message.startswith("0 of 1 reachable units serve; not serving: node-c: ")
        assert message.isprintable()


def test_a_pull_secret_that_comes_later_reaches_a_pod_that_never_started(lab: Lab) -> None:
    runtime = {"image": MISSING}
    with deployed(lab, runtime=runtime):
        before = lab.only_pod()["metadata"]["uid"]
        lab.wait(said(lab, "ErrImagePull"), "the image cannot be pulled")
        pods = {"imagePullSecrets": [{"name": "registry"}], "labels": {"team": "harbour"}}
        lab.apply(lab.deployment(placement=ONE_NODE, runtime=runtime, pods=pods))

        def anew() -> dict[str, Any] | None:
            living = [pod for pod in lab.living() if pod["metadata"]["uid"] != before]
            return living[0] if living else None

        pod = lab.wait(anew, "there is another pod")
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["metadata"]["labels"]["team"] == "harbour"


def test_replicas_are_scaled_and_pods_that_run_are_not_touched(lab: Lab) -> None:
    placement = {"mode": "Replicas", "replicas": 1}
    lab.apply(lab.model("v1"), lab.deployment(placement=placement))
    lab.wait_stable(lab.index.model("v1").version)
    (first,) = lab.living()
    pods = {"labels": {"team": "harbour"}}
    lab.apply(lab.deployment(placement=placement, pods=pods))
    lab.kubectl("scale", "ed/digits", "--replicas=2")
    lab.wait(lambda: lab.get("ed")["status"].get("unitsText") == "2/2", "both serve")
    uids = {pod["metadata"]["uid"]: pod["metadata"]["labels"].get("team") for pod in lab.living()}
    assert uids.pop(first["metadata"]["uid"]) is None
    assert list(uids.values()) == ["harbour"]
    assert lab.get("ed")["status"]["selector"] == "skerry.dev/deployment=digits"
    lab.delete_deployment()
