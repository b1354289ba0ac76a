"""The corpus of hostile files, each with the verdict that it must end with; all are generated."""

from __future__ import annotations

from pathlib import Path

from hostile import bombs, disguised, external, goldens, graphs
from hostile.building import Case


def cases(canary: Path) -> list[Case]:
    """Return every case; `canary` is a file outside the slots that no model may ever read."""
    return [
        *external.external(canary),
        *disguised.disguised(),
        *disguised.truncated(),
        *disguised.malformed(),
        *bombs.bombs(),
        *bombs.nested(),
        *graphs.broken(),
        *graphs.names(),
        *graphs.weights(goldens.fair()),
        *goldens.flatbuffers(),
        *goldens.goldens(),
    ]
