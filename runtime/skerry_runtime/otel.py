"""Spans for a collector by OpenTelemetry, when it is installed and the environment names one.

Names and attributes are those of the semantic conventions for HTTP and RPC servers; sampling,
resource and the collector's address come from OpenTelemetry's own variables.
https://opentelemetry.io/docs/specs/semconv/
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skerry_runtime import __version__
from skerry_runtime.trace import HEADER, Recording, Span, Status, Tracer

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

ADDRESSES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""One of these set asks for spans."""

SERVICE = "skerry-runtime"
"""The service's name, unless the environment has one."""

CLOSE_S = 2.0
"""Time for the last spans when the process stops."""

SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Statuses of gRPC that count as errors of a server."""

_MODEL_ROUTE = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?(/infer|/ready|/config|/stats)?/?")

_log = logging.getLogger(__name__)


def tracer_of(environ: Mapping[str, str], *, is_tls: bool) -> Tracer | None:
    """Return what makes spans, or None where the environment asks for none.

    When it asks and OpenTelemetry is not installed, a line in the log says so.
    """
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if is_disabled or not any(environ.get(name) for name in ADDRESSES):
        return None
    try:
        provider = _provider(environ)
    except ImportError:
        _log.warning(
            "no traces: OpenTelemetry is not installed; pip install 'skerry[runtime,otel]'"
        )
        return None
    return OtelTracer(provider, "https" if is_tls else "http")


def _provider(environ: Mapping[str, str]) -> TracerProvider:
    """Return what collects and sends.

    Raises:
        ImportError: OpenTelemetry is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 optional
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 optional
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 optional
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 optional

    resource = Resource.create(
        {
            "service.name": environ.get("OTEL_SERVICE_NAME") or SERVICE,
            "service.version": __version__,
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class OtelTracer:
    """Begins a server span for each request."""

    def __init__(self, provider: TracerProvider, scheme: str) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 optional
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 optional
            TraceContextTextMapPropagator,
        )

        self._provider = provider
        self._scheme = scheme
        self._tracer = provider.get_tracer("skerry_runtime", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER

    def begin(self, protocol: str, method: str, path: str, traceparent: str) -> Recording:
        """Begin a span below the client's, or one of a new trace."""
        name, attributes = _described(protocol, method, path)
        if protocol == "http":
            attributes["url.scheme"] = self._scheme
        parent = self._propagator.extract({HEADER: traceparent} if traceparent else {})
        span = self._tracer.start_span(name, parent, self._kind, attributes)
        return OtelSpan(span, protocol, traceparent)

    def close(self) -> None:
        """Send what is not sent yet. Blocks, but no stop waits long for a collector."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(CLOSE_S)


class OtelSpan:
    """One request's span."""

    def __init__(self, span: trace.Span, protocol: str, traceparent: str) -> None:
        context = span.get_span_context()
        parent = traceparent.split("-")[2] if traceparent else ""
        flags = f"{context.trace_flags:02x}"
        self.span = Span(f"{context.trace_id:032x}", f"{context.span_id:016x}", parent, flags)
        self._span = span
        self._is_http = protocol == "http"

    def end(self, status: Status, revision: str) -> None:
        """Say how the request ended."""
        key = "http.response.status_code" if self._is_http else "rpc.response.status_code"
        self._span.set_attribute(key, status)
        if revision:
            self._span.set_attribute("skerry.revision", revision)
        if _is_fault(status):
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 optional

            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _is_fault(status: Status) -> bool:
    return status >= 500 if isinstance(status, int) else status in SERVER_FAULTS


def _described(protocol: str, method: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return a span's name, of which there are few, and what is known when it begins."""
    if protocol != "http":
        return path.lstrip("/"), {"rpc.system.name": "grpc", "rpc.method": path.lstrip("/")}
    attributes = {"http.request.method": method, "url.path": path}
    route = _route(path)
    if not route:
        return method, attributes
    return f"{method} {route}", {**attributes, "http.route": route}


def _route(path: str) -> str:
    """Return a path without its names; empty for one that is not of the protocol's models."""
    found = _MODEL_ROUTE.fullmatch(path)
    if found is None:
        return ""
    version = "/versions/{version}" if found[1] else ""
    return f"/v2/models/{{model}}{version}{found[2] or ''}"
