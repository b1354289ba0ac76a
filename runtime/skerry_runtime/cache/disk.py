"""The files of the cache on its volume. Every function blocks."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry_runtime.cache.ledger import Key

SHA256 = re.compile(r"[0-9a-f]{64}")
_PORTION = re.compile(r"([a-z0-9][-a-z0-9]{0,62})\.([0-9a-f]{64})")
_CHUNK = 1024 * 1024
_BOOK = "book.json"
_MAX_BOOK_BYTES = 16 * 1024 * 1024


class Disk:
    """Whole files in one folder, begun ones in another, and the book beside them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._whole = root / "whole"
        self._begun = root / "begun"

    def open(self) -> tuple[dict[str, int], dict[Key, int]]:
        """Make the folders; return the sizes of whole files and of begun ones.

        What else lies there is left alone, and counts for nothing.

        Raises:
            OSError: the volume cannot be written.
        """
        for folder in (self._whole, self._begun):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = {n: s for n, s in _sizes(self._whole).items() if SHA256.fullmatch(n)}
        begun = {
            (found[1], found[2]): size
            for name, size in _sizes(self._begun).items()
            if (found := _PORTION.fullmatch(name))
        }
        return whole, begun

    def whole(self, sha256: str) -> Path:
        """Return where a whole file lies."""
        return self._whole / sha256

    def begun(self, key: Key) -> Path:
        """Return where a begun file lies."""
        return self._begun / f"{key[0]}.{key[1]}"

    def remove(self, what: str | Key) -> None:
        """Delete a file; none is as good."""
        path = self.begun(what) if isinstance(what, tuple) else self.whole(what)
        path.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Return what the volume can still take."""
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

    def read_book(self) -> Mapping[str, Any]:
        """Return what was written last; nothing, if there is none that can be read."""
        try:
            with (self._root / _BOOK).open("rb") as file:
                found = json.loads(file.read(_MAX_BOOK_BYTES))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_book(self, book: Mapping[str, Any]) -> None:
        """Replace the book.

        Raises:
            OSError: it is as it was.
        """
        fresh = self._root / f"{_BOOK}.new"
        with fresh.open("w") as file:
            json.dump(book, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._root / _BOOK)


class Growing:
    """A begun file, open for writing, with the hash of all that is in it."""

    def __init__(self, disk: Disk, key: Key, size: int) -> None:
        """Open it and hash what is to stay of it: its first `size` bytes."""
        self._disk, self._key = disk, key
        self._path = disk.begun(key)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._path, flags, 0o600), "r+b", buffering=0)
        self._file.truncate(size)
        self._digest = hashlib.sha256()
        left = size
        while left and (chunk := self._file.read(min(_CHUNK, left))):
            self._digest.update(chunk)
            left -= len(chunk)

    def append(self, chunk: bytes) -> None:
        """Write what came.

        Raises:
            OSError: the volume is full, or broken.
        """
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self._digest.update(chunk)

    def hexdigest(self) -> str:
        """Return the sha256 of all that is there."""
        return self._digest.hexdigest()

    def land(self) -> None:
        """Make the file a whole one, durably."""
        os.fsync(self._file.fileno())
        target = self._disk.whole(self._key[1])
        self._path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close it; what is there stays for who continues it."""
        self._file.close()


def digest_of(path: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {
            one.name: one.stat(follow_symlinks=False).st_size
            for one in entries
            if one.is_file(follow_symlinks=False)
        }
