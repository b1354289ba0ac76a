"""Kernel settings that kubelet changes for the whole machine, and how to undo it."""

import contextlib
import json
from pathlib import Path

from skerry_cluster.files import write_whole

_CHANGED_BY_KUBELET = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_PROC = Path("/proc/sys")


def remember(saved: Path) -> None:
    """Write down the settings as they are, unless that was done before."""
    if saved.exists():
        return
    known = (name for name in _CHANGED_BY_KUBELET if (_PROC / name).exists())
    current = {name: (_PROC / name).read_text().strip() for name in known}
    write_whole(saved, json.dumps(current, indent=1))


def restore(saved: Path) -> None:
    """Put the settings back as they were."""
    if not saved.exists():
        return
    for name, value in json.loads(saved.read_text()).items():
        if name in _CHANGED_BY_KUBELET:
            with contextlib.suppress(OSError):
                (_PROC / name).write_text(str(value))
    saved.unlink()
