"""One line per request, and the trace it belongs to (W3C Trace Context); off unless asked for.

A client's `traceparent` is taken over: the answer carries the same trace with a span of this
server's own, and both are in the log. Nothing else of a request's headers is ever logged. A
collector may get the spans as well; who sends them there is not known here.
https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass
from typing import Protocol

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


Status = int | str
"""Of HTTP the number, of gRPC the name."""


class Recording(Protocol):
    """A span that a collector will get."""

    span: Span

    def end(self, status: Status, revision: str) -> None:
        """Complete it."""
        ...


class Tracer(Protocol):
    """Makes spans for a collector."""

    def begin(self, protocol: str, method: str, path: str, traceparent: str) -> Recording:
        """Begin the span of a request; `traceparent` is empty where the client sent none."""
        ...

    def close(self) -> None:
        """Send what is not sent yet. Blocks."""
        ...


@dataclass(frozen=True)
class Observer:
    """What is done with every request."""

    is_logging: bool
    tracer: Tracer | None = None

    @property
    def is_needed(self) -> bool:
        """Whether anything is done at all."""
        return self.is_logging or self.tracer is not None

    def begin(self, protocol: str, method: str, path: str, given: str | bytes | None) -> Exchange:
        """Note when a request began, and its place in the client's trace."""
        path, recording = path[:MAX_PATH], None
        span = span_of(given)
        if self.tracer is not None:
            parent = f"00-{span.trace_id}-{span.parent_id}-{span.flags}" if span.parent_id else ""
            recording = self.tracer.begin(protocol, method, path, parent)
            span = recording.span
        return Exchange(
            self.is_logging, protocol, method, path, span, time.perf_counter(), recording
        )


@dataclass(frozen=True)
class Exchange:
    """A request under way."""

    is_logged: bool
    protocol: str
    method: str
    path: str
    span: Span
    began: float
    recording: Recording | None

    def end(self, status: Status, revision: str = "") -> None:
        """Write the line, complete the span."""
        if self.recording is not None:
            self.recording.end(status, revision)
        if self.is_logged:
            self._log(status, revision)

    def _log(self, status: Status, revision: str) -> None:
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
