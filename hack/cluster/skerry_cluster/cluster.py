"""Bring the whole cluster up. Every step looks first, so that `up` repairs as well."""

import calendar
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from skerry_cluster import (
    certificates,
    cgroups,
    control_plane,
    dns,
    footprint,
    netpol,
    network,
    node,
    node_config,
    packages,
    pause,
    strangers,
    sysctls,
    teardown,
    tools,
)
from skerry_cluster.api import Api
from skerry_cluster.command import ClusterError
from skerry_cluster.node import Node
from skerry_cluster.progress import say, step
from skerry_cluster.settings import MAX_NODES, SOURCES, Layout, NodeSpec, node_specs
from skerry_cluster.waiting import wait_until

Answer = TypeVar("Answer")


def present_nodes(layout: Layout) -> list[Node]:
    """List the nodes that `up` made."""
    folder = layout.root / "nodes"
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    specs = node_specs(MAX_NODES)
    return [Node(layout, spec) for spec in specs if spec.name in names]


def find_node(layout: Layout, name: str) -> Node:
    """Find a node by its name.

    Raises:
        ClusterError: if there is none of this name.
    """
    for candidate in present_nodes(layout):
        if candidate.spec.name == name:
            return candidate
    raise ClusterError(f"there is no node {name}")


def up(layout: Layout, count: int) -> None:
    """Bring up the control plane, DNS and the nodes; return when all nodes are ready."""
    if os.geteuid() != 0:
        raise ClusterError("the cluster makes namespaces and cgroups: run it as root")
    strangers.refuse(layout)
    _refuse_another(layout)
    footprint.require_own_state(layout, teardown.STATE)
    packages.install(packages.CLUSTER)
    programs = tools.ensure(layout, tools.KUBERNETES, tools.COREDNS, tools.NETPOL)
    pause_archive = pause.ensure_archive(layout)
    with step("control plane: kine, API server, controller manager, scheduler"):
        footprint.make_folders(layout.made, node_config.BINDS.values())
        footprint.expect_mount(layout.made, network.NETNS_FOLDER)
        network.ensure_bridge()
        control_plane.prepare(layout)
        sysctls.remember(layout.sysctls)
        api = control_plane.start(layout, programs)
    certificates.write_kubeconfig(layout.config / "kube-proxy.kubeconfig", layout.pki, node.PROXY)
    with step("cluster DNS"):
        dns.start(layout, programs["coredns"], api)
    specs = node_specs(max(count, len(present_nodes(layout))))
    nodes = [Node(layout, spec) for spec in specs]
    began = time.time()
    with step(f"nodes: {', '.join(spec.name for spec in specs)}"):
        restarted = in_parallel(nodes, lambda item: _start_node(item, programs, pause_archive))
        _join_networks(api, nodes)
        netpol.prepare(layout, api)
        in_parallel(nodes, lambda item: netpol.start(item, programs["netpol"]))
    with step("waiting until the nodes are ready and offer their simulated devices"):
        for item, was_restarted in zip(nodes, restarted, strict=True):
            _wait_ready(api, item, began if was_restarted else 0.0)
    control_plane.require_all(layout)
    say(f"cluster is up: export KUBECONFIG={layout.kubeconfig}")


def _refuse_another(layout: Layout) -> None:
    """Do not start beside processes of which this state folder knows nothing.

    Raises:
        ClusterError: if there are such.
    """
    if cgroups.pids() and not layout.pids.is_dir():
        raise ClusterError(
            f"a cluster runs on this machine that {layout.root} knows nothing of: there can be "
            "only one; set SKERRY_CLUSTER_DIR to its folder, or run `down` first"
        )


def in_parallel(nodes: list[Node], work: Callable[[Node], Answer]) -> list[Answer]:
    """Do the same work on every node at once."""
    with ThreadPoolExecutor(max_workers=len(nodes) or 1) as pool:
        return list(pool.map(work, nodes))


def _start_node(item: Node, programs: dict[str, Path], pause_archive: Path) -> bool:
    """Start what a node lacks; say whether its kubelet was started now."""
    item.ensure_space()
    item.start_containerd(pause_archive)
    was_down = item.find("kubelet") is None
    item.start_kubelet(programs["kubelet"])
    item.start_proxy(programs["kube-proxy"])
    start_device_plugin(item)
    return was_down


def start_device_plugin(item: Node, resource: str | None = None) -> None:
    """Start the plugin of an accelerated node, of its usual resource or another one."""
    if item.spec.resource is None:
        return
    main = str(SOURCES / "main.py")
    lost = str(item.layout.device_lost(item.spec.name))
    serve = ("device", "serve", item.spec.name, resource or item.spec.resource, lost)
    item.start_part("device-plugin", sys.executable, main, *serve)


def _join_networks(api: Api, nodes: list[Node]) -> None:
    """Give each node the pod range that the controller manager chose for it."""
    ranges: dict[NodeSpec, str] = {}
    for item in nodes:
        ranges[item.spec] = _await_range(api, item.spec.name)
        item.join_network(ranges[item.spec])
    network.route_pods(ranges)


def _await_range(api: Api, name: str) -> str:
    wait_until(f"{name} to get a pod range", lambda: bool(_range(api, name)))
    return _range(api, name)


def _range(api: Api, name: str) -> str:
    found = api.get(f"/api/v1/nodes/{name}")
    return str(found["spec"].get("podCIDR", "")) if found else ""


def _wait_ready(api: Api, item: Node, not_before: float) -> None:
    name, resource = item.spec.name, item.spec.resource
    is_lost = item.layout.device_lost(name).exists()
    expected = None if is_lost else resource

    def is_ready() -> bool:
        found = api.get(f"/api/v1/nodes/{name}")
        return found is not None and is_ready_since(found, not_before) and offers(found, expected)

    wait_until(f"{name} to be ready", is_ready, timeout_s=90)


def is_ready_since(found: dict[str, Any], not_before: float) -> bool:
    """Judge a Node object: ready, and said so at or after this moment (seconds, UTC)."""
    for condition in found["status"].get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            said = time.strptime(condition["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ")
            return calendar.timegm(said) >= int(not_before)
    return False


def offers(found: dict[str, Any], resource: str | None) -> bool:
    """Judge a Node object: has it one device of this resource to give, if any is asked?"""
    allocatable = found["status"].get("allocatable", {})
    return resource is None or allocatable.get(resource) == "1"
