"""The life of a process: it starts, keeps its parts alive, and stops in an orderly way."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from skerry_runtime.access import Credentials
from skerry_runtime.backends.engines import backend_of
from skerry_runtime.contract import StatusReport
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.doors import Doors, Ports
from skerry_runtime.errors import Unusable
from skerry_runtime.fileagent import FileAgent
from skerry_runtime.heap import Thrift
from skerry_runtime.metrics import Metrics
from skerry_runtime.otel import tracer_of
from skerry_runtime.registry import Registry
from skerry_runtime.rest.admin import AdminApp
from skerry_runtime.rest.exposition import Exposition, Live
from skerry_runtime.sequences import SequenceBounds
from skerry_runtime.settings import RuntimeSettings
from skerry_runtime.trace import Observer

RESTART_MIN_S, RESTART_MAX_S = 1.0, 30.0
"""Pause before a part that died is started again."""

BEGIN_ANEW = 1
"""Exit status of a process that another one has to replace."""

_log = logging.getLogger(__name__)


class Agent(Protocol):
    """What decides which model serves here."""

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            Unusable: only a new process can go on.
        """
        ...

    def status(self) -> StatusReport:
        """Return the answer of GET /status."""
        ...

    def is_alive(self) -> bool:
        """Tell whether it still does its work; false ends the process, by the liveness probe."""
        ...

    def is_stuck(self) -> bool:
        """Tell whether a call hangs that the end of the process would wait for."""
        ...

    async def stop(self) -> None:
        """End `run` soon."""
        ...


class Server:
    """One runtime process."""

    def __init__(
        self, settings: RuntimeSettings, registry: Registry, metrics: Metrics, agent: Agent
    ) -> None:
        """Put the parts together.

        Raises:
            BadSecret: tokens or a certificate were named and cannot be used.
        """
        self._settings = settings
        self._agent = agent
        self._stopping = asyncio.Event()
        self.exit_status = 0
        self._credentials = Credentials.of(settings.token_dir, settings.tls_dir)
        self.dataplane = Dataplane(
            settings.model_name,
            registry,
            metrics,
            workers=settings.workers,
            queue_limit=settings.queue_limit,
            sequences=SequenceBounds(settings.max_sequences, settings.sequence_idle_s),
        )
        self._observer = Observer(
            settings.access_log, tracer_of(os.environ, is_tls=settings.tls_dir is not None)
        )
        live = Live(
            lambda: self.dataplane.pending,
            settings.queue_limit,
            agent.status,
            self._credentials.reads,
        )
        exposition = Exposition(metrics, registry, live)
        admin = AdminApp(agent.status, exposition.text, self.dataplane.is_ready, agent.is_alive)
        self._doors = Doors(self.dataplane, admin, self._credentials, self._observer)

    async def start(self) -> Ports:
        """Open all ports, then let the agent work; return the ports.

        Raises:
            OSError: a port is taken.
        """
        ports = await self._doors.open(self._settings)
        poll_s = self._settings.secrets_poll_s
        self._agent_task = asyncio.create_task(self._keep_agent())
        self._fresh_task = asyncio.create_task(
            _keep_alive("the watch over secrets", lambda: self._credentials.keep_fresh(poll_s))
        )
        self._thrift_task = asyncio.create_task(_keep_alive("thrift", Thrift().keep))
        return ports

    async def _keep_agent(self) -> None:
        """Run the agent; end this process in order where the agent says that it is of no use."""
        try:
            await _keep_alive("the agent", self._agent.run)
        except Unusable as error:
            _log.error("this process ends, for a new one to go on: %s", error)
            self.exit_status = BEGIN_ANEW
            self.request_stop()

    def request_stop(self) -> None:
        """Begin to stop; called from a signal."""
        self._stopping.set()

    async def run_until_stopped(self) -> None:
        """Return when a stop was requested and every request in flight has its answer.

        Readiness goes first, the doors close a little later, requests in flight have until the
        end of the grace. The agent ends last but one and the admin port last, so that the end
        can be watched.
        """
        await self._stopping.wait()
        deadline = time.monotonic() + self._settings.grace_s
        _log.info("draining")
        self.dataplane.drain()
        self._doors.drain()
        await asyncio.sleep(min(self._settings.linger_s, self._settings.grace_s))
        await self._doors.close_data_ports(max(0.0, deadline - time.monotonic()))
        await self._stop_agent(max(1.0, deadline - time.monotonic()))
        self._fresh_task.cancel()
        self._thrift_task.cancel()
        await self._doors.close_admin_port(1.0)
        self.dataplane.close()
        if self._observer.tracer is not None:
            await asyncio.to_thread(self._observer.tracer.close)
        _log.info("stopped")

    async def _stop_agent(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._agent.stop()
        self._agent_task.cancel()
        with suppress(asyncio.CancelledError):
            await self._agent_task


async def _keep_alive(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a part until it ends; when it dies, what serves goes on and the part starts again."""
    pause_s = RESTART_MIN_S
    while True:
        try:
            return await run()
        except Unusable:
            raise
        except Exception:  # noqa: BLE001 a defect of a part must not end the serving
            _log.exception("%s failed; it starts again in %.0f s", name, pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, RESTART_MAX_S)


async def serve(settings: RuntimeSettings, model_file: Path | None = None) -> int:
    """Run a process until SIGTERM or SIGINT, and return its exit status.

    A model file given here makes an agent needless. Where a call hangs in a thread, which Python
    would wait for, the process is ended here.

    Raises:
        OSError: a port is taken.
    """
    registry, metrics = Registry(), Metrics()
    agent = _build_agent(settings, registry, metrics, model_file)
    server = Server(settings, registry, metrics, agent)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.request_stop)
    ports = await server.start()
    gc.freeze()  # what was imported stays: no collection of a busy server walks it again
    _log.info("listening", extra={"ports": asdict(ports)})
    await server.run_until_stopped()
    if agent.is_stuck():
        logging.shutdown()
        os._exit(server.exit_status)
    return server.exit_status


def _build_agent(
    settings: RuntimeSettings, registry: Registry, metrics: Metrics, model_file: Path | None
) -> Agent:
    """Return what decides which model serves."""
    backend = backend_of(settings.engine)
    if model_file is not None:
        return FileAgent(settings, registry, metrics, backend, model_file)
    from skerry_runtime.agent.agent import ClusterAgent  # noqa: PLC0415 only here needed

    return ClusterAgent(settings, registry, metrics, backend)
