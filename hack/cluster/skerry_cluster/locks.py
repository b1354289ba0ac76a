"""Let one run at a time do what two would spoil."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from skerry_cluster.progress import step


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when its holder ends, however it ends."""
    with _held(lock):
        yield


def _held(lock: Path) -> TextIO:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting for another run of this program"):
                fcntl.flock(file, fcntl.LOCK_EX)
        if _is_still(lock, file):
            return file
        file.close()  # the cache was deleted meanwhile: others would lock another file


def _is_still(lock: Path, file: TextIO) -> bool:
    """Say whether the path still names the open file."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
