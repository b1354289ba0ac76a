"""The life of the operator process: everything is built once here, started, and ended in order."""

from __future__ import annotations

import asyncio
import logging
import time
from random import Random

from skerry_operator.clock import Clock
from skerry_operator.handlers.change import Key
from skerry_operator.handlers.watch import build_feeds, watch
from skerry_operator.kube.causes import EventReader
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.events import Recorder
from skerry_operator.kube.lease import Elector, LeaseLost, LeaseName
from skerry_operator.kube.paths import BUILDS, CHILDREN
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer
from skerry_operator.metricsource.prometheus import Prometheus, PrometheusAddress
from skerry_operator.process.definitions import Definitions
from skerry_operator.process.probes import Probes, Watchdog
from skerry_operator.process.queue import Backlog, Workers
from skerry_operator.process.sites import SiteKeeping
from skerry_operator.process.status_proxy import ProxyFetch
from skerry_operator.process.sweeper import Sweeper
from skerry_operator.reconcile import Edges, JobLimits, Planner, Reconciler
from skerry_operator.reports.base import DeploymentKey
from skerry_operator.reports.cadence import Cadence
from skerry_operator.reports.fetch import HttpFetch
from skerry_operator.reports.poller import Clocks, Poller
from skerry_operator.settings import Settings, StatusAccess
from skerry_operator.telemetry import Telemetry

STOP_WITHIN_S = 20.0
"""Time for reconciles under way when the process is told to end; below the pod's own 30 s."""

PROXY_THREADS = 16
"""Pods that are read at one time through the API server; apart from the writers' threads."""

log = logging.getLogger(__name__)


class Operator:
    """One operator process. To be made inside a running event loop."""

    def __init__(
        self,
        settings: Settings,
        planner: Planner,
        *,
        client: KubeClient,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._settings = settings
        self._client = client
        self._telemetry = telemetry
        self._stop = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._exit_status = 0
        self._is_ended = False
        builds = BUILDS if settings.optimize else ()
        self._cache = Cache(telemetry=telemetry, generated=(*CHILDREN, *builds))
        self._threads = Threads()
        self._fetch = self._build_fetch()
        self._prometheus = self._build_prometheus()
        self._elector = self._build_elector(clock) if settings.lease else None
        self._poller = self._build_poller(clock)
        self._sites = SiteKeeping(
            settings,
            client,
            self._threads,
            lambda: [entry.value for entry in self._cache.nodes],
            self._wake_all,
        )
        self._reconciler = Reconciler(self._build_edges(clock), planner)
        self._workers = Workers(
            Backlog(Random()),  # noqa: S311 (jitter, no secret)
            self._reconcile,
            settings.workers,
            telemetry,
        )
        self._sweeper = Sweeper(
            client, self._threads, settings.namespaces, settings.resync_period_seconds
        )
        self._feeds = build_feeds(self._cache, self._workers.add, self._sweeper.relisted)
        self._sweeper.serve(self._feeds)
        self._definitions = Definitions(client, self._threads)
        self._watchdog = Watchdog(settings.silence_seconds, self._workers.oldest_running_s)
        streams = sum(
            1 if feed.kind == "Node" else len(settings.namespaces) or 1 for feed in self._feeds
        )
        self._probes = Probes(self._watchdog, telemetry, self._cache, streams, self._definitions)

    async def run(self) -> int:
        """Run until a signal, or until the Lease is lost; return the exit status."""
        try:
            await self._start()
            await watch(
                self._feeds,
                self._watchdog.trace(),
                namespaces=self._settings.namespaces,
                stop=self._stop,
                end=self._end,
            )
        finally:
            await self._end()
        return self._exit_status

    async def _start(self) -> None:
        if self._settings.metrics_port:
            await self._probes.start(self._settings.metrics_port)
        await self._definitions.wait()
        self._tasks = (
            asyncio.create_task(self._lead(), name="lead"),
            asyncio.create_task(self._sweeper.run(), name="sweep"),
            asyncio.create_task(self._definitions.run(), name="definitions"),
        )

    async def _lead(self) -> None:
        """Work while the Lease is held. Watching goes on without it: a successor starts warm."""
        try:
            async with asyncio.TaskGroup() as group:
                if self._elector:
                    await self._elector.acquire()
                    group.create_task(self._elector.keep())
                self._telemetry.leader.set(1)
                group.create_task(self._workers.run())
                group.create_task(self._poller.run())
                group.create_task(self._sites.run())
        except* Exception as failures:
            for failure in failures.exceptions:
                log.error("this process ends: %s", failure, exc_info=_unexpected(failure))
            self._exit_status = 1
            self._stop.set()
        finally:
            self._telemetry.leader.set(0)

    async def _end(self) -> None:
        """End what is under way, then give the Lease back. Safe to call twice."""
        if self._is_ended:
            return
        self._is_ended = True
        self._stop.set()  # also ends kopf's own wait for it, which kopf would sit out for 5 s
        await self._workers.stop(STOP_WITHIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._elector:
            await self._elector.release()
        await self._probes.stop()
        self._reconciler.close()
        await self._poller.close()
        await self._fetch.close()
        if self._prometheus:
            await self._prometheus.close()
        self._threads.close()
        self._client.close()

    async def _reconcile(self, key: Key) -> float | None:
        kind, namespace, name = key
        return await self._reconciler.reconcile(kind, (namespace, name))

    def _build_fetch(self) -> HttpFetch | ProxyFetch:
        timeout_s = self._settings.status_timeout_seconds
        if self._settings.status_access is StatusAccess.PROXY:
            return ProxyFetch(self._client, Threads(PROXY_THREADS), timeout_s)
        return HttpFetch(timeout_s)

    def _build_poller(self, clock: Clock) -> Poller:
        settings = self._settings
        is_proxy = settings.status_access is StatusAccess.PROXY
        return Poller(
            self._fetch,
            self._telemetry,
            slots=PROXY_THREADS if is_proxy else settings.status_concurrency,
            cadence=Cadence(Random(), settings.idle_period_seconds),  # noqa: S311 (jitter, no secret)
            clocks=Clocks(time.monotonic, clock.now),
            wake=self._wake,
        )

    def _wake(self, deployment: DeploymentKey) -> None:
        self._workers.add(("EdgeDeployment", *deployment))

    def _wake_all(self) -> None:
        for entry in self._cache.deployments:
            self._wake(entry.key)

    def _build_prometheus(self) -> Prometheus | None:
        settings = self._settings
        if not settings.prometheus_url:
            return None
        address = PrometheusAddress(
            settings.prometheus_url,
            settings.prometheus_timeout_seconds,
            settings.prometheus_token_file,
            settings.prometheus_ca_file,
        )
        return Prometheus(address, self._telemetry)

    def _build_elector(self, clock: Clock) -> Elector:
        settings = self._settings
        name = LeaseName(
            settings.lease_namespace,
            settings.lease_name,
            settings.identity,
            settings.lease_owner or "",
        )
        elector = Elector(self._client, name, now=clock.now, monotonic=time.monotonic)
        self._client.fence = elector
        return elector

    def _job_limits(self) -> JobLimits:
        given = self._settings.optimize
        return JobLimits(given.jobs_per_namespace, given.jobs) if given else JobLimits()

    def _build_edges(self, clock: Clock) -> Edges:
        recorder = Recorder(self._client, self._settings.identity, clock.now)
        return Edges(
            cache=self._cache,
            writer=Writer(self._cache, self._client, self._threads, recorder),
            reports=self._poller,
            ask_prometheus=self._prometheus.ask if self._prometheus else None,
            clock=clock,
            telemetry=self._telemetry,
            wake=self._wake,
            job_limits=self._job_limits(),
            caches=lambda: self._sites.caches,
            ask_events=EventReader(self._client, self._threads, clock.now),
        )


def _unexpected(failure: Exception) -> Exception | None:
    """Return the failure when its stack trace says something that its text does not."""
    return None if isinstance(failure, LeaseLost) else failure
