"""What a command says, and the exit status that scripts read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses, the same for every command."""

    OK = 0
    REFUSED = 1
    NO_NODE = 2
    NOT_READY = 3
    TIMED_OUT = 4


MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "done; with status -w: what the spec asks for serves (Ready=True)",
    Exit.REFUSED: "refused: wrong usage, invalid input, nothing to act on, or no cluster",
    Exit.NO_NODE: "plan: no node can take the model",
    Exit.NOT_READY: "status -w: the rollout failed, was taken back or is held (Stalled=True); "
    "plan: it would be held",
    Exit.TIMED_OUT: "status -w: still under way after --timeout",
}
"""Exit status -> what it tells."""


class Declined(Exception):  # noqa: N818 (an outcome, said in one line with its remedy)
    """What was asked cannot be done; the text says why, and what to do."""


@dataclass(frozen=True)
class Answer:
    """What a command prints, and its exit status."""

    text: str
    code: Exit = Exit.OK
