"""A file from the site's cache, or from its source: then the cache is fed with what comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from skerry_runtime.agent.siteclient import ALONE, AS_IT_IS, STALL_S, SiteClient, SiteOffer
from skerry_runtime.agent.sources.base import Begun, Stream, Unresumable
from skerry_runtime.agent.windowed import WindowedSource

MAX_FUTILE = 3
"""Times in a row that the cache may promise a file and give no byte of it."""
_QUEUED = 8
_CHUNK = 256 * 1024

log = logging.getLogger(__name__)


class SiteFirst:
    """Asks the cache, and the source where that does not help."""

    def __init__(self, source: WindowedSource, client: SiteClient, part: Path) -> None:
        self._source = source
        self._client = client
        self._part = part
        self._is_off = False
        self.is_near = False
        """The bytes that come now come over no line."""
        self.has_given = False
        """The cache has given bytes."""

    async def give_up(self) -> None:
        """Leave the cache out from now on, and tell it that its file may be damaged."""
        self._is_off = True
        if self.has_given:
            await self._client.doubt()

    @asynccontextmanager
    async def open(self, begun: Begun, /) -> AsyncIterator[Stream]:
        """See `ByteSource.open`."""
        async with AsyncExitStack() as stack:
            yield await self._opened(stack, begun)

    async def _opened(self, stack: AsyncExitStack, begun: Begun) -> Stream:
        self.is_near = False
        offer = ALONE if self._is_off else await self._offer(begun.size)
        if offer.is_near:
            near = await stack.enter_async_context(self._client.read(begun.size))
            if near is not None:
                self.is_near = True
                return replace(near, chunks=self._follow(stack, near, begun.size), etag="")
        try:
            stream = await stack.enter_async_context(self._source.open(begun))
        except BaseException:
            await self._client.release(offer)
            raise
        return await self._fed(stack, stream, offer, begun.size)

    async def _follow(self, stack: AsyncExitStack, near: Stream, at: int) -> AsyncIterator[bytes]:
        """Yield what the cache has and gets, and the rest from the source."""
        stream: Stream | None = near
        offer, futile = ALONE, 0
        while stream is not None:
            before = at
            async for data in self._client.chunks(stream):
                self.has_given = True
                at += len(data)
                yield data
            if near.total is not None and at >= near.total:
                return
            futile = futile + 1 if at == before else 0
            offer = await self._offer(at) if futile < MAX_FUTILE else ALONE
            stream = None
            if offer.is_near:
                stream = await stack.enter_async_context(self._client.read(at))
        self.is_near = False
        async for data in self._rest(stack, near.total, at, offer):
            yield data

    async def _offer(self, at: int) -> SiteOffer:
        """Ask what to do about the file. Who may not fetch it now claims nothing, and reads it."""
        return AS_IT_IS if self._source.is_shut else await self._client.offer(at)

    async def _rest(
        self, stack: AsyncExitStack, total: int | None, at: int, offer: SiteOffer
    ) -> AsyncIterator[bytes]:
        """Yield from the source what the cache did not give.

        Raises:
            Unresumable: the source has another file, or begins anew: so must the download.
        """
        try:
            found = await stack.enter_async_context(self._source.open(Begun(at)))
            if found.start != at or (None not in (total, found.total) and total != found.total):
                self._is_off = True
                raise Unresumable
        except BaseException:
            await self._client.release(offer)
            raise
        fed = await self._fed(stack, found, offer, None)
        async for data in fed.chunks:
            yield data

    async def _fed(
        self, stack: AsyncExitStack, stream: Stream, offer: SiteOffer, on_disk: int | None
    ) -> Stream:
        """Return the source's stream, with the cache fed by it if that is our part.

        `on_disk` is where the stream begins that all bytes before are on disk of; None: nobody
        knows what is written already.
        """
        if offer.state != "fetch":
            return stream
        first = min(offer.at, stream.start)
        has_prefix = stream.start in (first, on_disk)
        if stream.is_complete or stream.total is None or not has_prefix:
            await self._client.release(offer)
            return stream
        feeder = Feeder(self._client, offer, (first, stream.total))
        feeder.begin(self._part, stream.start)
        stack.push_async_callback(feeder.end)
        return replace(stream, chunks=feeder.through(stream.chunks))


class Feeder:
    """Puts into the cache what goes through it; a cache that does not take it is no hindrance."""

    def __init__(self, client: SiteClient, offer: SiteOffer, place: tuple[int, int]) -> None:
        self._client = client
        self._offer = offer
        self._place = place
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED)
        self._task: asyncio.Task[bool] | None = None

    def begin(self, part: Path, start: int) -> None:
        """Begin, with what is on disk before the place where the stream starts."""
        body = self._body(part, start)
        self._task = asyncio.create_task(self._client.feed(self._offer, self._place, body))

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks as they come."""
        async for data in chunks:
            await self._give(data)
            yield data
        await self._give(None)
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STALL_S)

    async def end(self) -> None:
        """Break off what is still under way."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._task is not None and not self._task.cancelled():
            self._task.exception()

    async def _give(self, data: bytes | None) -> None:
        if self._task is None or self._task.done():
            return
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(data)
            return
        putting = asyncio.create_task(self._queue.put(data))
        await asyncio.wait(
            {putting, self._task}, timeout=STALL_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not putting.done():
            putting.cancel()
            self._task.cancel()
            log.warning("the site cache takes too long: it is not fed any more")

    async def _body(self, part: Path, start: int) -> AsyncIterator[bytes]:
        async for data in file_chunks(part, self._place[0], start):
            yield data
        while (data_or_end := await self._queue.get()) is not None:
            yield data_or_end


async def file_chunks(path: Path, first: int, end: int) -> AsyncIterator[bytes]:
    """Yield a part of a file."""
    if first >= end:
        return
    with path.open("rb") as file:
        file.seek(first)
        left = end - first
        while left and (data := await asyncio.to_thread(file.read, min(_CHUNK, left))):
            left -= len(data)
            yield data
