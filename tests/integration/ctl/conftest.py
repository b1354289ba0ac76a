"""A bare API server with the CRDs and no operator: the tests write the status themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bare_api import Kubectl, bare_api, install_crds, kubectl_of
from skerry_operator.ctl.cli import main

Object = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What the program printed, and its exit status."""

    code: int
    out: str
    err: str


Skerry = Callable[..., Said]


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with bare_api(tmp_path_factory.mktemp("ctl")) as path:
        install_crds(path)
        yield path


@pytest.fixture
def namespace(kubeconfig: Path) -> str:
    """Make a namespace of this test's own the one of the kubeconfig; return it."""
    name, run = f"edge-{uuid4().hex[:8]}", kubectl_of(kubeconfig)
    run("create", "namespace", name)
    run("config", "set-context", "--current", f"--namespace={name}")
    return name


@pytest.fixture
def kubectl(kubeconfig: Path, namespace: str) -> Iterator[Kubectl]:
    """Return kubectl in that namespace; nodes belong to none, and go at the end."""
    run = kubectl_of(kubeconfig)
    yield run
    run("delete", "nodes", "--all", "--wait=false")


@pytest.fixture
def skerry(kubectl: Kubectl, kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> Skerry:
    """Return the command line, in process, on that server."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = main([f"--kubeconfig={kubeconfig}", *arguments])
        said = capsys.readouterr()
        return Said(int(code), said.out, said.err)

    return run


@pytest.fixture
def put(kubectl: Kubectl) -> Callable[[Object], None]:
    """Apply an object, and its status where it has one."""

    def do(body: Object) -> None:
        text = json.dumps(body)
        kubectl("apply", "--server-side", "-f", "-", stdin=text)
        if "status" in body:
            kubectl("apply", "--server-side", "--subresource=status", "-f", "-", stdin=text)

    return do
