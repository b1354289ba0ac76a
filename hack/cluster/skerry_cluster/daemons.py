"""Long-running processes: started detached, remembered with their start time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skerry_cluster import cgroups
from skerry_cluster.command import ClusterError
from skerry_cluster.files import write_whole
from skerry_cluster.settings import CGROUP, Layout

_JOIN = Path(__file__).with_name("join_cgroup.py")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}
"""What daemons see: no proxy settings and no KUBECONFIG of whoever calls."""


@dataclass(frozen=True)
class Daemon:
    """One process as it should run."""

    name: str
    """Unique name; names its pid file and its log."""
    argv: Sequence[str]
    """Program and arguments."""
    node: str | None = None
    """The node it belongs to, None for the host."""
    env: Mapping[str, str] = field(default_factory=ENVIRONMENT.copy)
    """Environment."""


def start_ticks(stat: str) -> int:
    """Read the start time out of a `/proc/<pid>/stat` text, whatever the program is called.

    `7 (a) b) S 1 ...` -> the 22nd field, counted after the last `)`.
    """
    return int(stat.rpartition(")")[2].split()[19])


def _start_ticks_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    if stat.rpartition(")")[2].split()[0] == "Z":
        return None
    return start_ticks(stat)


def belongs_to_cluster(cgroup: str) -> bool:
    """Judge a `/proc/<pid>/cgroup` text: is any line below the cluster's cgroup?"""
    paths = (line.split(":", 2)[-1] for line in cgroup.splitlines())
    return any(path == f"/{CGROUP}" or path.startswith(f"/{CGROUP}/") for path in paths)


def find(layout: Layout, name: str) -> int | None:
    """Return the pid of a daemon if the very process that was started still lives."""
    try:
        saved = json.loads((layout.pids / f"{name}.json").read_text())
        cgroup = Path(f"/proc/{saved['pid']}/cgroup").read_text()
    except (OSError, ValueError):
        return None
    pid, ticks = int(saved["pid"]), _start_ticks_of(int(saved["pid"]))
    same = ticks is not None and ticks == saved["start_ticks"]
    return pid if same and belongs_to_cluster(cgroup) else None


def start(layout: Layout, daemon: Daemon) -> int:
    """Start a daemon unless it runs already; return its pid."""
    running = find(layout, daemon.name)
    if running is not None:
        return running
    for folder in (layout.logs, layout.pids):
        folder.mkdir(parents=True, exist_ok=True)
    procs = cgroups.daemon_procs(daemon.node)
    with (layout.logs / f"{daemon.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_JOIN), str(procs), *daemon.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=daemon.env,
            cwd="/",
            start_new_session=True,
        )
    _await_joined(process)
    record = {"pid": process.pid, "start_ticks": _start_ticks_of(process.pid)}
    write_whole(layout.pids / f"{daemon.name}.json", json.dumps(record))
    return process.pid


def _await_joined(process: subprocess.Popen[bytes]) -> None:
    """Wait until the new process is in its cgroup (or has already ended)."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if belongs_to_cluster(Path(f"/proc/{process.pid}/cgroup").read_text()):
                return
        time.sleep(0.01)


def stop(layout: Layout, name: str, *, timeout_s: float = 10) -> bool:
    """Stop a daemon, gently first; say whether it was running.

    Raises:
        ClusterError: if not even SIGKILL ends it.
    """
    pid = find(layout, name)
    if pid is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + timeout_s
        while find(layout, name) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if find(layout, name) is None:
            (layout.pids / f"{name}.json").unlink(missing_ok=True)
            return True
    raise ClusterError(f"{name} (process {pid}) does not end")


def log_tail(layout: Layout, name: str, lines: int = 15) -> str:
    """Return the end of a daemon's log, for an error message."""
    try:
        text = (layout.logs / f"{name}.log").read_text(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])


def require_alive(layout: Layout, name: str) -> None:
    """Check that a daemon still runs.

    Raises:
        ClusterError: with the end of its log, if it does not.
    """
    if find(layout, name) is None:
        raise ClusterError(f"{name} has ended:\n{log_tail(layout, name)}")
