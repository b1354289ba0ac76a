"""Ends a process that an engine holds as a whole, so that no loop of its own can.

A driver that hangs with the interpreter's lock stops every thread of Python: no timeout of ours
fires, and no probe is answered. The timer of `faulthandler` is a thread without Python.
"""

from __future__ import annotations

import contextlib
import faulthandler
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

GRACE_S = 5.0
"""How long after its limit a call may go on before the process ends: a turning loop acts first."""

_MAX_BYTES = 64 * 1024


class Deadman:
    """Writes the stacks of a process that hangs into a file, and ends it: the next one reads them.

    One call at a time is watched in a process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def watching(self, limit_s: float) -> Iterator[None]:
        """End the process, with exit status 1, when this context is not left in time."""
        try:
            with self._opened(limit_s) as file:
                faulthandler.dump_traceback_later(limit_s + GRACE_S, exit=True, file=file)
                try:
                    yield
                finally:
                    faulthandler.cancel_dump_traceback_later()
        finally:
            self._remove()

    def take(self) -> tuple[float, str] | None:
        """Return the limit that the last process did not keep, and its stacks; then forget them."""
        try:
            text = self._path.read_bytes()[:_MAX_BYTES].decode("utf-8", "replace")
            limit, _, stacks = text.partition("\n")
            return (float(limit), stacks) if stacks.strip() else None
        except (OSError, ValueError):
            return None
        finally:
            self._remove()

    @contextlib.contextmanager
    def _opened(self, limit_s: float) -> Iterator[IO[str]]:
        try:
            file = self._path.open("w", encoding="utf-8")
        except OSError:  # a disk that cannot be written costs the next process the reason only
            yield sys.__stderr__ or sys.stderr
            return
        with file:
            file.write(f"{limit_s:g}\n")
            file.flush()
            yield file

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
