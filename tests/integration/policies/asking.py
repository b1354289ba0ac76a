"""What the tests of admission policies share: names, and how they wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from skerry_operator.kube.client import KubeClient

SYSTEM = "skerry-system"
NAMESPACE = "shop"
WITHIN_S = 60.0
As = Callable[..., KubeClient]
Install = Callable[..., None]


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Return the first true value: a policy counts a moment after it is there."""
    end = time.monotonic() + WITHIN_S
    while not (value := look()):
        assert time.monotonic() < end, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.1)
    return value
