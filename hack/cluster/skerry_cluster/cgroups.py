"""The cgroups of the cluster, on cgroup v1 and v2.

`skerry/system` holds the control plane, `skerry/<node>.system` a node's daemons
(containerd's shims inherit it), `skerry/<node>` is kubelet's cgroup root.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from skerry_cluster.command import ClusterError
from skerry_cluster.settings import CGROUP

MOUNT_ROOT = Path("/sys/fs/cgroup")
SYSTEM = "system"


def hierarchies(mountinfo: str) -> list[Path]:
    """List the mount points of every cgroup hierarchy in a `/proc/self/mountinfo` text.

    `... 30 25 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids` -> `/sys/fs/cgroup/pids`
    """
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if right.split(" ", 1)[0] in ("cgroup", "cgroup2") and fields[3] == "/":
            path = Path(fields[4])
            if path == MOUNT_ROOT or MOUNT_ROOT in path.parents:
                found.append(path)
    return found


def _mounted() -> list[Path]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def is_v2() -> bool:
    """Say whether this machine has the unified hierarchy only."""
    return (MOUNT_ROOT / "cgroup.controllers").exists()


def _tracking_root() -> Path:
    """Choose the hierarchy in which the cluster's own daemons are kept."""
    mounted = _mounted()
    for name in ("pids", "memory"):
        if MOUNT_ROOT / name in mounted:
            return MOUNT_ROOT / name
    return mounted[0]


def daemon_procs(node: str | None) -> Path:
    """Make the cgroup for the daemons of a node (or of the host); return its `cgroup.procs`."""
    folder = _tracking_root() / CGROUP / (SYSTEM if node is None else f"{node}.{SYSTEM}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "cgroup.procs"


def make_node_root(node: str) -> str:
    """Make kubelet's cgroup root in every hierarchy; return its name for kubelet."""
    for mount in _mounted():
        for folder in (mount / CGROUP, mount / CGROUP / node):
            folder.mkdir(exist_ok=True)
            _inherit_cpuset(folder)
    if is_v2():
        for folder in (MOUNT_ROOT, MOUNT_ROOT / CGROUP):
            _pass_controllers_on(folder)
    return f"/{CGROUP}/{node}"


def _pass_controllers_on(folder: Path) -> None:
    """Let a v2 cgroup's children have all its controllers.

    Raises:
        ClusterError: in a container whose own processes are in that cgroup.
    """
    available = (folder / "cgroup.controllers").read_text().split()
    if set(available) <= set((folder / "cgroup.subtree_control").read_text().split()):
        return
    try:
        wanted = " ".join(f"+{name}" for name in available)
        (folder / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        raise ClusterError(
            f"cannot pass the controllers of {folder} on ({error}): a cgroup v2 with processes of "
            "its own may not; move them into a child of it, as in /sys/fs/cgroup/init"
        ) from error


def _inherit_cpuset(folder: Path) -> None:
    """Fill a new v1 cpuset, which would otherwise refuse every process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own, parent = folder / name, folder.parent / name
        if not is_v2() and own.exists() and not own.read_text().strip():
            own.write_text(parent.read_text())


def folders(part: str | None = None) -> list[Path]:
    """List the cluster's cgroups, deepest first; `part` limits them to one node."""
    found: list[Path] = []
    for mount in _mounted():
        top = mount / CGROUP
        if not top.is_dir():
            continue
        tops = [top] if part is None else [top / part, top / f"{part}.{SYSTEM}"]
        for start in tops:
            found += [Path(path) for path, _, _ in os.walk(start)]
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def pids(part: str | None = None) -> set[int]:
    """Find every living process in the cluster's cgroups."""
    found: set[int] = set()
    for folder in folders(part):
        with contextlib.suppress(OSError):
            found.update(map(int, (folder / "cgroup.procs").read_text().split()))
    return {pid for pid in found - {0, os.getpid()} if _is_alive(pid)}


def _is_alive(pid: int) -> bool:
    """Say whether a process still does something; v1 lists the dead until they are reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def kill_all(part: str | None = None, *, timeout_s: float = 20) -> set[int]:
    """End every process in the cluster's cgroups; return those that would not go."""
    deadline = time.monotonic() + timeout_s
    left = pids(part)
    while left and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        left = pids(part)
    return left


def remove(part: str | None = None, *, timeout_s: float = 10) -> list[Path]:
    """Remove the (empty) cgroups; return those that would not go."""
    deadline = time.monotonic() + timeout_s
    left = folders(part)
    while left and time.monotonic() < deadline:
        for folder in left:
            with contextlib.suppress(OSError):
                folder.rmdir()
        left = folders(part)
        if left:
            time.sleep(0.1)
    return left
