"""Nodes out of reach: before a rollout, in the middle of their swap, and after a reboot."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from digits_demo.cluster import Access
from digits_demo.traffic import Traffic
from e2e.gated_server import GatedServer
from e2e.lab import NODES, Lab, PodView
from skerry_runtime.contract import SwapPhase

RETURNS_WITHIN_S = 90.0
"""Longest time until a node that was silent is heard again; nothing is measured here."""


@pytest.fixture(scope="module")
def gate(access: Access, files: Path) -> Iterator[GatedServer]:
    with GatedServer(files, access.host_address) as running:
        yield running


@pytest.fixture
def pods(lab: Lab) -> dict[str, PodView]:
    """V1 is stable everywhere before each test."""
    lab.start_stable()
    return lab.pods()


@contextmanager
def away(cluster_command: list[str], node: str, go: str, come_back: str) -> Iterator[None]:
    """Do one thing to a node, and the other at the end."""
    subprocess.run([*cluster_command, "node", go, node], check=True)
    try:
        yield
    finally:
        subprocess.run([*cluster_command, "node", come_back, node], check=True)


def gated(lab: Lab, gate: GatedServer, files: Path, version: str) -> dict[str, Any]:
    """Return an EdgeModel whose file comes through the gate: one that no node has on its disk."""
    # the last producer_version (field 3, text) of an ONNX file counts
    mark = b"\x1a" + bytes([len(version)]) + version.encode()
    content = (files / lab.index.model("v2").file.name).read_bytes() + mark
    (files / f"{version}.onnx").write_bytes(content)
    source = {
        "uri": f"{gate.url}/{version}.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return lab.model("v2", version=version, source=source)


def wait_in_swap(lab: Lab, node: str) -> None:
    """Wait until a node has begun to fetch."""

    def fetches() -> bool:
        report = lab.report(node)
        progress = report.progress if report else None
        return progress is not None and progress.phase is SwapPhase.FETCHING

    lab.wait(fetches, f"{node} fetches")


def wait_serves(lab: Lab, node: str, version: str) -> None:
    is_it = lambda: lab.versions().get(node) == version  # noqa: E731
    lab.wait(is_it, f"{node} serves {version}", RETURNS_WITHIN_S)


def came_back(lab: Lab, before: PodView) -> bool:
    """Say whether a pod was started since: the same again, or a new one.

    A kubelet that comes up before its device plugin ends a pod that wants a device
    (UnexpectedAdmissionError); its DaemonSet makes another.
    """
    now = lab.pods().get(before.node)
    return now is not None and (now.uid != before.uid or now.restarts > before.restarts)


def uids(pods: dict[str, PodView]) -> dict[str, str]:
    return {node: pod.uid for node, pod in pods.items()}


def test_a_node_that_falls_silent_in_its_swap_neither_blocks_nor_fails_the_rollout(
    lab: Lab,
    cluster_command: list[str],
    gate: GatedServer,
    pods: dict[str, PodView],
    files: Path,
) -> None:
    node, new = NODES[1], "2.0.0-silent"
    gate.hold(pods[node].ip)
    lab.apply(gated(lab, gate, files, new))
    wait_in_swap(lab, node)
    with away(cluster_command, node, "stop-kubelet", "start-kubelet"):
        status = lab.wait_stable(new)
        assert status.units.offline == 1
        assert status.failed_revisions == ()
        assert lab.versions()[node] == lab.index.model("v1").version
        gate.let_go()
        wait_serves(lab, node, new)  # its own network is up: the swap goes on where it was
    lab.wait(lambda: lab.status().units.offline == 0, "the node is back", RETURNS_WITHIN_S)
    assert set(lab.versions().values()) == {new}
    assert uids(lab.pods()) == uids(pods)


def test_a_node_that_missed_two_rollouts_takes_what_is_current_when_it_returns(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    node, old = NODES[2], lab.index.model("v1").version
    stable = lab.status().stable_revision
    with away(cluster_command, node, "stop-kubelet", "start-kubelet"):
        lab.wait(lambda: lab.status().units.offline == 1, "the node is offline", RETURNS_WITHIN_S)
        for missed in ("2.0.0-missed", "2.0.0-current"):
            lab.apply(lab.model("v2", version=missed))
            lab.wait_stable(missed)
        assert lab.versions()[node] == old
        started = lab.status().rollout.started_at
    wait_serves(lab, node, "2.0.0-current")
    report = lab.report(node)
    assert report is not None
    assert report.last_swap is not None
    assert report.last_swap.from_revision == stable  # it passed over what it missed
    assert lab.status().rollout.started_at == started  # its return starts no rollout
    assert uids(lab.pods()) == uids(pods)


def test_a_node_that_is_cut_off_from_the_api_server_in_its_swap_serves_on_and_converges(
    lab: Lab,
    cluster_command: list[str],
    gate: GatedServer,
    pods: dict[str, PodView],
    files: Path,
    tmp_path: Path,
) -> None:
    node, first, second = NODES[2], "2.0.0-cut", "2.0.1-cut"
    gate.hold(pods[node].ip)
    traffic = Traffic(files / lab.index.clients.name, "digits", tmp_path / "traffic.log", rate=5)
    try:
        traffic.add(node, f"{pods[node].ip}:8080")
        lab.apply(gated(lab, gate, files, first))
        wait_in_swap(lab, node)
        with away(cluster_command, node, "cut", "heal"):
            gate.let_go()
            lab.wait_stable(first)
            assert lab.versions()[node] == first
            lab.apply(lab.model("v2", version=second))
            lab.wait_stable(second)
            assert lab.versions()[node] == first
        wait_serves(lab, node, second)
    finally:
        traffic.stop()
    assert lab.pods() == pods
    counts = traffic.tally.of(node)
    assert counts.requests > 50
    assert counts.failed == 0


def test_a_node_that_reboots_while_the_outside_is_down_serves_from_its_disk(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    node, version = NODES[0], lab.index.model("v1").version
    before = pods[node]
    lab.server.stop()
    try:
        subprocess.run([*cluster_command, "node", "reboot", node], check=True)
        lab.wait(lambda: came_back(lab, before), "the pod runs again", RETURNS_WITHIN_S)
        wait_serves(lab, node, version)
    finally:
        lab.server.start()
    report = lab.report(node)
    assert report is not None
    assert report.last_swap is not None
    assert not report.last_swap.fetched
