"""The chart's memory limit around a process, as a kubelet puts it: a cgroup of its own.

With neither cgroup v1 nor v2 to write to, the process is watched instead, and killed when its
resident memory is over the limit. `MemoryLimit.way` says which.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from skerry_operator.api.quantity import quantity

_ROOT = Path("/sys/fs/cgroup")
_WAYS = (
    ("cgroup v1", _ROOT / "memory", "memory.limit_in_bytes"),
    ("cgroup v2", _ROOT, "memory.max"),
)
_JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
_VALUES = Path(__file__).parents[2] / "charts" / "skerry" / "values.yaml"
_EMPTY_WITHIN_S = 30.0


def chart_limit_bytes() -> int:
    """Return the operator's memory limit in the chart's values."""
    values = yaml.safe_load(_VALUES.read_text())
    return int(quantity(values["resources"]["limits"]["memory"]))


@dataclass(frozen=True)
class MemoryLimit:
    """A limit, and how it is held."""

    limit_bytes: int
    way: str
    wrapper: tuple[str, ...] = ()
    """Command line before that of the process."""
    is_held_by_kernel: bool = True


@contextlib.contextmanager
def memory_limit(limit_bytes: int) -> Iterator[MemoryLimit]:
    """Make a cgroup with this limit; remove it."""
    name = f"skerry-soak-{os.getpid()}"
    for way, parent, file in _WAYS:
        if _is_made(parent / name, file, limit_bytes):
            try:
                yield MemoryLimit(limit_bytes, way, ("sh", "-c", _JOIN, str(parent / name)))
            finally:
                _remove(parent / name)
            return
    yield MemoryLimit(limit_bytes, "resident memory, watched", is_held_by_kernel=False)


def _is_made(folder: Path, file: str, limit_bytes: int) -> bool:
    """Make a cgroup; tell whether it can hold the limit, and leave none that cannot."""
    try:
        folder.mkdir()
    except OSError:
        return False
    try:
        (folder / file).write_text(str(limit_bytes))
        _no_swap(folder)
    except OSError:
        folder.rmdir()
        return False
    return True


def _no_swap(folder: Path) -> None:
    for name in ("memory.swappiness", "memory.swap.max"):
        if (folder / name).exists():
            (folder / name).write_text("0")


def _remove(folder: Path) -> None:
    """Remove the cgroup; the kernel lets it go a moment after its last process."""
    end = time.monotonic() + _EMPTY_WITHIN_S
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
