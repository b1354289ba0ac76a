"""The development cluster comes up, stays as it is, survives blows, and leaves nothing behind.

These tests take the cluster of this machine down, so they do not run beside one that is in use.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bare_api import Kubectl, kubectl_of
from cluster_command import MAIN, Done, cluster_command
from skerry_cluster import cluster, control_plane, daemons, network, sysctls
from skerry_cluster.settings import PAUSE_IMAGE, Layout

pytestmark = pytest.mark.e2e
WITHIN_S = 180.0
BUILD_WITHIN_S = 1800.0
"""The very first `up` on a machine builds Kubernetes."""
NODE_PARTS = ("holder", "containerd", "kubelet", "kube-proxy", "netpol")
OURS = ("skerry", "kubelet", "containerd", "netns")
"""Words in the path of every mount that the cluster makes."""
Pids = dict[str, int | None]


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    """A machine without a cluster, before and after."""
    if os.geteuid() != 0:
        pytest.skip("the cluster needs root")
    found = cluster_command("verify-clean")
    if found.returncode:
        pytest.skip(
            "a cluster runs on this machine, or was left there, and these tests would take it "
            f"down; `make cluster-down` makes room. It shows by: {found.stdout.splitlines()[:3]}"
        )
    try:
        yield
    finally:
        down()


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout.from_environment()


def succeed(done: Done) -> Done:
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def up() -> None:
    succeed(cluster_command("up"))


def down() -> None:
    assert succeed(cluster_command("down")).stdout == "clean\n"
    assert succeed(cluster_command("verify-clean")).stdout == "clean\n"


def pids(layout: Layout) -> Pids:
    """The processes that a cluster of three nodes has, by name; None for one that is missing."""
    names = [*control_plane.NAMES, "coredns"]
    for node in cluster.present_nodes(layout):
        parts = [*NODE_PARTS, *(["device-plugin"] if node.spec.resource else [])]
        names += [node.daemon_name(part) for part in parts]
    return {name: daemons.find(layout, name) for name in names}


def kill(layout: Layout, name: str) -> None:
    pid = daemons.find(layout, name)
    assert pid is not None, f"{name} does not run"
    os.kill(pid, signal.SIGKILL)


def eventually(look: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
    end = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < end, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.1)


def start_pod(kubectl: Kubectl, node: str) -> None:
    """Run a pod, so that there are shims, overlay mounts and a pod network to leave behind."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"idle-{node}", "namespace": "default"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "idle", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"}],
        },
    }

    def has_account() -> str:
        return kubectl("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name")

    eventually(has_account, "the namespace has its service account")
    kubectl("apply", "--filename=-", stdin=json.dumps(body))
    kubectl("wait", "--for=condition=Ready", f"pod/idle-{node}", f"--timeout={WITHIN_S:.0f}s")


def traces() -> dict[str, object]:
    """What of the machine a cluster changes."""
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    settings = (Path("/proc/sys") / name for name in sysctls._CHANGED_BY_KUBELET)
    return {
        "mounts": sorted(mount for mount in mounts if any(word in mount for word in OURS)),
        "links": network.leftover_links(),
        "namespaces": network.leftover_namespaces(),
        "routes": sorted(routes.splitlines()),
        "settings": {str(path): path.read_text() for path in settings if path.exists()},
    }


def test_a_second_up_restarts_nothing(layout: Layout) -> None:
    up()
    before = pids(layout)
    assert None not in before.values()
    assert len(before) == len(control_plane.NAMES) + 1 + 3 * len(NODE_PARTS) + 2
    up()
    assert pids(layout) == before


def test_another_state_folder_does_not_start_a_second_cluster(
    layout: Layout, tmp_path: Path
) -> None:
    up()
    before = pids(layout)
    done = cluster_command("up", SKERRY_CLUSTER_DIR=str(tmp_path / "other"))
    assert done.returncode == 1
    assert "there can be only one" in done.stderr
    assert pids(layout) == before
    up()
    assert pids(layout) == before


def test_up_brings_back_what_was_killed_and_nothing_else(layout: Layout) -> None:
    up()
    before = pids(layout)
    victims = {"node-a-kubelet", "node-b-containerd", "kine"}
    for name in victims:
        kill(layout, name)
    eventually(lambda: not any(daemons.find(layout, name) for name in victims), "they are gone")
    up()
    after = pids(layout)
    assert None not in after.values()
    changed = {name for name, pid in after.items() if pid != before[name]}
    assert victims <= changed
    # Those who live on the datastore may end with it; no node may be touched.
    assert changed <= victims | {*control_plane.NAMES, "coredns"}


def test_down_after_killing_a_holder_a_kubelet_a_containerd_and_kine_leaves_a_clean_machine(
    layout: Layout,
) -> None:
    down()
    untouched = traces()
    up()
    kubectl = kubectl_of(layout.kubeconfig)
    for node in cluster.present_nodes(layout):
        start_pod(kubectl, node.spec.name)
    for name in ("node-a-holder", "node-b-kubelet", "node-c-containerd", "kine"):
        kill(layout, name)
    down()
    assert traces() == untouched
    assert not layout.kubeconfig.exists()
    assert (layout.logs / "kine.log").stat().st_size > 0


def test_down_after_an_up_that_was_killed_half_way_leaves_a_clean_machine(layout: Layout) -> None:
    down()
    untouched = traces()
    clean = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    argv = [sys.executable, str(MAIN), "up"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(argv, env=clean, stdout=quiet, stderr=quiet) as starting:
        try:
            half_way = lambda: daemons.find(layout, "node-b-containerd")  # noqa: E731
            eventually(half_way, "a node is starting", BUILD_WITHIN_S)
        finally:
            starting.kill()
    down()
    assert traces() == untouched


def test_a_cluster_comes_up_again_after_all_that(layout: Layout) -> None:
    up()
    kubectl = kubectl_of(layout.kubeconfig)
    ready = kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={WITHIN_S:.0f}s")
    assert ready.count("condition met") == 3
    down()
    assert succeed(cluster_command("down")).stdout == "clean\n"
