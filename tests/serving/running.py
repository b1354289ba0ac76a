"""Servers for tests: in a thread, where the registry is at hand, or in a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from serving.fakes import FakeAgent
from skerry_runtime.doors import Ports
from skerry_runtime.metrics import Metrics
from skerry_runtime.registry import Registry
from skerry_runtime.server import Server
from skerry_runtime.settings import RuntimeSettings

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 120.0
"""A loaded machine is slow, and not wrong; nothing is measured here."""


class Addressed:
    """Where a running server's ports are asked."""

    ports: Ports

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.ports.http}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def admin(self) -> str:
        return f"127.0.0.1:{self.ports.admin}"


@dataclass
class InThread(Addressed):
    """A server on a loop of its own."""

    settings: RuntimeSettings
    registry: Registry = field(default_factory=Registry)
    metrics: Metrics = field(default_factory=Metrics)
    ports: Ports = field(init=False)
    _started: threading.Event = field(default_factory=threading.Event)
    _error: BaseException | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(WITHIN_S)
        if self._error:
            raise self._error

    def request_stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.server.request_stop)

    def join(self) -> None:
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive(), "the server did not stop"

    def _run(self) -> None:
        try:
            uvloop.run(self._main())
        except BaseException as error:  # noqa: BLE001 raised again by `start`
            self._error = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.server = Server(self.settings, self.registry, self.metrics, FakeAgent())
        self.ports = await self.server.start()
        self._started.set()
        await self.server.run_until_stopped()


@contextmanager
def running(**settings: object) -> Iterator[InThread]:
    """A server with nothing in its registry."""
    defaults: dict[str, object] = {
        "host": "127.0.0.1",
        "http_port": 0,
        "grpc_port": 0,
        "admin_port": 0,
        "model_name": "digits",
        "linger_s": 0,
    }
    server = InThread(RuntimeSettings.model_validate({**defaults, **settings}))
    server.start()
    try:
        yield server
    finally:
        server.request_stop()
        server.join()


@dataclass
class InProcess(Addressed):
    """`skerry-runtime serve` as the container runs it."""

    process: subprocess.Popen[str]
    ports: Ports
    log: list[dict[str, object]]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self.process.wait(WITHIN_S)


@contextmanager
def process(model: Path, *flags: str) -> Iterator[InProcess]:
    """A process that serves one file as `digits`; it is ready when it is handed out."""
    arguments = ["--host", "127.0.0.1", "--http-port", "0", "--grpc-port", "0"]
    arguments += ["--admin-port", "0", "--linger-s", "0", "--model", str(model)]
    child = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "skerry_runtime",
            "serve",
            *arguments,
            "--name",
            "digits",
            *flags,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _ready(child)
    finally:
        child.kill()
        child.wait(30)
        assert child.stderr is not None
        child.stderr.close()


def _ready(child: subprocess.Popen[str]) -> InProcess:
    """Read the log until the ports are known and the model serves."""
    log: list[dict[str, object]] = []
    assert child.stderr is not None
    for line in child.stderr:
        if not line.startswith("{"):
            continue  # an engine's own word
        log.append(json.loads(line))
        if str(log[-1]["message"]).startswith("serving"):
            break
    told = [entry["ports"] for entry in log if "ports" in entry]
    assert told, f"the process ended early: {log}"
    return InProcess(child, Ports(**told[0]), log)  # type: ignore[arg-type]
