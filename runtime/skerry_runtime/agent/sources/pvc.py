"""pvc://CLAIM/FILE: a file in a volume that is mounted into the pod, read-only.

It is copied into the slots and hashed like any other: what is in a volume may change under us.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from skerry_runtime.agent.ports import MIB, Tuning
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.sources.base import Begun, Order, Stream
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason


class VolumeSource:
    """A file in a volume."""

    def __init__(self, order: Order, tuning: Tuning) -> None:
        self._uri = order.uri
        claim, _, path = order.uri.removeprefix("pvc://").partition("/")
        self._root = tuning.claims_dir / claim
        self._path = unquote(path)
        parts = self._path.split("/")
        if not claim or claim.startswith(".") or any(one in ("", ".", "..") for one in parts):
            raise self._refused("write pvc://CLAIM/FILE")

    @asynccontextmanager
    async def open(self, begun: Begun, /) -> AsyncIterator[Stream]:
        """See `ByteSource.open`."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            file = await asyncio.shield(opening)
        except OSError as err:
            raise self._failed(err) from err
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise
        try:
            found = os.fstat(file.fileno())
            mark = f"{found.st_mtime_ns}-{found.st_size}"
            start = begun.size if begun.etag == mark and begun.size <= found.st_size else 0
            file.seek(start)
            is_complete = start == found.st_size > 0
            yield Stream(self._chunks(file), found.st_size, start, mark, is_complete)
        finally:
            file.close()

    def _open(self) -> BinaryIO:
        """Open the file; a link is followed as long as it stays in the volume."""
        root = self._root.resolve(strict=True)
        place = Path(root, self._path).resolve(strict=True)
        if not place.is_relative_to(root):
            raise self._refused("it is a link that leads out of the volume")
        # A pipe must not be waited for; and what is last in the way is no link any more.
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._refused("it is no plain file")
        return os.fdopen(fd, "rb")

    async def _chunks(self, file: BinaryIO) -> AsyncIterator[bytes]:
        try:
            while chunk := await asyncio.to_thread(file.read, MIB):
                yield chunk
        except OSError as err:
            raise self._failed(err) from err

    def _failed(self, err: OSError) -> Refused | Transient:
        match err:
            case FileNotFoundError() | NotADirectoryError():
                return self._refused("there is no such file in the volume")
            case PermissionError():
                return self._refused("user 65532 may not read it: make it readable for others")
            case _:
                return Transient(f"{shown(self._uri)}: the volume does not answer: {err.strerror}")

    def _refused(self, text: str) -> Refused:
        return Refused(FailureReason.FETCH_FAILED, f"{shown(self._uri)}: {text}")


def source(order: Order, tuning: Tuning) -> VolumeSource:
    """Return the source of a file in a volume.

    Raises:
        Refused: FetchFailed: the address names none.
    """
    return VolumeSource(order, tuning)


def _close(opening: asyncio.Future[BinaryIO]) -> None:
    """Close a file that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
