"""What memory this pod may use and does use: from cgroup v2, v1 or the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class _Files:
    """Names of one cgroup version's files."""

    limit: str
    usage: str
    reclaimable: str
    """Key in memory.stat of the page cache that the kernel gives up first."""


_V2 = _Files("memory.max", "memory.current", "inactive_file")
_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class Host:
    """Reads /proc and /sys; `root` stands for / in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def available_bytes(self) -> int | None:
        """Return how much more memory this pod can take; None when nothing tells."""
        cgroups = (_left(folder, names) for folder, names in self._memory_cgroups())
        found = [n for n in (*cgroups, self._machine_bytes()) if n is not None]
        return max(0, min(found)) if found else None

    def rss_bytes(self, pid: int | None = None) -> int | None:
        """Return the resident memory of this or another process."""
        try:
            text = (self._root / "proc" / str(pid or "self") / "statm").read_text()
            return int(text.split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return None

    def _memory_cgroups(self) -> list[tuple[Path, _Files]]:
        base = self._root / "sys/fs/cgroup"
        v1 = [(folder, _V1) for folder in _upwards(base / "memory", self._cgroup("memory"))]
        v2 = [(folder, _V2) for folder in _upwards(base, self._cgroup(""))]
        return v2 + v1

    def _cgroup(self, controller: str) -> str:
        """Return this process's path in the hierarchy of a controller ("" is version 2)."""
        try:
            lines = (self._root / "proc/self/cgroup").read_text().splitlines()
        except OSError:
            return ""
        for line in lines:
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                return path.strip("/")
        return ""

    def _machine_bytes(self) -> int | None:
        try:
            lines = (self._root / "proc/meminfo").read_text().splitlines()
        except OSError:
            return None
        found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return next((int(kib) * 1024 for kib in found), None)


def _upwards(base: Path, below: str) -> list[Path]:
    """Return the process's cgroup and those around it; a limit of any of them counts."""
    own = base / below
    return [own, *(p for p in own.parents if p == base or base in p.parents)]


def _left(folder: Path, names: _Files) -> int | None:
    limit, usage = _number(folder / names.limit), _number(folder / names.usage)
    if limit is None or usage is None or limit >= _UNLIMITED:
        return None
    return limit - usage + _stat(folder / "memory.stat", names.reclaimable)


def _stat(path: Path, key: str) -> int:
    pairs = (line.split() for line in _text(path).splitlines())
    return next((int(pair[1]) for pair in pairs if pair[0] == key), 0)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
