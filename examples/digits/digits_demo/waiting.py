"""Waits for conditions, each with a deadline; never for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from digits_demo.errors import DemoError

POLL_S = 0.1
T = TypeVar("T")


def wait_for(look: Callable[[], T | None], what: str, *, timeout_s: float, remedy: str = "") -> T:
    """Return the first answer that is not None.

    Raises:
        DemoError: none came before the deadline.
    """
    deadline = time.monotonic() + timeout_s
    while (answer := look()) is None:
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {timeout_s:.0f} s", remedy)
        time.sleep(POLL_S)
    return answer
