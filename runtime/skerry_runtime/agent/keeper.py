"""Has the site's cache keep what this pod serves, and brings it what it lacks.

So a pod that is made anew finds its model at the site, also where the cache was empty when the
model came: it was new, or its volume was lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

from skerry_runtime.agent.goal import Blob, Goal
from skerry_runtime.agent.stages import Stages

log = logging.getLogger(__name__)


class SiteKeeper:
    """Pins, now and then, the files of the goals that count."""

    def __init__(self, stages: Stages, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages = stages
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._kept: frozenset[tuple[str, str]] = frozenset()
        self._again_at = 0.0

    def look(self, goals: Iterable[Goal]) -> None:
        """Begin to pin in the background, if it is time to or there is news."""
        if self._task is not None and not self._task.done():
            return
        blobs = {
            (file.url, blob.sha256): blob
            for goal in goals
            for blob in goal.blobs
            if (file := self._stages.site.file(blob.sha256))
        }
        wanted = frozenset(blobs)
        if not wanted or (wanted == self._kept and self._clock() < self._again_at):
            return
        self._kept = wanted
        self._again_at = self._clock() + self._spread(self._stages.tuning.site_keep_s)
        self._task = asyncio.create_task(self._keep(list(blobs.values())))

    async def halt(self) -> None:
        """Break off what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _keep(self, blobs: list[Blob]) -> None:
        for blob in blobs:
            try:
                is_kept = await self._keep_one(blob)
            except OSError as err:
                log.warning("%s was not read for the site cache: %s", blob.path, err.strerror)
                is_kept = False
            if not is_kept:
                soon = self._clock() + self._spread(self._stages.tuning.site_retry_s)
                self._again_at = min(self._again_at, soon)

    async def _keep_one(self, blob: Blob) -> bool:
        """Pin a file, and bring it first if need be; tell whether it is kept there."""
        from skerry_runtime.agent.siteclient import SiteClient  # noqa: PLC0415 (few pods need it)
        from skerry_runtime.agent.sitesource import file_chunks  # noqa: PLC0415

        file, path = self._stages.site.file(blob.sha256), self._stages.slots.path(blob)
        if file is None or not path.is_file():
            return False
        client = SiteClient(file, self._stages.tuning)
        found = await client.pin()
        if found is not False:
            return bool(found)
        size = path.stat().st_size
        offer = await client.offer(size)
        if offer.state != "fetch":
            return False  # another brings it: pin it later
        first = min(offer.at, size)
        if not await client.feed(offer, (first, size), file_chunks(path, first, size)):
            await client.release(offer)
            return False
        log.info("brought %s to the site cache", blob.sha256)
        return bool(await client.pin())

    def _spread(self, seconds: float) -> float:
        return seconds * (0.8 + 0.4 * random.random())  # noqa: S311 (jitter)
