"""An API server with the CRDs: the one of KUBECONFIG, else a bare one of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bare_api import Kubectl, bare_api, install_crds, kubectl_of


@pytest.fixture(scope="module")
def own_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the kubeconfig of a bare API server, for tests that no shared cluster should see.

    Per module: one installs the definitions and another removes them.
    """
    with bare_api(tmp_path_factory.mktemp("api")) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """Return the kubeconfig of a cluster with our CRDs."""
    given = os.environ.get("KUBECONFIG")
    path = Path(given) if given else request.getfixturevalue("own_api")
    install_crds(path)
    return path


@pytest.fixture(scope="module")
def namespace(kubeconfig: Path) -> Iterator[str]:
    """Yield a namespace of our own."""
    name = f"crds-{os.getpid()}"
    kubectl = kubectl_of(kubeconfig)
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, namespace: str) -> Kubectl:
    """Return kubectl in our own namespace."""
    run = kubectl_of(kubeconfig)

    def inside(*arguments: str, stdin: str = "") -> str:
        return run(f"--namespace={namespace}", *arguments, stdin=stdin)

    return inside
