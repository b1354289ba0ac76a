"""What a job needs of a store, and what the answers of one mean."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason

MAX_NOTE_BYTES = 64 * 1024
"""Longest note that is read: a verdict has 4 KiB at most."""
_NO_ROOM = frozenset({HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.INSUFFICIENT_STORAGE})
_PASSING_4XX = frozenset({408, 425, 429})


@dataclass(frozen=True)
class BuildFile:
    """A file to be kept."""

    path: Path
    name: str
    """For people, such as `int8.onnx`; it is in the store's own name of the file."""
    sha256: str


class BuildStore(Protocol):
    """Keeps files for ever under names that tell their bytes, and one note under each key.

    All methods raise Refused and Transient.
    """

    async def note(self, key: str, /) -> bytes | None:
        """Return what was noted under a key; None: nothing was."""
        ...

    async def holds(self, uri: str, /) -> bool:
        """Tell whether a file that `keep` named is still there."""
        ...

    async def keep(self, file: BuildFile, /) -> str:
        """Put a file there unless it is; return the address that names it for ever."""
        ...

    async def write_note(self, key: str, content: bytes, /) -> None:
        """Note something under a key: whole, or not at all."""
        ...


def problem_of(status: int, method: str, uri: str) -> Refused | Transient:
    """Return what an answer of a store means that is none of success.

    What the store says besides is not told: who may only write an EdgeModel must not read it.
    """
    text = f"{method} {shown(uri)}: HTTP {status}"
    if status in _NO_ROOM:
        return Refused(FailureReason.INSUFFICIENT_DISK, f"{text}: the store has no room: make some")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        remedy = "the store refuses: name a Secret in store.pushSecretRef that may write there"
        return Refused(FailureReason.FETCH_FAILED, f"{text}: {remedy}")
    if 300 <= status < 500 and status not in _PASSING_4XX:
        return Refused(FailureReason.FETCH_FAILED, f"{text}: the store refuses")
    return Transient(f"{text}: the store cannot take it now, or is full")


def sha256_of(content: bytes) -> str:
    """Return the sha256 of some bytes in hex."""
    return hashlib.sha256(content).hexdigest()
