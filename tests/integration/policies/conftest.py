"""A real API server with the chart on it, and people who ask it under their own names."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kubernetes import config

from bare_api import Kubectl, bare_api, kubectl_of
from binaries import find
from helm_chart import CHART
from integration.policies.asking import NAMESPACE, SYSTEM, As, Install
from skerry_operator.kube.client import KubeClient
from skerry_operator.telemetry import Telemetry


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with bare_api(tmp_path_factory.mktemp("policies")) as path:
        kubectl_of(path)("create", "namespace", NAMESPACE)
        yield path


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    return kubectl_of(kubeconfig)


@pytest.fixture(scope="session")
def install(kubeconfig: Path) -> Install:
    """Return a function that installs the chart, or upgrades it, with values."""

    def do(*values: str) -> None:
        where = (f"--kubeconfig={kubeconfig}", f"--namespace={SYSTEM}", "--create-namespace")
        command = [find("helm"), "upgrade", "--install", "skerry", str(CHART), *where]
        subprocess.run([*command, *values], check=True, capture_output=True)

    return do


@pytest.fixture(scope="session")
def acting_as(kubeconfig: Path) -> Iterator[As]:
    """Return a function: a user, and groups -> a client that asks under that name."""
    with ExitStack() as clients:

        def do(user: str, group: str = "") -> KubeClient:
            api = config.new_client_from_config(str(kubeconfig))
            api.set_default_header("Impersonate-User", user)
            if group:
                api.set_default_header("Impersonate-Group", group)
            client = KubeClient(api, Telemetry())
            clients.callback(client.close)
            return client

        yield do
