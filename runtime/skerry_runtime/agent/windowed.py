"""A source beyond the line, which is asked while its window is open, and not else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skerry_runtime.agent.pace import DownloadPace, WindowShut
from skerry_runtime.agent.sources.base import Begun, ByteSource, Stream


class WindowedSource:
    """Asks another source, for one revision."""

    def __init__(self, source: ByteSource, pace: DownloadPace, revision: str) -> None:
        self._source = source
        self._pace = pace
        self._revision = revision

    @property
    def is_shut(self) -> bool:
        """Tell whether it is not to be asked now."""
        return self._pace.is_shut(self._revision)

    @asynccontextmanager
    async def open(self, begun: Begun, /) -> AsyncIterator[Stream]:
        """See `ByteSource.open`.

        Raises:
            WindowShut: it is not to be asked now.
        """
        if self.is_shut:
            raise WindowShut
        async with self._source.open(begun) as stream:
            yield stream
