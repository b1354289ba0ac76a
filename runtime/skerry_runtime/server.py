"""Composition root: settings -> registry -> metrics -> data plane -> REST, gRPC, admin, agent."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import grpc.aio

from skerry_runtime import __version__
from skerry_runtime.access import Access, Tls, Tokens
from skerry_runtime.backends.base import Backend, LoadRequest, Model
from skerry_runtime.backends.engines import backend_of
from skerry_runtime.clock import unix_now
from skerry_runtime.contract import Batching, Execution, Format, Served, ServedModel, StatusReport
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.metrics import Metrics
from skerry_runtime.otel import tracer_of
from skerry_runtime.registry import Registry, ServingModel
from skerry_runtime.rest.admin import AdminApp
from skerry_runtime.rest.app import RestApp
from skerry_runtime.rest.body import Memory
from skerry_runtime.rest.codec import Limits
from skerry_runtime.rest.exposition import Exposition, Live
from skerry_runtime.rest.guard import GuardedApp
from skerry_runtime.rest.handshakes import HandshakeLimits
from skerry_runtime.rest.http import App
from skerry_runtime.rest.hub import ListenerLimits
from skerry_runtime.rest.listener import Listener, bind_all
from skerry_runtime.rest.observed import ObservedApp
from skerry_runtime.rpc.guard import TokenInterceptor, credentials
from skerry_runtime.rpc.observed import ObservingInterceptor
from skerry_runtime.rpc.servicer import RpcLimits, Servicer, build_server
from skerry_runtime.settings import Settings
from skerry_runtime.trace import Observer

RESTART_MIN_S, RESTART_MAX_S = 1.0, 30.0
"""Pause before an agent that died is started again."""

ADMIN_BYTES = 64 * 1024
"""Bodies that the admin port reads, all together; what it offers needs none."""

_FORMATS = {".ort": Format.ORT, ".tflite": Format.TFLITE}
_log = logging.getLogger(__name__)


class Agent(Protocol):
    """What decides which model serves here."""

    async def run(self) -> None:
        """Work until stopped."""
        ...

    def status(self) -> StatusReport:
        """Return the answer of GET /status."""
        ...

    async def stop(self) -> None:
        """End `run` soon."""
        ...


@dataclass(frozen=True)
class Ports:
    """Where a running server listens."""

    http: int
    grpc: int
    admin: int


class Server:
    """One runtime process."""

    def __init__(
        self, settings: Settings, registry: Registry, metrics: Metrics, agent: Agent
    ) -> None:
        """Put the parts together.

        Raises:
            BadSecret: tokens or a certificate were named and cannot be used.
        """
        self._settings = settings
        self._agent = agent
        self._stopping = asyncio.Event()
        self._access = Access.of(settings.token_dir, settings.tls_dir)
        self.dataplane = Dataplane(
            settings.model_name,
            registry,
            metrics,
            workers=settings.workers,
            queue_limit=settings.queue_limit,
        )
        self._memory = Memory(settings.max_body_bytes, settings.max_buffered_bytes)
        tensor_limits = Limits(settings.max_dimensions, settings.max_tensors)
        rest_app, tokens = RestApp(self.dataplane, self._memory, tensor_limits), self._access.tokens
        guarded: App = rest_app if tokens is None else GuardedApp(rest_app, tokens)
        self._observer = Observer(
            settings.access_log, tracer_of(os.environ, is_tls=settings.tls_dir is not None)
        )
        is_observed = self._observer.is_needed
        self._rest_app: App = ObservedApp(guarded, self._observer) if is_observed else guarded
        live = Live(lambda: self.dataplane.pending, settings.queue_limit, agent.status)
        exposition = Exposition(metrics, registry, live)
        self._admin_app = AdminApp(agent.status, exposition.text, self.dataplane.is_ready)

    async def start(self) -> Ports:
        """Open all ports, then let the agent work; return the ports.

        Raises:
            OSError: a port is taken.
        """
        settings, limits = self._settings, _rpc_limits(self._settings)
        access, tls = self._access, self._access.tls
        self._rpc = build_server(
            Servicer(self.dataplane, limits), limits, _interceptors(self._observer, access.tokens)
        )
        grpc_port = _bind_rpc(self._rpc, settings.host, settings.grpc_port, tls)
        http, admin = bind_all(settings.host, settings.http_port, settings.admin_port)
        port_limits = _listener_limits(settings)
        context = tls.context if tls else None
        self._rest = Listener(self._rest_app, http, port_limits, self._memory, context)
        self._admin = Listener(
            self._admin_app, admin, port_limits, Memory(ADMIN_BYTES, ADMIN_BYTES)
        )
        await asyncio.gather(self._rpc.start(), self._rest.start(), self._admin.start())
        self._agent_task = asyncio.create_task(self._keep_agent_alive())
        self._fresh_task = asyncio.create_task(access.keep_fresh(settings.secrets_poll_s))
        return Ports(self._rest.port, grpc_port, self._admin.port)

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
        self._rest.drain()
        await asyncio.sleep(min(self._settings.linger_s, self._settings.grace_s))
        await self._close_doors(max(0.0, deadline - time.monotonic()))
        await self._stop_agent(max(1.0, deadline - time.monotonic()))
        self._fresh_task.cancel()
        await self._admin.stop(1.0)
        self.dataplane.close()
        if self._observer.tracer is not None:
            await asyncio.to_thread(self._observer.tracer.close)
        _log.info("stopped")

    async def _close_doors(self, timeout_s: float) -> None:
        await asyncio.gather(self._rest.stop(timeout_s), self._rpc.stop(timeout_s))

    async def _stop_agent(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._agent.stop()
        self._agent_task.cancel()
        with suppress(asyncio.CancelledError):
            await self._agent_task

    async def _keep_agent_alive(self) -> None:
        """Run the agent; when it dies, what serves goes on serving and the agent starts again."""
        pause_s = RESTART_MIN_S
        while True:
            try:
                return await self._agent.run()
            except Exception:  # noqa: BLE001 a defect of the agent must not end the serving
                _log.exception("the agent failed; it starts again in %.0f s", pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_MAX_S)


class FileAgent:
    """Serves one given file and never changes it: for benches, tests and a first look."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        metrics: Metrics,
        backend: Backend,
        path: Path,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._metrics = metrics
        self._backend = backend
        self._path = path
        self._started_at = unix_now()
        self._boot_id = uuid.uuid4().hex

    async def run(self) -> None:
        """Load the file and put it into service.

        Raises:
            LoadError: it cannot be loaded.
        """
        serving = await asyncio.to_thread(self._load)
        self._metrics.activate(serving.served.revision)
        self._registry.switch(serving)
        _log.info("serving %s as '%s'", self._path.name, serving.name)

    def status(self) -> StatusReport:
        """Tell what serves."""
        serving = self._registry.current
        return StatusReport(
            unit=self._settings.unit,
            runtime_version=__version__,
            boot_id=self._boot_id,
            started_at=self._started_at,
            now=unix_now(),
            serving=serving.served if serving else None,
            counters=self._metrics.counters(),
        )

    async def stop(self) -> None:
        """Do nothing: `run` ends by itself."""

    def _load(self) -> ServingModel:
        with self._path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        model_format = _FORMATS.get(self._path.suffix, Format.ONNX)
        execution = Execution(profile="cpu")
        request = LoadRequest(self._path, model_format, execution, self._settings.threads)
        model = self._backend.load(request)
        name = self._settings.model_name
        served = _served(name, sha256, model)
        return ServingModel(name, served, model, self._batching())

    def _batching(self) -> Batching | None:
        size = self._settings.batch_max_size
        return Batching(max_size=size, mode=self._settings.batch_mode) if size > 1 else None


def _served(name: str, sha256: str, model: Model) -> Served:
    """Describe a file that no rollout brought: its hash is its revision and its version."""
    version = sha256[:10]
    served = ServedModel(
        version=version, variant="file", sha256=sha256, acceleration=model.acceleration
    )
    return Served(revision=version, since=unix_now(), models={name: served})


async def serve(settings: Settings, model_file: Path | None = None) -> None:
    """Run a process until SIGTERM or SIGINT; a model file given here makes an agent needless.

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


def _build_agent(
    settings: Settings, registry: Registry, metrics: Metrics, model_file: Path | None
) -> Agent:
    """Return what decides which model serves."""
    backend = backend_of(settings.engine)
    if model_file is not None:
        return FileAgent(settings, registry, metrics, backend, model_file)
    from skerry_runtime.agent.agent import Agent as ClusterAgent  # noqa: PLC0415 only here needed

    return ClusterAgent(settings, registry, metrics, backend)


def _interceptors(observer: Observer, tokens: Tokens | None) -> list[grpc.aio.ServerInterceptor]:
    """Return what stands before the gRPC methods; first what sees refusals as well."""
    found: list[grpc.aio.ServerInterceptor] = []
    if observer.is_needed:
        found.append(ObservingInterceptor(observer))
    return found if tokens is None else [*found, TokenInterceptor(tokens)]


def _listener_limits(settings: Settings) -> ListenerLimits:
    handshakes = HandshakeLimits(settings.handshake_timeout_s, settings.max_handshakes)
    return ListenerLimits(
        settings.max_header_bytes, settings.max_connections, settings.read_timeout_s, handshakes
    )


def _rpc_limits(settings: Settings) -> RpcLimits:
    return RpcLimits(
        max_message_bytes=settings.max_body_bytes,
        max_buffered_bytes=settings.max_buffered_bytes,
        max_header_bytes=settings.max_header_bytes,
        max_calls=settings.max_connections,
        handshake_timeout_s=settings.handshake_timeout_s,
        max_dimensions=settings.max_dimensions,
        max_tensors=settings.max_tensors,
    )


def _bind_rpc(server: grpc.aio.Server, host: str, port: int, tls: Tls | None) -> int:
    """Bind the port and return it; gRPC's own error has no type to catch.

    Raises:
        OSError: the address is in use, or not ours.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials(tls)))
    except RuntimeError as error:
        raise OSError(f"gRPC cannot bind {address}") from error
