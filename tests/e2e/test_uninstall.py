"""What an uninstall leaves on a real cluster, whose garbage collector runs."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from digits_demo import cluster
from digits_demo.cluster import Access
from e2e.conftest import HELM_WAITS
from e2e.lab import LABEL, WITHIN_S
from skerry_cluster import handover
from skerry_cluster.waiting import wait_until

NAMESPACE = "e2e-uninstall"
RELEASE = "skerry-tide"
KINDS = "all,leases,configmaps,serviceaccounts,roles,rolebindings,networkpolicies"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
LEASE, TURNS = f"lease.coordination.k8s.io/{RELEASE}", "leaseTransitions"
Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(access: Access) -> Iterator[Kubectl]:
    """Kubectl in a namespace of the test's own."""
    base = [access.kubectl, f"--kubeconfig={access.kubeconfig}", f"--namespace={NAMESPACE}"]

    def run(*words: str) -> str:
        return subprocess.run([*base, *words], check=True, text=True, capture_output=True).stdout

    run("create", "namespace", NAMESPACE)
    run("label", "namespace", NAMESPACE, f"{LABEL}=e2e", RESTRICTED)
    yield run
    run("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def release(access: Access) -> Iterator[Callable[..., None]]:
    base = [access.helm, f"--kubeconfig={access.kubeconfig}", f"--namespace={NAMESPACE}"]

    def run(*words: str) -> None:
        subprocess.run([*base, *words], check=True)

    yield run
    run("uninstall", RELEASE, "--ignore-not-found")


def printed(images: dict[str, str]) -> list[str]:
    """Return the settings that `make images` prints: where no registry is, tags alone."""
    words = shlex.split(handover.helm_command(images))
    return words[words.index("--set-string") :]


def lease(kubectl: Kubectl) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "lease", RELEASE, "-o", "json"))
    return found


def turns(kubectl: Kubectl) -> int:
    return int(lease(kubectl)["spec"][TURNS])


def names(kubectl: Kubectl) -> set[str]:
    """Return what is in the namespace, without what Kubernetes itself puts into every one."""
    found = set(kubectl("get", KINDS, "-o", "name").split())
    return found - {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def test_an_upgrade_keeps_the_lease_and_an_uninstall_leaves_nothing(
    kubectl: Kubectl, release: Callable[..., None], operator: str, images: dict[str, str]
) -> None:
    del operator  # it installed the definitions
    # an operator for this namespace alone, beside the one of the other tests
    few = [
        f"--set=watchNamespaces={{{NAMESPACE}}}",
        "--set=crds.enabled=false,rbac.aggregate=false",
    ]
    chart = [RELEASE, str(cluster.CHART), *printed(images), *few, *HELM_WAITS]
    release("install", *chart)
    wait_until("the Lease is there", lambda: LEASE in names(kubectl), timeout_s=WITHIN_S)
    before = lease(kubectl)
    release("upgrade", *chart, "--set=logging.level=debug")
    wait_until(
        "the next one holds it", lambda: turns(kubectl) > before["spec"][TURNS], timeout_s=WITHIN_S
    )
    assert lease(kubectl)["metadata"]["uid"] == before["metadata"]["uid"]
    release("uninstall", RELEASE)
    wait_until("all is gone", lambda: not names(kubectl), timeout_s=WITHIN_S)
