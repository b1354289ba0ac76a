"""Another Kubernetes on this machine, beside which this cluster is neither started nor ended.

Both would use the same folders, ports and kernel settings, and neither would know of the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skerry_cluster import teardown
from skerry_cluster.command import ClusterError
from skerry_cluster.settings import Layout

PROGRAMS = frozenset(
    ("kubelet", "kubelite", "k3s", "k3s-server", "k3s-agent", "k0s", "rke2", "rke2-server")
)
"""Programs that are a kubelet, or hold one. Some name their process otherwise than their file."""
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process, as `/proc` shows it."""

    pid: int
    """Its number."""
    name: str
    """What it calls itself, at most 15 characters."""
    program: str
    """The first of its arguments; empty for one that is over, or belongs to the kernel."""

    @property
    def is_kubernetes(self) -> bool:
        """Say whether it is a kubelet, or holds one: `/usr/bin/kubelet`, `k3s server`."""
        # a title such as "/usr/local/bin/k3s server" stands in one argument
        words = self.program.split()
        called = PurePosixPath(words[0]).name if words else ""
        return bool(self.program) and not PROGRAMS.isdisjoint((self.name, called))


def others(running: Iterator[Process], ours: set[int]) -> list[Process]:
    """Pick the processes of another Kubernetes."""
    return [process for process in running if process.is_kubernetes and process.pid not in ours]


def refuse(layout: Layout) -> None:
    """Do nothing beside another Kubernetes.

    Raises:
        ClusterError: one runs; the text names its process.
    """
    found = others(_running(), teardown.processes(layout))
    if found:
        names = ", ".join(f"{one.program.split()[0]} (process {one.pid})" for one in found)
        raise ClusterError(
            f"another Kubernetes runs on this machine: {names}. This cluster shares folders, ports "
            "and kernel settings with it: stop it first, or set KUBECONFIG to use that one"
        )


def _running() -> Iterator[Process]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "comm").read_text().strip()
                command = (folder / "cmdline").read_bytes()
            except OSError:  # it ended
                continue
            program = command.partition(b"\0")[0].decode(errors="replace")
            yield Process(int(folder.name), name, program)
