"""Measures what loading and running a model takes of this process's memory, from /proc."""

from __future__ import annotations

import contextlib
from pathlib import Path

from skerry_runtime.heap import give_back

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What the kernel wants to be told to forget the peak; see proc(5)."""


class Footprint:
    """Growth of resident memory since this object was made."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # a sandbox without it: imports count into the peak
            _CLEAR.write_text(_RESET_PEAK)
        self._before = _status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        """Return the largest growth there was."""
        return max(0, _status_bytes("VmHWM") - self._before)

    def resting_bytes(self) -> int:
        """Return what is held once nothing runs: what is free goes back first."""
        give_back()
        return max(0, _status_bytes("VmRSS") - self._before)


def _status_bytes(key: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)
