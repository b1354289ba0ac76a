"""Installs the operator with the chart, and makes room for a fresh run."""

from __future__ import annotations

from digits_demo.cluster import CHART, Access, image_values
from digits_demo.kube import Kube
from digits_demo.manifests import CHART_VALUES, DEPLOYMENT
from digits_demo.shell import run
from digits_demo.waiting import wait_for

RELEASE = "skerry"
RELEASE_NAMESPACE = "skerry-system"
INSTALL_TIMEOUT_S = 120
NAMESPACE_TIMEOUT_S = 90


def install(access: Access, images: dict[str, str]) -> None:
    """Install or upgrade the chart and wait until the operator is ready.

    Raises:
        DemoError: Helm failed.
    """
    command = [
        access.helm,
        f"--kubeconfig={access.kubeconfig}",
        "upgrade",
        "--install",
        RELEASE,
        str(CHART),
        f"--namespace={RELEASE_NAMESPACE}",
        "--create-namespace",
        f"--values={CHART_VALUES}",
        *image_values(images),
        "--wait",
        f"--timeout={INSTALL_TIMEOUT_S}s",
    ]
    remedy = (
        f"look at `kubectl -n {RELEASE_NAMESPACE} get pods,events`; objects that were installed "
        "without Helm must be removed first"
    )
    run(command, remedy=remedy, timeout_s=INSTALL_TIMEOUT_S + 30)


def remove_namespace(kube: Kube) -> None:
    """Delete the demo's namespace and wait until it is gone.

    The pods end before: for those that it finds Kubernetes lets another 5 s pass.

    Raises:
        DemoError: it is still there at the deadline.
    """
    kube.delete_deployment(DEPLOYMENT)
    wait_for(
        lambda: None if kube.pods(DEPLOYMENT) else True,
        "the end of the demo's pods",
        timeout_s=NAMESPACE_TIMEOUT_S,
        remedy="look at `kubectl -n digits get pods -o wide`",
    )
    kube.delete_namespace()
    wait_for(
        lambda: None if kube.has_namespace() else True,
        "the removal of the demo's namespace",
        timeout_s=NAMESPACE_TIMEOUT_S,
        remedy="look at `kubectl get namespace digits -o yaml`: the conditions say what is left",
    )
