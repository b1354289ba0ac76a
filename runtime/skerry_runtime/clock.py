"""The one place of the runtime that reads the wall clock."""

from __future__ import annotations

import time


def unix_now() -> float:
    """Return Unix time in seconds."""
    return time.time()
