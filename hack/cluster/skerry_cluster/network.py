"""Bridge, network namespaces and routes: everything `ip` sets up on the host."""

from pathlib import Path
from typing import Any

from skerry_cluster.command import run, succeeds
from skerry_cluster.settings import (
    API_PORT,
    BRIDGE,
    DNS_SERVICE_IP,
    HOST_IP,
    NETNS_PREFIX,
    NETWORK_NAME,
    NODE_NETWORK_BITS,
    SERVICE_CIDR,
    VETH_PREFIX,
    NodeSpec,
    mac_of,
)

_FORWARDING = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)
NETNS_FOLDER = Path("/run/netns")
POD_BRIDGE = "cni0"
"""Bridge of a node's pods, inside the node."""
_CUT = "skerry-cut"
"""nftables table that a node has while it cannot reach the API server."""
_LINKS = Path("/sys/class/net")


def ensure_bridge() -> None:
    """Make the bridge that joins the host and all nodes."""
    if not succeeds("ip", "link", "show", BRIDGE):
        # Without a fixed address the bridge takes another one whenever a node comes or goes.
        run("ip", "link", "add", BRIDGE, "address", mac_of(HOST_IP), "type", "bridge")
    run("ip", "addr", "replace", f"{HOST_IP}/{NODE_NETWORK_BITS}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def ensure_cable(node: NodeSpec) -> None:
    """Make a node's network namespace and its cable to the bridge."""
    if not (NETNS_FOLDER / node.netns).exists():
        run("ip", "netns", "add", node.netns)
    if not succeeds("ip", "link", "show", node.veth):
        peer = ("peer", "name", "eth0", "address", node.mac, "netns", node.netns)
        run("ip", "link", "add", node.veth, "type", "veth", *peer)
    run("ip", "link", "set", node.veth, "master", BRIDGE, "up")
    inside = ("ip", "-n", node.netns)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "addr", "replace", f"{node.ip}/{NODE_NETWORK_BITS}", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "route", "replace", "default", "via", HOST_IP)
    heal(node)
    in_netns = _in_netns(node)
    for setting in _FORWARDING:
        run(*in_netns, "sysctl", "-q", "-w", setting)
    # A reply between two pods of one node must pass the service rules again. The setting is
    # absent where the kernel has no br_netfilter; it can only be loaded, not built in.
    succeeds("modprobe", "br_netfilter")
    succeeds(*in_netns, "sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=1")


def route_pods(nodes: dict[NodeSpec, str]) -> None:
    """Lead every pod range to its node, from the host and from the other nodes."""
    for node, pod_cidr in nodes.items():
        run("ip", "route", "replace", pod_cidr, "via", node.ip)
        for other in nodes:
            if other != node:
                run("ip", "-n", other.netns, "route", "replace", pod_cidr, "via", node.ip)
    # kube-proxy on any node translates service addresses for the host as well.
    run("ip", "route", "replace", SERVICE_CIDR, "via", next(iter(nodes)).ip)


def cut_ruleset() -> str:
    """Render the table that drops what the node itself sends to the API server.

    Pods do not speak to the API server; their traffic is forwarded, and passes.
    """
    rule = f"ip daddr {HOST_IP} tcp dport {API_PORT} drop"
    chain = f"chain out {{ type filter hook output priority 0; {rule}; }}"
    return f"table inet {_CUT} {{ {chain}; }}\n"  # nft 1.0 wants the last semicolon


def cut_from_api(node: NodeSpec) -> None:
    """Keep a node from the API server, and nothing else from anything."""
    heal(node)
    run(*_in_netns(node), "nft", "-f", "-", stdin=cut_ruleset())


def heal(node: NodeSpec) -> None:
    """Let a node reach the API server again; does nothing when it could."""
    succeeds(*_in_netns(node), "nft", "delete", "table", "inet", _CUT)


def _in_netns(node: NodeSpec) -> tuple[str, ...]:
    return "nsenter", f"--net={NETNS_FOLDER / node.netns}"


def remove_cable(node: NodeSpec) -> None:
    """Take away one node's cable and namespace."""
    succeeds("ip", "link", "del", node.veth)
    succeeds("ip", "netns", "del", node.netns)


def own_links(names: list[str]) -> list[str]:
    """Pick the cluster's links out of a list of names: `eth0`, `skv-node-a` -> `skv-node-a`."""
    return [name for name in names if name == BRIDGE or name.startswith(VETH_PREFIX)]


def own_namespaces(names: list[str]) -> list[str]:
    """Pick the cluster's network namespaces out of a list of names."""
    return [name for name in names if name.startswith(NETNS_PREFIX)]


def leftover_links() -> list[str]:
    """Find the cluster's links on the host."""
    # Not with `ip`: a machine that never had a cluster may lack it.
    return own_links(sorted(path.name for path in _LINKS.iterdir()))


def leftover_namespaces() -> list[str]:
    """Find the cluster's network namespaces on the host."""
    if not NETNS_FOLDER.is_dir():
        return []
    return own_namespaces([path.name for path in NETNS_FOLDER.iterdir()])


def remove_all() -> None:
    """Take away every link and namespace of the cluster; routes go with the bridge."""
    for link in leftover_links():
        succeeds("ip", "link", "del", link)
    for name in leftover_namespaces():
        if not succeeds("ip", "netns", "del", name):
            (NETNS_FOLDER / name).unlink(missing_ok=True)


def remove_pod_bridge(node: NodeSpec) -> None:
    """Take away the bridge of a node's pods, which keeps the address of its first range."""
    succeeds("ip", "-n", node.netns, "link", "del", POD_BRIDGE)


def cni_config(pod_cidr: str, data_folder: Path) -> dict[str, Any]:
    """Render the pod network of one node: a bridge, and addresses from its own range."""
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(data_folder),
            "ranges": [[{"subnet": pod_cidr}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "0.4.0", "name": NETWORK_NAME, "plugins": [bridge, ports]}


def resolver_file() -> str:
    """Render the resolv.conf of the nodes, which pods without cluster DNS inherit."""
    return f"nameserver {DNS_SERVICE_IP}\n"
