"""The operator under a memory limit, started again whenever it ends, as its pod would be."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from operator_process import Process, running_operator
from soak.memory_limit import MemoryLimit

LOOK_S = 0.1
RESTARTS_AFTER_S = 1.0


class KeptOperator:
    """One operator after the other; what is told is of all of them."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path, limit: MemoryLimit) -> None:
        self._where = kubeconfig, namespace, folder
        self._limit = limit
        self._stack = contextlib.ExitStack()
        self._is_over = threading.Event()
        self.exits: list[int] = []
        """Codes with which it ended by itself; -9: out of memory."""
        self.peak_mib = 0.0
        self.process = self._start()
        self._thread = threading.Thread(target=self._keep, name="kubelet")

    def __enter__(self) -> KeptOperator:
        """Begin to look after it."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._is_over.set()
        self._thread.join()
        self._stack.close()

    def is_ready(self) -> bool:
        """Tell whether the one that runs now is ready."""
        return self.process.popen.poll() is None and self.process.is_ready()

    def log(self) -> str:
        """Return the end of the last one's log."""
        return self.process.log.read_text(errors="replace")[-4000:]

    def _start(self) -> Process:
        flags = ("--no-lease",)
        context = running_operator(*self._where, *flags, wrapper=self._limit.wrapper)
        return self._stack.enter_context(context)

    def _keep(self) -> None:
        while not self._is_over.wait(LOOK_S):
            code = self.process.popen.poll()
            if code is not None:
                self.exits.append(code)
                time.sleep(RESTARTS_AFTER_S)
                self.process = self._start()
                continue
            with contextlib.suppress(OSError, ValueError):
                self._note(self.process.rss_mib())

    def _note(self, mib: float) -> None:
        self.peak_mib = max(self.peak_mib, mib)
        if not self._limit.is_held_by_kernel and mib * 2**20 > self._limit.limit_bytes:
            self.process.popen.kill()
