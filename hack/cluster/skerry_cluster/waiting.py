"""Wait for a condition, with a limit."""

import time
from collections.abc import Callable

from skerry_cluster.command import ClusterError


def wait_until(what: str, is_true: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Poll until `is_true` answers True.

    Raises:
        ClusterError: after `timeout_s`, naming `what` was awaited.
    """
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise ClusterError(f"gave up after {timeout_s:.0f} s waiting for {what}")
        time.sleep(0.1)
