"""Downloads one file: resumed, hashed while it streams, landed by an atomic rename.

Where the bytes come from is a source's business (`sources`); what becomes of them is decided here.
Blocking file work runs in the agent's thread, so that the event loop goes on serving.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from skerry_runtime.agent.pace import DownloadPace, WindowShut
from skerry_runtime.agent.part import Part
from skerry_runtime.agent.ports import MIB, Tuning
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.site import SiteLink
from skerry_runtime.agent.sources import source_of
from skerry_runtime.agent.sources.base import (
    Begun,
    BrokenOff,
    ByteSource,
    Order,
    Stream,
    Unresumable,
)
from skerry_runtime.agent.sources.keyring import Keyring, read_keyring
from skerry_runtime.agent.urls import shown
from skerry_runtime.agent.windowed import WindowedSource
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import FailureReason, size_text

_CHUNK = MIB
_FLUSH_S = 2.0

_log = logging.getLogger(__name__)

OnProgress = Callable[[int, int | None], None]
"""Called with the bytes on disk and the bytes in all, if known."""
Turn = Callable[[int], Awaitable[float]]
"""Waits for the turn of so many bytes; returns the seconds that it waited."""


@dataclass(frozen=True)
class Download:
    """What to fetch, and where to."""

    uri: str
    sha256: str
    part: Path
    target: Path
    secret: str | None = None
    """The Secret with credentials for the source."""
    revision: str = ""
    """What it is fetched for."""


class _Flow:
    """Watches that bytes keep coming at a rate at which the file ends some day."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._since = time.monotonic()
        self._bytes = 0

    def note(self, count: int) -> None:
        """Count bytes.

        Raises:
            BrokenOff: a whole window brought too few: the source is as good as silent.
        """
        self._bytes += count
        if time.monotonic() - self._since < self._tuning.trickle_window_s:
            return
        if self._bytes < self._tuning.trickle_bytes:
            window = f"{self._tuning.trickle_window_s:g} s"
            raise BrokenOff(f"only {self._bytes} bytes came within {window}")
        self._since, self._bytes = time.monotonic(), 0

    def excuse(self, seconds: float) -> None:
        """Leave out time in which nobody asked for more bytes."""
        self._since += seconds


class Fetcher:
    """Fetches files; `free_bytes` tells how much more the slots can hold."""

    def __init__(
        self,
        tuning: Tuning,
        worker: Worker,
        free_bytes: Callable[[], int],
        pace: DownloadPace | None = None,
        site: SiteLink | None = None,
    ) -> None:
        self._tuning = tuning
        self._worker = worker
        self._free_bytes = free_bytes
        self._pace = pace or DownloadPace()
        self._site = site or SiteLink()

    async def fetch(self, download: Download, on_progress: OnProgress) -> None:
        """Bring the file to its target, going on from what an earlier try left.

        Raises:
            Refused: FetchFailed, DigestMismatch or InsufficientDisk; the last leaves no byte.
            Transient: the source may answer later; what arrived is kept.
            WindowShut: it is not to go on now; what arrived is kept.
        """
        order = Order(download.uri, download.sha256, await self._credentials(download.secret))
        buffer = {"receive_buffer_bytes": self._pace.buffer_bytes}
        source = self._near(source_of(order, self._tuning.model_copy(update=buffer)), download)
        async with self._part(download) as part:
            was_resumed = part.size > 0
            digest = await self._whole(source, download, part, on_progress)
            is_wrong = digest != download.sha256
            if is_wrong and (await self._site.blame(source, download.sha256) or was_resumed):
                # The begun bytes may be damaged or of another version, or the site's cache lies:
                # once more, from the start.
                await self._worker.run(part.restart)
                digest = await self._whole(source, download, part, on_progress)
            if digest != download.sha256 and await self._site.blame(source, download.sha256):
                await self._worker.run(part.restart)
                digest = await self._whole(source, download, part, on_progress)
            if digest != download.sha256:
                await self._worker.run(part.restart)
                # Who may only write an EdgeModel must not learn here what an address answers.
                _log.error("%s has sha256 %s", shown(download.uri), digest)
                raise Refused(FailureReason.DIGEST_MISMATCH, _mismatch(download))
            await self._worker.run(part.land, download.target)

    def _near(self, source: ByteSource, download: Download) -> ByteSource:
        """Return a source that asks the site's cache first; a volume is no farther than that."""
        if download.uri.startswith("pvc:"):
            return source
        beyond = WindowedSource(source, self._pace, download.revision)
        return self._site.before(beyond, download.sha256, download.part, self._tuning)

    async def _credentials(self, secret: str | None) -> Keyring | None:
        if secret is None:
            return None
        return await self._worker.run(read_keyring, self._tuning.sources_dir, secret)

    @asynccontextmanager
    async def _part(self, download: Download) -> AsyncIterator[Part]:
        part = Part(download.part, download.uri)
        try:
            await self._worker.run(part.open)
            yield part
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            await self._worker.run(part.drop)
            raise Refused(FailureReason.INSUFFICIENT_DISK, "the disk ran full") from err
        except Refused as err:
            if err.reason is FailureReason.INSUFFICIENT_DISK:
                await self._worker.run(part.drop)  # the node needs the space more than a resume
            raise
        finally:
            self._worker.submit(part.close)  # behind what a cancellation left running

    async def _whole(
        self, source: ByteSource, download: Download, part: Part, on_progress: OnProgress
    ) -> str:
        """Stream until every byte is on disk; return the digest."""
        try:
            try:
                await self._stream(source, download, part, on_progress)
            except Unresumable:
                await self._worker.run(part.restart)
                await self._stream(source, download, part, on_progress)
        except BrokenOff as err:
            _log.warning("GET %s: %s", shown(download.uri), err)
            raise Transient(f"GET {shown(download.uri)}: {err}") from err
        return await self._worker.run(part.hexdigest)

    async def _stream(
        self, source: ByteSource, download: Download, part: Part, on_progress: OnProgress
    ) -> None:
        begun = await self._worker.run(lambda: Begun(part.size, part.etag if part.size else ""))
        async with source.open(begun) as stream:
            if stream.is_complete:
                return
            if stream.start == 0:
                await self._worker.run(part.restart)
            await self._require_room(part, stream.total)
            await self._worker.run(part.describe, stream.etag)
            await self._copy(stream, part, on_progress, self._turn(download, source))
            _require_whole(download.uri, part, stream.total)

    def _turn(self, download: Download, source: ByteSource) -> Turn:
        """Return what the bytes of a download wait for.

        Those of a volume and of the site's cache come over no line.
        """
        if download.uri.startswith("pvc:"):
            return _at_once

        async def turn(count: int) -> float:
            if getattr(source, "is_near", False):
                return 0.0
            return await self._pace.took(count, download.revision)

        return turn

    async def _copy(self, stream: Stream, part: Part, on_progress: OnProgress, turn: Turn) -> None:
        on_progress(part.size, stream.total)
        async for piece in _pieces(stream.chunks, _Flow(self._tuning), turn):
            if stream.total is not None and part.size + len(piece) > stream.total:
                await self._worker.run(part.restart)
                raise Transient("the source sent more bytes than it declared")
            await self._worker.run(part.append, piece)
            on_progress(part.size, stream.total)
            await self._require_room(part, stream.total)

    async def _require_room(self, part: Part, total: int | None) -> None:
        """Check that what is still to come leaves the reserve alone."""
        coming = (total - part.size) if total is not None else 0
        free = await self._worker.run(self._free_bytes)
        if coming <= free - self._tuning.disk_reserve_bytes:
            return
        size, reserve = total or part.size, self._tuning.disk_reserve_bytes
        raise Refused(
            FailureReason.INSUFFICIENT_DISK,
            f"the file has {size_text(size)}, {size_text(coming)} of it are still to come, but "
            f"only {size_text(max(0, free))} are free, of which {size_text(reserve)} stay "
            "reserved: "
            "raise the size limit of the slots' volume, or free space on the node",
        )


async def _at_once(_: int) -> float:
    return 0.0


async def _pieces(chunks: AsyncIterator[bytes], flow: _Flow, turn: Turn) -> AsyncIterator[bytes]:
    """Yield what comes in pieces that are worth a thread's turn; the last ones also on an error.

    On a slow line a piece is what came in a few seconds: little is lost when the download is broken
    off, and people see that it moves.
    """
    buffer, since = bytearray(), time.monotonic()
    try:
        async for data in chunks:
            buffer += data
            flow.note(len(data))
            flow.excuse(await turn(len(data)))
            if len(buffer) >= _CHUNK or time.monotonic() - since >= _FLUSH_S:
                yield bytes(buffer)
                buffer.clear()
                since = time.monotonic()
    except (BrokenOff, WindowShut):
        if buffer:
            yield bytes(buffer)  # kept for a resume
        raise
    if buffer:
        yield bytes(buffer)


def _require_whole(uri: str, part: Part, total: int | None) -> None:
    if total is not None and part.size < total:
        raise Transient(f"GET {shown(uri)}: ended after {part.size} of {total} bytes")


def _mismatch(download: Download) -> str:
    return (
        f"{shown(download.uri)} has another sha256 than {download.sha256}, which the spec names: "
        "the file was changed at its source, or the spec is wrong; the pod's log has its sha256"
    )
