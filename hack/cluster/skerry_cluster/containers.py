"""Find and kill one container of a node, as a crash would."""

import contextlib
import os
import signal
from pathlib import Path

from skerry_cluster.command import ClusterError
from skerry_cluster.daemons import belongs_to_cluster
from skerry_cluster.node import Node


def running_tasks(table: str) -> dict[str, int]:
    """Read `ctr tasks ls`: container id -> pid of the containers that run.

    `abc  123  RUNNING` -> `{"abc": 123}`
    """
    rows = (line.split() for line in table.splitlines()[1:])
    return {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[2] == "RUNNING"}


def kill(node: Node, namespace: str, pod: str, container: str) -> int:
    """Send SIGKILL to a container's first process; return its pid.

    Raises:
        ClusterError: if no such container runs.
    """
    wanted = {
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.pod.name": pod,
        "io.kubernetes.container.name": container,
    }
    filters = ",".join(f'labels."{key}"=={value}' for key, value in wanted.items())
    ids = node.ctr("containers", "ls", "-q", filters).split()
    tasks = running_tasks(node.ctr("tasks", "ls"))
    pids = [tasks[identity] for identity in ids if identity in tasks]
    if not pids:
        where = f"{namespace}/{pod} on {node.spec.name}"
        raise ClusterError(f"no running container {container} in {where}")
    _kill(pids[0])
    return pids[0]


def kill_all(node: Node) -> int:
    """Send SIGKILL to every container of a node, those that hold a pod's network too; count them.

    What the containers wrote stays on the disk, as after a loss of power.
    """
    pids = running_tasks(node.ctr("tasks", "ls")).values()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it went with its pod
            _kill(pid)
    return len(pids)


def _kill(pid: int) -> None:
    if not belongs_to_cluster(Path(f"/proc/{pid}/cgroup").read_text()):
        raise ClusterError(f"process {pid} is not the cluster's own")
    os.kill(pid, signal.SIGKILL)
