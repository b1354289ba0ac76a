"""Show what runs."""

from skerry_cluster import cluster, control_plane, daemons
from skerry_cluster.api import Api
from skerry_cluster.command import ClusterError
from skerry_cluster.settings import Layout

Row = tuple[str, str, str]
_NODE_PARTS = ("holder", "containerd", "kubelet", "kube-proxy", "netpol")


def table(rows: list[Row]) -> str:
    """Align rows into columns."""
    widths = [max(len(row[index]) for row in rows) for index in range(3)]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in aligned)


def rows(layout: Layout) -> list[Row]:
    """List every process the cluster should have, and every node's condition."""
    found: list[Row] = [("PART", "STATE", "DETAIL")]
    found += [_process(layout, name) for name in (*control_plane.NAMES, "coredns", "kwok")]
    for item in cluster.present_nodes(layout):
        parts = [*_NODE_PARTS, *(["device-plugin"] if item.spec.resource else [])]
        found += [_process(layout, item.daemon_name(part)) for part in parts]
        found.append(_node(layout, item.spec.name, item.spec.resource))
    return found


def _process(layout: Layout, name: str) -> Row:
    pid = daemons.find(layout, name)
    return (name, "running" if pid else "stopped", f"pid {pid}" if pid else "")


def _node(layout: Layout, name: str, resource: str | None) -> Row:
    try:
        found = Api(layout.pki).get(f"/api/v1/nodes/{name}")
    except (ClusterError, OSError) as error:
        return (name, "unknown", str(error).splitlines()[0])
    if found is None:
        return (name, "not registered", "")
    state = "Ready" if cluster.is_ready_since(found, 0) else "NotReady"
    count = found["status"].get("allocatable", {}).get(resource, "0") if resource else ""
    return (name, state, f"{resource}: {count} (simulated)" if resource else "plain CPU")
