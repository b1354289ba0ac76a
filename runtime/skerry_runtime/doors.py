"""The three ports of a process: REST, gRPC, and the admin port, from settings to open sockets."""

from __future__ import annotations

import asyncio
import logging
import resource
from dataclasses import dataclass
from functools import partial

import grpc.aio

from skerry_runtime.access import Credentials, Tls, Tokens
from skerry_runtime.dataplane import Dataplane
from skerry_runtime.rest.admin import AdminApp
from skerry_runtime.rest.app import RestApp
from skerry_runtime.rest.body import BodyBudget
from skerry_runtime.rest.codec import Limits
from skerry_runtime.rest.cors import CrossOriginApp
from skerry_runtime.rest.crowd import Places
from skerry_runtime.rest.guard import GuardedApp
from skerry_runtime.rest.handshakes import HandshakeLimits
from skerry_runtime.rest.http import App
from skerry_runtime.rest.hub import ListenerLimits
from skerry_runtime.rest.listener import Listener, bind, bind_all
from skerry_runtime.rest.observed import ObservedApp
from skerry_runtime.rpc.aio import build_server
from skerry_runtime.rpc.guard import TokenInterceptor, credentials
from skerry_runtime.rpc.methods import methods_of
from skerry_runtime.rpc.observed import ObservingInterceptor
from skerry_runtime.rpc.servicer import RpcLimits, Servicer
from skerry_runtime.settings import GrpcServer, RuntimeSettings
from skerry_runtime.trace import Observer

SPARE_FILES = 256
"""Open files of a process besides its clients': models, libraries, the agent's downloads."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ports:
    """Where a running server listens."""

    http: int
    grpc: int
    admin: int


class Doors:
    """Opens the ports, and closes them in an orderly way."""

    def __init__(
        self, dataplane: Dataplane, admin: AdminApp, credentials: Credentials, watch: Observer
    ):
        self._dataplane = dataplane
        self._admin_app = admin
        self._credentials = credentials
        self._observer = watch

    async def open(self, settings: RuntimeSettings) -> Ports:
        """Open all ports and return them.

        Raises:
            OSError: a port is taken.
        """
        _raise_file_limit(settings)
        tls = self._credentials.tls
        self._rpc, grpc_port = self._open_rpc(settings)
        http, admin = bind_all(settings.host, settings.http_port, settings.admin_port)
        budget = BodyBudget(settings.max_body_bytes, settings.max_buffered_bytes)
        self._rest = Listener(
            self._rest_app(settings, budget),
            http,
            rest_limits(settings),
            budget,
            tls.context if tls else None,
        )
        self._admin = Listener(self._admin_app, admin, admin_limits(settings), BodyBudget(0, 0))
        await asyncio.gather(self._rpc.start(), self._rest.start(), self._admin.start())
        return Ports(self._rest.port, grpc_port, self._admin.port)

    def _open_rpc(self, settings: RuntimeSettings) -> tuple[grpc.aio.Server | Listener, int]:
        """Return what speaks gRPC, and its port.

        Raises:
            OSError: the port is taken.
        """
        limits, tls = rpc_limits(settings), self._credentials.tls
        servicer = Servicer(self._dataplane, limits)
        if settings.grpc_server is GrpcServer.GRPCIO:
            interceptors = _interceptors(self._observer, self._credentials.tokens)
            server = build_server(servicer, limits, interceptors)
            return server, _bind_rpc(server, settings.host, settings.grpc_port, tls)
        # An import here, so that a process whose gRPC is grpcio's pays nothing for it.
        from skerry_runtime.front.connection import FrontConnection  # noqa: PLC0415
        from skerry_runtime.front.desk import Desk  # noqa: PLC0415

        budget = BodyBudget(settings.max_body_bytes, settings.max_buffered_bytes)
        desk = Desk(
            methods_of(servicer, limits),
            limits,
            self._credentials.tokens,
            self._observer if self._observer.is_needed else None,
            self._rest_app(settings, budget),
        )
        listener = Listener(
            desk.app,
            bind(settings.host, settings.grpc_port),
            rest_limits(settings),
            budget,
            tls.http2_context if tls else None,
            partial(FrontConnection, desk=desk),
        )
        return listener, listener.port

    def drain(self) -> None:
        """End every REST connection with its next answer; new ones are still taken."""
        self._rest.drain()

    async def close_data_ports(self, timeout_s: float) -> None:
        """Take no more requests for the model, and give those in flight so much time."""
        await asyncio.gather(self._rest.stop(timeout_s), self._rpc.stop(timeout_s))

    async def close_admin_port(self, timeout_s: float) -> None:
        """Take no more questions; it is closed last, so that the end can be watched."""
        await self._admin.stop(timeout_s)

    def _rest_app(self, settings: RuntimeSettings, budget: BodyBudget) -> App:
        """Return what the REST port serves; first what sees refusals as well."""
        limits, tokens = (
            Limits(settings.max_dimensions, settings.max_tensors),
            self._credentials.tokens,
        )
        app: App = RestApp(self._dataplane, budget, limits)
        app = app if tokens is None else GuardedApp(app, tokens)
        if origins := settings.cors_origins:
            app = CrossOriginApp(app, frozenset(origins.split(",")))
        return ObservedApp(app, self._observer) if self._observer.is_needed else app


def rest_limits(settings: RuntimeSettings) -> ListenerLimits:
    """Return what the REST port bears."""
    return ListenerLimits(
        settings.max_header_bytes,
        Places(settings.max_connections),
        settings.read_timeout_s,
        settings.keep_alive_s,
        HandshakeLimits(settings.handshake_timeout_s, settings.max_handshakes),
        settings.min_rate_bytes,
    )


def admin_limits(settings: RuntimeSettings) -> ListenerLimits:
    """Return what the admin port bears: any pod of the cluster reaches it, and probes must."""
    return ListenerLimits(
        settings.max_header_bytes,
        Places(
            settings.max_admin_connections,
            min(settings.max_admin_connections_each, settings.max_admin_connections),
            newcomers_first=True,
        ),
        settings.admin_timeout_s,
        settings.admin_keep_alive_s,
    )


def rpc_limits(settings: RuntimeSettings) -> RpcLimits:
    """Return what the gRPC port bears."""
    return RpcLimits(
        max_message_bytes=settings.max_body_bytes,
        max_buffered_bytes=settings.max_buffered_bytes,
        max_header_bytes=settings.max_header_bytes,
        max_calls=settings.max_connections,
        handshake_timeout_s=settings.handshake_timeout_s,
        max_dimensions=settings.max_dimensions,
        max_tensors=settings.max_tensors,
        idle_timeout_s=settings.keep_alive_s,
        reflects=settings.reflection,
    )


def _raise_file_limit(settings: RuntimeSettings) -> None:
    """Ask for as many open files as there may be connections; the usual 1024 are too few."""
    needed = 2 * settings.max_connections + settings.max_admin_connections
    needed += settings.max_handshakes + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        _log.warning("only %d open files are allowed, all connections need %d", allowed, needed)


def _interceptors(observer: Observer, tokens: Tokens | None) -> list[grpc.aio.ServerInterceptor]:
    """Return what stands before the gRPC methods; first what sees refusals as well."""
    found: list[grpc.aio.ServerInterceptor] = []
    if observer.is_needed:
        found.append(ObservingInterceptor(observer))
    return found if tokens is None else [*found, TokenInterceptor(tokens)]


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
