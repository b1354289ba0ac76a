"""The door that every watched object comes in by: kopf's HTTP answers, cut down as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from typing_extensions import override

from skerry_operator.kube.incoming import LineReader, ListReader
from skerry_operator.kube.paths import PLURALS

_KINDS = {plural: kind for kind, plural in PLURALS.items()}


class Door(aiohttp.ClientResponse):
    """An answer of the API server. Lists and watches of known kinds never stand in memory whole."""

    @override
    async def start(self, connection: Any) -> Door:
        await super().start(connection)
        kind = self._kind
        if kind and self.url.query.get("watch") == "true":
            self.content = _Lines(self.content, kind)  # type: ignore[assignment] # the same to its readers
        return self

    @override
    async def json(self, **options: Any) -> Any:
        kind = self._kind
        if kind is None:
            return await super().json(**options)
        reader = ListReader(kind)
        async for data in self.content.iter_any():
            await _let_others_run(reader, data)
        reader.hurry()
        await _let_others_run(reader, b"")
        return reader.result()

    @property
    def _kind(self) -> str | None:
        """Return the kind of an answer that is a list or a watch."""
        return _KINDS.get(self.url.path.rpartition("/")[2]) if self.status == 200 else None


async def _let_others_run(reader: ListReader, data: bytes) -> None:
    """Read on, and let the event loop turn after every object: a large one takes milliseconds."""
    for _ in reader.feed(data):
        await asyncio.sleep(0)


class _Lines:
    """The stream of a watch, with large lines cut down; all else is that of the real stream."""

    def __init__(self, stream: aiohttp.StreamReader, kind: str) -> None:
        self._stream = stream
        self._reader = LineReader(kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        """Yield whole lines."""
        async for data in self._stream.iter_any():
            for line in self._reader.feed(data):
                yield line
