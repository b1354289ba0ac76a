"""Let one run at a time do what two would spoil."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skerry_cluster.progress import step


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when its holder ends, however it ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting for another run of this program"):
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
