"""One line per request, and the trace it belongs to (W3C Trace Context); off unless asked for.

A client's `traceparent` is taken over: the answer carries the same trace with a span of this
server's own, and both are in the log. Nothing else of a request's headers is ever logged.
https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass

HEADER = "traceparent"
MAX_PATH = 256
"""Longest path that is logged; clients choose it."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NOTHING = {"0" * 32, "0" * 16}

_log = logging.getLogger("skerry_runtime.requests")


@dataclass(frozen=True)
class Span:
    """This server's part of a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty where the trace begins here."""
    flags: str

    @property
    def traceparent(self) -> str:
        """Return the header for whoever comes next."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def span_of(traceparent: str | bytes | None) -> Span:
    """Return a new span of the trace that the header names, or of a new trace."""
    text = traceparent.decode("latin-1") if isinstance(traceparent, bytes) else traceparent
    found = _FORM.fullmatch(text or "")
    if found is None or found[1] == "ff" or {found[2], found[3]} & _NOTHING:
        return Span(secrets.token_hex(16), secrets.token_hex(8), "", "00")
    return Span(found[2], secrets.token_hex(8), found[3], found[4])


@dataclass(frozen=True)
class Entry:
    """A request under way."""

    protocol: str
    method: str
    path: str
    span: Span
    began: float

    @classmethod
    def begin(cls, protocol: str, method: str, path: str, span: Span) -> Entry:
        """Note when a request began."""
        return cls(protocol, method, path[:MAX_PATH], span, time.perf_counter())

    def end(self, status: int | str, revision: str = "") -> None:
        """Write the line."""
        _log.info(
            "%s %s: %s",
            self.method,
            self.path,
            status,
            extra={
                "protocol": self.protocol,
                "method": self.method,
                "path": self.path,
                "status": status,
                "ms": round((time.perf_counter() - self.began) * 1000.0, 3),
                "revision": revision,
                "trace_id": self.span.trace_id,
                "span_id": self.span.span_id,
                "parent_id": self.span.parent_id,
            },
        )
