"""What a job tells while it works: one line of JSON for each thing that happens."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

Say = Callable[..., None]
"""Called with the name of an event and its figures."""


def say(event: str, **figures: object) -> None:
    """Write an event to the log, at once."""
    sys.stdout.write(json.dumps({"event": event, **figures}, default=str) + "\n")
    sys.stdout.flush()
