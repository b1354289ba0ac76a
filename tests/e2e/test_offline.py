"""Nodes out of reach: before a rollout, in the middle of their swap, and after a reboot.

A pod that wants a device keeps its disk over a reboot only if the device's plugin has registered
before the kubelet admits the pod anew. Which of the two comes first is settled here, not by luck.
"""

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
from skerry_cluster.device_api import HEALTHY
from skerry_cluster.settings import Layout
from skerry_runtime.contract import SwapPhase

WITH_DEVICE, _, WITHOUT_DEVICE = NODES


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
def away(
    cluster_command: list[str], node: str, go: str, come_back: str, what: str = "node"
) -> Iterator[None]:
    """Do one thing to a node (or to its device), and the other at the end."""
    subprocess.run([*cluster_command, what, go, node], check=True)
    try:
        yield
    finally:
        subprocess.run([*cluster_command, what, come_back, node], check=True)


@contextmanager
def outside_down(lab: Lab) -> Iterator[None]:
    """The models come from outside, and nothing from outside is there."""
    lab.server.stop()
    try:
        yield
    finally:
        lab.server.start()


def reboot(cluster_command: list[str], node: str) -> None:
    subprocess.run([*cluster_command, "node", "reboot", node], check=True)


def offers(node: str) -> int:
    """Count how often a kubelet has taken the node's device from its plugin."""
    log = Layout.from_environment().logs / f"{node}-device-plugin.log"
    return log.read_text().count(f": {HEALTHY}\n")


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


def wait_restarted(lab: Lab, before: PodView) -> None:
    """Wait until the containers of a pod were started again: of the same pod."""

    def restarted() -> bool:
        now = lab.pods().get(before.node)
        return now is not None and now.uid == before.uid and now.restarts > before.restarts

    lab.wait(restarted, f"{before.name} was started again")


def wait_replaced(lab: Lab, before: PodView) -> PodView:
    """Wait until another pod has the place of this one; return it."""

    def look() -> PodView | None:
        now = lab.pods().get(before.node)
        return now if now and now.ip and now.uid != before.uid else None

    return lab.wait(look, f"{before.name} was replaced")


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
        lab.wait_serves(node, new)  # its own network is up: the swap goes on where it was
    lab.wait(lambda: lab.status().units.offline == 0, "the node is back")
    assert set(lab.versions().values()) == {new}
    assert uids(lab.pods()) == uids(pods)


def test_a_node_that_missed_two_rollouts_takes_what_is_current_when_it_returns(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    node, old = NODES[2], lab.index.model("v1").version
    stable = lab.status().stable_revision
    with away(cluster_command, node, "stop-kubelet", "start-kubelet"):
        lab.wait(lambda: lab.status().units.offline == 1, "the node is offline")
        for missed in ("2.0.0-missed", "2.0.0-current"):
            lab.apply(lab.model("v2", version=missed))
            lab.wait_stable(missed)
        assert lab.versions()[node] == old
        started = lab.status().rollout.started_at
    report = lab.wait_serves(node, "2.0.0-current")
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
            lab.wait_serves(node, first)
            lab.apply(lab.model("v2", version=second))
            lab.wait_stable(second)
            assert lab.versions()[node] == first
        lab.wait_serves(node, second)
    finally:
        traffic.stop()
    assert lab.pods() == pods
    counts = traffic.tally.of(node)
    assert counts.requests > 50
    assert counts.failed == 0


def test_a_node_that_reboots_while_the_outside_is_down_serves_from_its_disk(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    node, version = WITHOUT_DEVICE, lab.index.model("v1").version
    with outside_down(lab):
        reboot(cluster_command, node)
        wait_restarted(lab, pods[node])
        report = lab.wait_serves(node, version)
    assert report.last_swap is not None
    assert not report.last_swap.fetched
    assert uids(lab.pods()) == uids(pods)


def test_so_does_one_whose_device_plugin_is_there_before_the_kubelet_admits_the_pod(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    node, version = WITH_DEVICE, lab.index.model("v1").version
    before = offers(node)
    with outside_down(lab):
        with away(cluster_command, node, "cut", "heal"):  # the kubelet hears of no pod meanwhile
            reboot(cluster_command, node)
            lab.wait(lambda: offers(node) > before, "the kubelet has its device")
        wait_restarted(lab, pods[node])
        report = lab.wait_serves(node, version)
    assert report.last_swap is not None
    assert not report.last_swap.fetched
    assert uids(lab.pods()) == uids(pods)


def test_a_pod_that_is_admitted_before_its_device_plugin_is_replaced_and_fetches_again(
    lab: Lab, cluster_command: list[str], pods: dict[str, PodView]
) -> None:
    node, version = WITH_DEVICE, lab.index.model("v1").version
    stable, others = lab.status().stable_revision, {*NODES} - {WITH_DEVICE}
    with outside_down(lab):
        with away(cluster_command, node, "stop-plugin", "start-plugin", what="device"):
            reboot(cluster_command, node)
            is_refused = lambda: node not in lab.pods() or uids(lab.pods()) != uids(pods)  # noqa: E731
            lab.wait(is_refused, "the kubelet refuses the pod")
        wait_replaced(lab, pods[node])
        told = lambda: f"{node}: Fetching" in lab.condition("Ready")[2]  # noqa: E731
        lab.wait(told, "the condition says what the node waits for")
        for kind in ("Ready", "Available"):
            assert lab.condition(kind)[:2] == ("False", "NotServing")
        assert lab.status().phase == "Degraded"
        assert {lab.versions()[other] for other in others} == {version}
    report = lab.wait_serves(node, version)
    assert report.last_swap is not None
    assert report.last_swap.fetched
    lab.wait_stable(version)
    assert lab.status().stable_revision == stable  # no rollout was needed
