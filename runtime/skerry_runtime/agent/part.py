"""A download under way: bytes on disk, their running digest, and what they are of."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from skerry_runtime.agent.files import clear_unless_plain, land, read_document, write_document
from skerry_runtime.agent.state import Document

_CHUNK = 1024 * 1024


class PartInfo(Document):
    """Where the bytes came from; a resume from the same place can name their version."""

    uri_sha256: str
    etag: str = ""


class Part:
    """A file that grows. Every method blocks; not for the event loop."""

    def __init__(self, path: Path, uri: str) -> None:
        """Name the file; `open` comes next, and `close` last, whatever became of `open`."""
        self._path = path
        self._info_path = path.with_name(f"{path.name}.json")
        self._uri_sha256 = hashlib.sha256(uri.encode()).hexdigest()
        self._file: BinaryIO
        self._digest = hashlib.sha256()
        self.size = 0

    def open(self) -> None:
        """Open what an earlier try left, and hash it; or begin an empty file."""
        clear_unless_plain(self._path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._path, flags, 0o600), "r+b")
        while chunk := self._file.read(_CHUNK):
            self._count(chunk)

    @property
    def etag(self) -> str:
        """Strong entity tag under which the bytes on disk were sent by this very URI, or ""."""
        info = read_document(self._info_path, PartInfo)
        return info.etag if info and info.uri_sha256 == self._uri_sha256 else ""

    def describe(self, etag: str) -> None:
        """Remember what the bytes that follow are of."""
        strong = "" if etag.startswith("W/") else etag
        write_document(self._info_path, PartInfo(uri_sha256=self._uri_sha256, etag=strong))

    def append(self, chunk: bytes) -> None:
        """Write and count a chunk."""
        self._file.write(chunk)
        self._count(chunk)

    def restart(self) -> None:
        """Forget every byte."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.size = 0

    def drop(self) -> None:
        """Give the space back; what a full disk did not take goes when the file is closed."""
        self._path.unlink(missing_ok=True)
        self._info_path.unlink(missing_ok=True)

    def hexdigest(self) -> str:
        """Return the sha256 of all bytes so far."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file, if it was opened; the bytes stay for the next try."""
        if hasattr(self, "_file"):
            self._file.close()

    def land(self, target: Path) -> None:
        """Make the file durable under its final name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_unless_plain(target)
        land(self._path, target)
        self._info_path.unlink(missing_ok=True)

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
