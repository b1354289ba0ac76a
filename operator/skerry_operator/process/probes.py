"""Liveness, readiness and metrics over HTTP, and the watchdog behind liveness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import aiohttp
from aiohttp import web

from skerry_operator.kube.tables import Cache
from skerry_operator.process.definitions import Definitions
from skerry_operator.telemetry import Telemetry


class Watchdog:
    """Tells when the operator looks alive and is not.

    What is measured, and what is not: the API server ends every watch after WATCH_S seconds, so a
    stream that works begins a new request at least that often. The time since the last one is the
    measure, per stream. A stream that hangs, or whose task ended without a word, is found by it;
    one that is connected but delivers only some of the events is not. Also measured: the age of
    the oldest reconcile that has not ended. That the event loop turns at all is shown by the
    probe's answer itself.
    """

    def __init__(self, silence_s: float, oldest_reconcile_s: Callable[[], float]) -> None:
        self._silence_s = silence_s
        self.oldest_reconcile_s = oldest_reconcile_s
        self._begun: dict[str, float] = {}

    def begun(self, path: str, now: float) -> None:
        """Note that a watch request begins."""
        self._begun[path] = now

    @property
    def streams(self) -> int:
        """How many watches were ever begun."""
        return len(self._begun)

    def problem(self, now: float) -> str | None:
        """Return what is wrong, or None."""
        for path, at in sorted(self._begun.items()):
            if now - at > self._silence_s:
                return f"the watch of {path} was not renewed for {now - at:.0f} s"
        age = self.oldest_reconcile_s()
        return f"a reconcile has not ended for {age:.0f} s" if age > self._silence_s else None

    def trace(self) -> aiohttp.TraceConfig:
        """Return what notes every watch request of an HTTP session."""
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._on_request_start)
        return trace

    async def _on_request_start(
        self,
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        request: aiohttp.TraceRequestStartParams,
    ) -> None:
        if request.url.query.get("watch") == "true":
            self.begun(request.url.path, asyncio.get_running_loop().time())


class Probes:
    """The HTTP server of /healthz, /readyz and /metrics."""

    def __init__(
        self,
        watchdog: Watchdog,
        telemetry: Telemetry,
        cache: Cache,
        expected_streams: int,
        definitions: Definitions,
    ) -> None:
        self._watchdog = watchdog
        self._telemetry = telemetry
        self._cache = cache
        self._expected_streams = expected_streams
        self._definitions = definitions
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        """Listen on all addresses."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        problem = self._watchdog.problem(asyncio.get_running_loop().time())
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        """Ready once every watch is open; a process that waits for the Lease is ready too.

        Definitions that are not the operator's own are told, and are no reason to be unready: the
        operator works on, and people would lose their rollbacks to a hint.
        """
        missing = self._expected_streams - self._watchdog.streams
        text = f"{missing} watches are not open yet" if missing > 0 else "ok"
        if self._definitions.problem:
            text = f"{text}; {self._definitions.problem}"
        return web.Response(text=text, status=503 if missing > 0 else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        self._telemetry.longest_running_seconds.set(self._watchdog.oldest_reconcile_s())
        info = self._telemetry.deployment_info
        info.clear()
        for entry in self._cache.deployments:
            info.labels(*entry.key, entry.value["status"].get("phase") or "Pending").set(1)
        return web.Response(
            body=self._telemetry.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )
