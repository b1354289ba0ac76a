"""The operator as a process of its own, for tests that look at it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ports import free_port

WITHIN_S = 120.0
"""Longest wait for its end: a loaded machine is slow, and not wrong; nothing is measured here."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """The operator as a process of its own."""

    popen: subprocess.Popen[bytes]
    log: Path
    port: int

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/readyz"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            assert self.popen.poll() is None, self.log.read_text()
            return False

    def is_leader(self) -> bool:
        return self.metrics().get("skerry_leader") == 1.0

    def reconciles(self) -> float:
        return sum(v for k, v in self.metrics().items() if k.startswith("skerry_reconcile_total"))

    def writes(self) -> float:
        return sum(v for k, v in self.metrics().items() if k.startswith("skerry_api_writes_total"))

    def is_quiet(self) -> bool:
        """It has looked, and wrote nothing for a while; looks go on while units are awaited."""
        before = self.writes()
        time.sleep(2.0)
        after = self.metrics()
        is_idle = after["skerry_queue_depth"] == 0
        return is_idle and self.reconciles() > 0 and self.writes() == before

    def cpu_s(self) -> float:
        """CPU time of the process so far, in seconds."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def rss_mib(self) -> float:
        """Resident memory of the process now."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text().splitlines()
        (line,) = [line for line in status if line.startswith("VmRSS:")]
        return int(line.split()[1]) / 1024

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(timeout=WITHIN_S)


@contextmanager
def running_operator(
    kubeconfig: Path, namespace: str, folder: Path, *flags: str, wrapper: Sequence[str] = ()
) -> Iterator[Process]:
    """Run the operator for one namespace, with its log in `folder`; end it.

    `wrapper` is a command line that becomes the one which is written after it.
    """
    port = free_port()
    log = folder / f"operator-{port}.log"
    argv = [sys.executable, "-m", "skerry_operator", "run", f"--metrics-port={port}", *flags]
    argv += [f"--namespaces={namespace}", "--runtime-image=skerry/runtime:test"]
    argv = [*wrapper, *argv]
    env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    with log.open("wb") as out:
        popen = subprocess.Popen(argv, stdout=out, stderr=out, env=env)
    process = Process(popen, log, port)
    try:
        yield process
    finally:
        if popen.poll() is None:
            popen.kill()
            popen.wait()
