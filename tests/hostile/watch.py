"""The kernel's view: whether a file was opened, and how much memory a server's children took."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_IN_OPEN = 0x20
_IN_ACCESS = 0x1


class Untouched:
    """Notes when any process opens or reads a file (inotify)."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        watch = libc.inotify_add_watch(self._fd, str(path).encode(), _IN_OPEN | _IN_ACCESS)
        assert self._fd >= 0, ctypes.get_errno()
        assert watch >= 0, ctypes.get_errno()

    def was_touched(self) -> bool:
        """Tell whether anybody touched the file since this was last asked."""
        try:
            return bool(os.read(self._fd, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._fd)


class Peaks:
    """The largest resident memory of each child that a process had, in bytes."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._peaks: dict[str, int] = {}

    def take(self) -> int:
        """Return the largest peak since the last call, 0 when there was no child."""
        peaks, self._peaks = self._peaks, {}
        return max(peaks.values(), default=0)

    @contextmanager
    def watching(self) -> Iterator[Peaks]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            with suppress(OSError):
                for child in self._children():
                    self._note(child)

    def _children(self) -> list[str]:
        tasks = Path(f"/proc/{self._pid}/task")
        return [pid for t in tasks.iterdir() for pid in (t / "children").read_text().split()]

    def _note(self, child: str) -> None:
        text = Path(f"/proc/{child}/status").read_text()
        found = [int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")]
        for kib in found:
            self._peaks[child] = max(self._peaks.get(child, 0), kib * 1024)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
