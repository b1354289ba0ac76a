"""Runs kube/sweep.py: after a watch that had to start anew, and now and then anyway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from skerry_operator.handlers.feed import SELECTOR, KindFeed
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import KubeError
from skerry_operator.kube.sweep import gone, list_existing

SETTLE_S = 2.0
"""A list delivers many objects: wait for it to end, then sweep once."""

log = logging.getLogger(__name__)


class Sweeper:
    """Drops from the cache what no longer exists in the cluster."""

    def __init__(
        self, client: KubeClient, threads: Threads, namespaces: Iterable[str], period_s: float
    ) -> None:
        self._client = client
        self._threads = threads
        self._namespaces = tuple(namespaces)
        self._period_s = period_s
        self._feeds: Mapping[str, KindFeed[Any]] = {}
        self._suspects: set[str] = set()
        self._wake = asyncio.Event()

    def serve(self, feeds: Iterable[KindFeed[Any]]) -> None:
        """Take the feeds whose tables are swept."""
        self._feeds = {feed.kind: feed for feed in feeds}

    def relisted(self, kind: str) -> None:
        """Note that deletions of a kind may have been missed."""
        self._suspects.add(kind)
        self._wake.set()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await self._wait()
            kinds, self._suspects = self._suspects or set(self._feeds), set()
            for kind in sorted(kinds):
                await self._sweep(self._feeds[kind])

    async def _wait(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(self._period_s):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(SETTLE_S)

    async def _sweep(self, feed: KindFeed[Any]) -> None:
        selector = SELECTOR if feed.is_generated else ""
        namespaces = ("",) if feed.kind == "Node" else self._namespaces or ("",)
        try:
            existing = await self._threads.run(
                list_existing, self._client, feed.kind, namespaces, selector
            )
        except KubeError as error:
            log.warning("%s were not compared with the cluster: %s", feed.kind, error)
            return
        for entry in gone(feed.table, existing):
            log.info("%s %s is gone, its deletion was missed", feed.kind, "/".join(entry.key))
            feed.forget(entry.key, entry.uid)
