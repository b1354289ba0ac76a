"""An API server with the CRDs: the one of KUBECONFIG, else a bare one of our own."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client import CustomObjectsApi

from bare_api import Kubectl, bare_api, install_crds, kubectl_of
from skerry_operator.constants import GROUP, VERSION

Object = dict[str, Any]
Create = Callable[..., Object]
PLURALS = {"EdgeModel": "edgemodels", "EdgeDeployment": "edgedeployments"}


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


@pytest.fixture(scope="module")
def api(kubeconfig: Path) -> Iterator[CustomObjectsApi]:
    with config.new_client_from_config(str(kubeconfig)) as client:
        yield CustomObjectsApi(client)


@pytest.fixture
def create(api: CustomObjectsApi, namespace: str) -> Create:
    def do(body: Object, **options: Any) -> Object:
        # Strict: an unknown field is an error here, as it is with `kubectl apply`.
        options = {"field_validation": "Strict"} | options
        where = (GROUP, VERSION, namespace, PLURALS[body["kind"]])
        return api.create_namespaced_custom_object(*where, copy.deepcopy(body), **options)

    return do
