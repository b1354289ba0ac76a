"""Files that survive a power cut and are what they seem: atomic writes, careful opens."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import ValidationError

from skerry_runtime.agent.state import Document

D = TypeVar("D", bound=Document)

MEMORY_FILES = Path("/proc/self/fd")
"""Where files without a name are, which this process made in memory."""
_MAX_DOCUMENT_BYTES = 4 * 1024 * 1024


class NotPlain(Exception):  # noqa: N818 (says what the file is)
    """The path is a link, a device, or a file with a second name."""


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file with one name, or one of ours in memory with none; follow no link.

    Raises:
        FileNotFoundError: there is none.
        NotPlain: it is anything else.
    """
    is_in_memory = path.parent == MEMORY_FILES
    follow = 0 if is_in_memory else os.O_NOFOLLOW
    try:
        fd = os.open(path, os.O_RDONLY | follow | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as err:
        raise NotPlain(f"{path.name} is no plain file: {err.strerror}") from err
    try:
        _require_plain(path, os.fstat(fd), names=0 if is_in_memory else 1)
        with os.fdopen(fd, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(fd)


def _require_plain(path: Path, status: os.stat_result, names: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotPlain(f"{path.name} is no regular file")
    if status.st_nlink != names:
        raise NotPlain(f"{path.name} has {status.st_nlink} names: a hard link is refused")


def remove(path: Path) -> None:
    """Remove whatever is there; a link itself and not what it leads to.

    Raises:
        OSError: it is no folder and stays.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def clear_unless_plain(path: Path) -> None:
    """Make way for a file of ours where a link, a folder or a second name of a file is."""
    with suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            remove(path)


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file by this content; after a crash either the old or the new one is there."""
    beside = path.with_name(f".{path.name}.tmp")
    remove(beside)  # left by a crash, or no file at all: a pipe there would block us
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    land(beside, path)


def land(source: Path, target: Path) -> None:
    """Rename durably."""
    source.rename(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in the folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_document(path: Path, document: Document) -> None:
    """Write a document durably."""
    write_atomic(path, document.model_dump_json(by_alias=True).encode())


def read_document(path: Path, kind: type[D]) -> D | None:
    """Read a document; None when there is none, or none that can be read."""
    try:
        with open_plain(path) as file:
            return kind.model_validate_json(file.read(_MAX_DOCUMENT_BYTES))
    except (OSError, NotPlain, ValidationError):
        return None
