"""Take the cluster away, from what the system shows under the cluster's own names.

Nothing here relies on pid files or on the order in which things were started, so it works after
any crash.
"""

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skerry_cluster import cgroups, footprint, network, node_config, sysctls
from skerry_cluster.command import succeeds
from skerry_cluster.settings import Layout

STATE = ("nodes", "pids", "config", "pki", "db")
"""Folders of the state folder that `up` fills and `down` removes; the logs stay."""
_GUESTS_END_S = 5.0
_GO_WITHIN_S = 60.0
"""How long things are removed again and again until nothing is left."""


@dataclass(frozen=True)
class Leftovers:
    """What of the cluster exists on this machine."""

    processes: list[int] = field(default_factory=list)
    """Processes in the cluster's cgroups or in the mount namespace of a node."""
    cgroups: list[str] = field(default_factory=list)
    """Control groups."""
    links: list[str] = field(default_factory=list)
    """Network links."""
    namespaces: list[str] = field(default_factory=list)
    """Network namespaces."""
    mounts: list[str] = field(default_factory=list)
    """Mounts on the host below the state folder, and of interrupted image builds."""

    def lines(self) -> list[str]:
        """Describe them, one per line; empty if the machine is clean."""
        kinds: dict[str, Sequence[object]] = {
            "process": self.processes,
            "cgroup": self.cgroups,
            "link": self.links,
            "network namespace": self.namespaces,
            "mount": self.mounts,
        }
        return [f"{kind} {item}" for kind, items in kinds.items() for item in items]


def mounts_below(mountinfo: str, folder: Path) -> list[str]:
    """Pick the mount points at or below a folder out of a `mountinfo` text, deepest first."""
    points = (Path(line.split()[4]) for line in mountinfo.splitlines())
    inside = [point for point in points if point == folder or folder in point.parents]
    return [str(point) for point in sorted(inside, key=lambda p: len(p.parts), reverse=True)]


def shows_node_folder(mountinfo: str, folder: Path) -> bool:
    """Say whether a process sees a node's folder bound over a fixed path.

    `... 8:1 /var/lib/skerry-cluster/nodes/node-a/kubelet /var/lib/kubelet ...` -> True
    """
    targets = set(node_config.BINDS.values())
    rows = (line.split() for line in mountinfo.splitlines())
    return any(row[4] in targets and folder in Path(row[3]).parents for row in rows)


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below a folder."""
    for mount in mounts_below(Path("/proc/self/mountinfo").read_text(), folder):
        succeeds("umount", "--lazy", mount)


def processes(layout: Layout) -> set[int]:
    """Find the cluster's processes by cgroup and, should one have moved away, by mounts."""
    found = cgroups.pids()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                if shows_node_folder((path / "mountinfo").read_text(), layout.root / "nodes"):
                    found.add(int(path.name))
    return found


def find_leftovers(layout: Layout) -> Leftovers:
    """Look for everything the cluster makes."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    folders = (layout.root, layout.cache / "buildah")
    return Leftovers(
        processes=sorted(processes(layout)),
        cgroups=[str(folder) for folder in cgroups.folders()],
        links=network.leftover_links(),
        namespaces=network.leftover_namespaces(),
        mounts=[mount for folder in folders for mount in mounts_below(mountinfo, folder)],
    )


def down(layout: Layout) -> Leftovers:
    """Remove everything; return what would not go."""
    deadline = time.monotonic() + _GO_WITHIN_S
    left = _take_away(layout)
    # what a killed `up` had begun comes to its end, and leaves something, after it
    while left.lines() and time.monotonic() < deadline:
        time.sleep(0.2)
        left = _take_away(layout)
    sysctls.restore(layout.sysctls)
    if footprint.has_state(layout):
        _remove_files(layout)
    return find_leftovers(layout)


def _take_away(layout: Layout) -> Leftovers:
    """End and remove what is there now; return what is left."""
    cgroups.kill_all()
    _await_guests(layout)
    cgroups.remove()
    network.remove_all()
    for folder in (layout.root, layout.cache / "buildah"):
        unmount_below(folder)
    return find_leftovers(layout)


def _await_guests(layout: Layout) -> None:
    """Wait for commands inside a node that a killed `up` left: they end with its containerd."""
    deadline = time.monotonic() + _GUESTS_END_S
    while processes(layout) and time.monotonic() < deadline:
        time.sleep(0.1)


def _remove_files(layout: Layout) -> None:
    for name in STATE:
        shutil.rmtree(layout.root / name, ignore_errors=True)
    layout.kubeconfig.unlink(missing_ok=True)
    footprint.remove(layout.made)
