"""kopf itself: its settings and login, the feeds of all kinds, and its run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import aiohttp
import kopf
from typing_extensions import override

from skerry_operator.handlers.change import Key
from skerry_operator.handlers.children import node_wakes, owner_wakes, pod_wakes
from skerry_operator.handlers.door import Door
from skerry_operator.handlers.feed import KindFeed, select_generated
from skerry_operator.handlers.resources import model_wakes, resource_wakes
from skerry_operator.kube.client import user_agent
from skerry_operator.kube.read import (
    child_entry,
    deployment_entry,
    model_entry,
    node_entry,
    pod_entry,
    resource_entry,
)
from skerry_operator.kube.tables import Cache

WATCH_S = 240
"""Length of one watch request: a stream that works begins a new one at least that often."""


async def watch(
    feeds: Sequence[KindFeed[Any]],
    trace: aiohttp.TraceConfig,
    *,
    namespaces: Sequence[str],
    stop: asyncio.Event,
    end: Callable[[], Awaitable[None]],
) -> None:
    """Let kopf watch, in all namespaces if none is named, until a signal or the stop flag.

    `trace` sees every request of the watches. `end` is called when the watching is over, before
    kopf waits for, and then cancels, every task that it does not know.
    """
    registry = build_registry(feeds, trace)

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: object) -> None:
        await end()

    await kopf.operator(
        registry=registry,
        settings=build_settings(feeds),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
    )


def build_feeds(
    cache: Cache, add: Callable[[Key], None], relisted: Callable[[str], None]
) -> tuple[KindFeed[Any], ...]:
    """Return one feed per watched kind."""
    sinks: dict[str, Any] = {"add": add, "relisted": relisted}
    generated: dict[str, Any] = {
        "wakes": partial(owner_wakes, cache),
        "is_generated": True,
        **sinks,
    }
    children = (
        KindFeed(kind, table, partial(child_entry, kind), **generated)
        for kind, table in cache.children.items()
    )
    models: KindFeed[Any] = KindFeed(
        "EdgeModel", cache.models, model_entry, partial(model_wakes, cache), **sinks
    )
    deployments: KindFeed[Any] = KindFeed(
        "EdgeDeployment",
        cache.deployments,
        deployment_entry,
        partial(resource_wakes, "EdgeDeployment"),
        **sinks,
    )
    nodes: KindFeed[Any] = KindFeed(
        "Node", cache.nodes, node_entry, partial(node_wakes, cache), **sinks
    )
    pods: KindFeed[Any] = KindFeed(
        "Pod", cache.pods, pod_entry, partial(pod_wakes, cache), is_generated=True, **sinks
    )
    others = (
        KindFeed(kind, table, partial(resource_entry, kind), partial(resource_wakes, kind), **sinks)
        for kind, table in cache.resources.items()
        if kind not in {"EdgeModel", "EdgeDeployment"}
    )
    return (models, deployments, nodes, pods, *children, *others)


def build_registry(
    feeds: Iterable[KindFeed[Any]], trace: aiohttp.TraceConfig
) -> kopf.OperatorRegistry:
    """Return kopf's registry: a login, and for each kind an index and an event handler."""
    registry = kopf.OperatorRegistry()
    for feed in feeds:
        feed.register(registry)

    @kopf.on.login(registry=registry)
    async def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.AiohttpSession | None:
        return _session(settings, trace)

    return registry


class NoEssence(kopf.DiffBaseStorage):
    """Keeps nothing of an object to compare it with later.

    Kopf copies every object of every event for that, and no handler here asks what has changed:
    a fifth of what an event costs.
    """

    @override
    def build(
        self, *, body: kopf.Body, extra_fields: Iterable[object] | None = None
    ) -> kopf.BodyEssence:
        """Return the part of an object that counts: none."""
        return kopf.BodyEssence()

    @override
    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return what was kept: nothing."""
        return None

    @override
    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing: objects of users get no annotation of ours."""


def build_settings(feeds: Iterable[KindFeed[Any]]) -> kopf.OperatorSettings:
    """Return kopf's settings: it watches and writes nothing.

    No finalizer, annotation or event of kopf is ever written: they belong to handlers that are
    not used here. `queueing.worker_limit` stays unset: below the number of indexed objects it
    would block the start for ever.
    """
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = WATCH_S
    settings.watching.connect_timeout = 10.0
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30.0
    settings.networking.enforce_retry_after = True
    settings.queueing.idle_timeout = 1.0
    settings.process.ultimate_exiting_timeout = 60.0
    settings.persistence.diffbase_storage = NoEssence()
    select_generated(settings, feeds)
    return settings


def _session(
    settings: kopf.OperatorSettings, trace: aiohttp.TraceConfig
) -> kopf.AiohttpSession | None:
    """Return an HTTP session of the same credentials as kube/client.py, seen by the trace."""
    in_cluster = "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ
    read = kopf.login_with_service_account if in_cluster else kopf.login_with_kubeconfig
    info = read(settings=settings)
    if info is None:
        return None
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers={**info.as_http_headers(), "User-Agent": user_agent()},
        trace_configs=[trace],
        response_class=Door,
    )
    return kopf.AiohttpSession(
        server=info.server, default_namespace=info.default_namespace, aiohttp_session=session
    )
