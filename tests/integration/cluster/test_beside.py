"""Beside another Kubernetes on this machine nothing is started, and nothing ended."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry_cluster import cluster, commands, teardown

pytestmark = pytest.mark.integration


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[int]:
    """A process that looks like somebody's kubelet."""
    program = tmp_path / "kubelet"
    shutil.copy(shutil.which("sleep") or "sleep", program)
    with subprocess.Popen([program, "infinity"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own; nothing can happen to the cluster of this machine."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("SKERRY_CLUSTER_DIR", str(tmp_path / "state"))

    def fail(*_: object) -> None:
        pytest.fail("went on beside the other one")

    monkeypatch.setattr(teardown, "down", fail)
    monkeypatch.setattr(cluster.packages, "install", fail)
    return tmp_path / "state"


@pytest.mark.parametrize("verb", ["up", "down"])
def test_beside_somebody_s_kubelet_the_cluster_is_left_as_it_is(
    verb: str, kubelet: int, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main([verb]) == 1
    said = capsys.readouterr().err
    assert "another Kubernetes runs on this machine" in said
    assert f"kubelet (process {kubelet})" in said
    assert "KUBECONFIG" in said
    assert not state.exists()
