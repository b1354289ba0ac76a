"""What a source gives to a download, and what the two have to say to each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from skerry_runtime.agent.sources.keyring import Keyring


@dataclass(frozen=True)
class Order:
    """One file that is asked for."""

    uri: str
    sha256: str
    credentials: Keyring | None = None
    """What the Secret of its source holds; None: it names none."""


@dataclass(frozen=True)
class Begun:
    """What an earlier try left on disk."""

    size: int = 0
    etag: str = ""
    """Strong entity tag under which these bytes were sent by the same uri, or ""."""


@dataclass(frozen=True)
class Stream:
    """The bytes of a file, from some place in it on."""

    chunks: AsyncIterator[bytes]
    total: int | None
    """Size of the whole file; None: the source does not tell."""
    start: int = 0
    """Place of the first byte: what was begun, or 0: the whole file comes."""
    etag: str = ""
    is_complete: bool = False
    """The bytes on disk are all there are."""


class Unresumable(Exception):  # noqa: N818 (says what the begun file is)
    """The source does not go on from the bytes on disk: begin anew."""


class BrokenOff(Exception):  # noqa: N818 (says what happened)
    """A stream that had begun ended in the middle; the text says how."""


class ByteSource(Protocol):
    """Gives the bytes of one file."""

    def open(self, begun: Begun, /) -> AbstractAsyncContextManager[Stream]:
        """Return the file from where it was begun, or from the start.

        Raises:
            Refused, Transient: it cannot be had.
            Unresumable: it might be from the start.
            BrokenOff: by the chunks.
        """
        ...
