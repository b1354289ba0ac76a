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

from skerry_cluster import cgroups, network, node_config, sysctls
from skerry_cluster.command import succeeds
from skerry_cluster.settings import Layout

_STATE = ("nodes", "pids", "config", "pki", "db")
"""Folders of the state folder that `down` removes; the logs stay."""
_GUESTS_END_S = 5.0


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


def _processes(layout: Layout) -> set[int]:
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
        processes=sorted(_processes(layout)),
        cgroups=[str(folder) for folder in cgroups.folders()],
        links=network.leftover_links(),
        namespaces=network.leftover_namespaces(),
        mounts=[mount for folder in folders for mount in mounts_below(mountinfo, folder)],
    )


def down(layout: Layout) -> Leftovers:
    """Remove everything; return what would not go."""
    cgroups.kill_all()
    _await_guests(layout)
    cgroups.remove()
    network.remove_all()
    for folder in (layout.root, layout.cache / "buildah"):
        unmount_below(folder)
    _release_namespace_folder()
    sysctls.restore(layout.sysctls)
    _remove_files(layout)
    return find_leftovers(layout)


def _await_guests(layout: Layout) -> None:
    """Wait for commands inside a node that a killed `up` left: they end with its containerd."""
    deadline = time.monotonic() + _GUESTS_END_S
    while _processes(layout) and time.monotonic() < deadline:
        time.sleep(0.1)


def _release_namespace_folder() -> None:
    """Undo the bind mount that `ip netns add` leaves, unless someone else has namespaces."""
    folder = network.NETNS_FOLDER
    if folder.is_dir() and not any(folder.iterdir()):
        succeeds("umount", str(folder))


def _remove_files(layout: Layout) -> None:
    for name in _STATE:
        shutil.rmtree(layout.root / name, ignore_errors=True)
    layout.kubeconfig.unlink(missing_ok=True)
    for target in node_config.BINDS.values():
        # Only empty folders go: they were made to bind over.
        with contextlib.suppress(OSError):
            Path(target).rmdir()
