"""Progress lines: what is done now, and how many seconds have passed."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_STARTED = time.monotonic()
_LOCK = threading.Lock()
LIVENESS_SECONDS = 15.0


def say(message: str) -> None:
    """Print one line with the seconds since the program began."""
    with _LOCK:
        print(f"[{time.monotonic() - _STARTED:6.1f}s] {message}", file=sys.stderr, flush=True)


@contextmanager
def step(message: str) -> Iterator[None]:
    """Announce a piece of work, say every 15 s that it still runs, and how long it took."""
    say(message)
    begun = time.monotonic()
    done = threading.Event()

    def live() -> None:
        while not done.wait(LIVENESS_SECONDS):
            say(f"  ... still: {message} ({time.monotonic() - begun:.0f} s)")

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    taken = time.monotonic() - begun
    if taken >= 1:
        say(f"  done in {taken:.1f} s: {message}")
