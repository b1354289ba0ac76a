"""The real thing: three nodes, the operator from its chart, models from a real HTTP server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from digits_demo import cluster, train
from digits_demo.artifacts import Index
from digits_demo.cluster import Access
from digits_demo.manifests import CHART_VALUES
from digits_demo.model_server import ModelServer
from e2e.lab import LABEL, NODES, WITHIN_S, Lab
from ports import free_port

RELEASE, SYSTEM = "skerry", "skerry-system"
HOME = f"--set-string=nodeSelector.kubernetes\\.io/hostname={NODES[1]}"
"""Where the operator lives: on a node that no test reboots, deletes or cuts from the API server.
Which one it were otherwise is the scheduler's choice, and the tests would test something else."""
HELM_WAITS = ("--wait", f"--timeout={WITHIN_S:.0f}s")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    is_long = os.environ.get("SKERRY_E2E") == "all"
    for item in items:
        if "e2e" in Path(item.path).parts:
            item.add_marker(pytest.mark.e2e)
        if item.get_closest_marker("long") and not is_long:
            item.add_marker(pytest.mark.skip(reason="the long form: SKERRY_E2E=all"))


@pytest.fixture(scope="session")
def access(running_cluster: None) -> Iterator[Access]:
    """How the cluster is reached; at the end no namespace of the tests is left there."""
    access = cluster.access()
    yield access
    kubectl = [access.kubectl, f"--kubeconfig={access.kubeconfig}"]
    ours = ["namespace", "-l", LABEL]
    subprocess.run([*kubectl, "delete", *ours, "--wait=false"], check=False)  # some go already
    gone = ["wait", "--for=delete", *ours, f"--timeout={WITHIN_S:.0f}s"]
    subprocess.run([*kubectl, *gone], check=True)


@pytest.fixture(scope="session")
def images(access: Access) -> dict[str, str]:
    return cluster.build_images()


@pytest.fixture(scope="session")
def helm(access: Access) -> list[str]:
    return [access.helm, f"--kubeconfig={access.kubeconfig}", "--namespace", SYSTEM]


@pytest.fixture(scope="session")
def operator(access: Access, images: dict[str, str], helm: list[str]) -> Iterator[str]:
    """Install the operator as a user does; returns its namespace."""
    command = [*helm, "upgrade", "--install", RELEASE, str(cluster.CHART), "--create-namespace"]
    values = ["--values", str(CHART_VALUES), *cluster.image_values(images)]
    kubectl = [access.kubectl, f"--kubeconfig={access.kubeconfig}", f"--namespace={SYSTEM}"]
    try:
        subprocess.run([*command, *values, HOME, *HELM_WAITS], check=True)
        subprocess.run([*kubectl, "label", "namespace", SYSTEM, f"{LABEL}=e2e"], check=True)
        yield SYSTEM
    finally:
        subprocess.run([*helm, "uninstall", RELEASE, "--ignore-not-found", "--wait"], check=False)
        subprocess.run([*kubectl, "wait", "--for=delete", "pod", "--all"], check=False)
        crds = ["edgemodels.skerry.dev", "edgedeployments.skerry.dev"]
        subprocess.run([*kubectl, "delete", "crd", *crds, "--ignore-not-found"], check=False)


@pytest.fixture(scope="module")
def settings_come_back(operator: str, helm: list[str]) -> Iterator[None]:
    """Let a module change the release's values; the others find them as they were."""
    del operator
    history = [*helm, "history", RELEASE, "--max=1", "-o", "json"]
    told = subprocess.run(history, check=True, text=True, capture_output=True).stdout
    revision = str(json.loads(told)[0]["revision"])
    try:
        yield
    finally:
        subprocess.run([*helm, "rollback", RELEASE, revision, *HELM_WAITS], check=True)


@pytest.fixture(scope="session")
def trained() -> tuple[Path, Index]:
    return train.ensure()


@pytest.fixture(scope="session")
def files(trained: tuple[Path, Index], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own that the model server serves: good models, and room for bad ones."""
    folder = tmp_path_factory.mktemp("models")
    for file in trained[0].iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)
    return folder


@pytest.fixture(scope="session")
def server(access: Access, files: Path) -> Iterator[ModelServer]:
    host, log = access.host_address, files.parent / "model-server.log"
    with ModelServer(files, host, log, free_port(host)) as running:
        yield running


@pytest.fixture(scope="module")
def lab(
    request: pytest.FixtureRequest,
    access: Access,
    operator: str,
    server: ModelServer,
    trained: tuple[Path, Index],
) -> Iterator[Lab]:
    """A namespace of its own for the tests of one module."""
    name = request.module.__name__.rsplit(".", 1)[-1].removeprefix("test_").replace("_", "-")
    lab = Lab(access, f"e2e-{name}", server, trained[1])
    lab.create_namespace()
    try:
        yield lab
    finally:
        if request.session.testsfailed:
            sys.stderr.write(lab.story())
        lab.leave_namespace()


@pytest.fixture(scope="session")
def cluster_command() -> list[str]:
    return [sys.executable, str(cluster.CLUSTER)]
