"""Spans reach a collector that speaks OTLP over HTTP, and cost nothing where none is named."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from serving.fakes import FakeModel, serving
from serving.running import InThread, running
from skerry_runtime.otel import ADDRESSES, tracer_of
from skerry_runtime.rpc.generated import oip_pb2 as pb

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
PATH = "/v2/models/digits/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}
)


class Collector(HTTPServer):
    """Takes OTLP over HTTP as a real collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Export)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Export(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.setenv(ADDRESSES[0], f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def post(server: InThread, path: str, traceparent: str = "") -> str | None:
    with closing(http.client.HTTPConnection(server.http, timeout=30)) as connection:
        connection.request("POST", path, BODY, {"traceparent": traceparent} if traceparent else {})
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("traceparent")


def call(server: InThread, model: str, traceparent: str) -> None:
    message = pb.ModelInferRequest(model_name=model)
    entry = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    entry.contents.fp32_contents.extend([0] * 4)
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
        )
        infer(message, metadata=(("traceparent", traceparent),))


def attributes(span: Span) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, str(pair.value.WhichOneof("value")))
        for pair in span.attributes
    }


def test_each_request_is_a_server_span_below_the_clients(collector: Collector) -> None:
    with running() as server:
        server.registry.switch(serving(FakeModel()))
        returned = post(server, PATH, SAMPLED)
        post(server, "/v2/models/other/versions/7/infer", SAMPLED)
        call(server, "digits", SAMPLED)
    first, missing, rpc = collector.spans  # stopping sends what is not sent yet
    for span in (first, missing, rpc):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert span.kind == Span.SPAN_KIND_SERVER
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.status.code == Status.STATUS_CODE_UNSET, "a client's mistake is no fault"
    assert returned == f"00-{TRACE}-{first.span_id.hex()}-01"
    assert first.name == "POST /v2/models/{model}/infer"
    assert attributes(first) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/v2/models/{model}/infer",
        "skerry.revision": "r1",
        "url.path": PATH,
        "url.scheme": "http",
    }
    assert missing.name == "POST /v2/models/{model}/versions/{version}/infer"
    assert attributes(missing)["http.response.status_code"] == 404
    assert rpc.name == "inference.GRPCInferenceService/ModelInfer"
    assert attributes(rpc) == {
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
        "rpc.system.name": "grpc",
        "skerry.revision": "r1",
    }
    resource = collector.requests[0].resource_spans[0].resource
    assert {p.key: p.value.string_value for p in resource.attributes}["service.name"] == (
        "skerry-runtime"
    )


def test_faults_of_the_server_are_errors_and_an_unsampled_trace_stays_so(
    collector: Collector,
) -> None:
    with running() as server:
        post(server, PATH, SAMPLED)  # nothing serves
        assert post(server, PATH, UNSAMPLED).endswith("-00")  # type: ignore[union-attr]
        post(server, "/elsewhere/secret-name")
    failed, own = collector.spans
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert attributes(failed)["error.type"] == "503"
    assert own.name == "POST", "a client does not choose names of spans"
    assert own.parent_span_id == b""


def test_the_usual_variables_choose_the_share_and_the_name(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "digits-harbour")
    with running() as server:
        post(server, PATH)
        post(server, PATH, SAMPLED)
    (span,) = collector.spans
    assert span.trace_id.hex() == TRACE
    resource = collector.requests[0].resource_spans[0].resource
    assert "digits-harbour" in {pair.value.string_value for pair in resource.attributes}


def test_a_collector_that_never_answers_keeps_no_process_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
    monkeypatch.setattr("skerry_runtime.otel.CLOSE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(ADDRESSES[0], f"http://127.0.0.1:{silent.getsockname()[1]}")
        with running() as server:  # leaving it waits for its end, at most 30 s
            post(server, PATH, SAMPLED)


def test_a_missing_package_is_one_line_in_the_log_and_no_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.WARNING):
        assert tracer_of({ADDRESSES[0]: "http://127.0.0.1:1"}, is_tls=False) is None
    (record,) = caplog.records
    assert "skerry[runtime,otel]" in record.message


@pytest.mark.parametrize(
    "environ", [{}, {ADDRESSES[0]: ""}, {ADDRESSES[1]: "http://a", "OTEL_SDK_DISABLED": "true"}]
)
def test_nobody_who_asks_for_no_traces_gets_a_tracer(environ: dict[str, str]) -> None:
    assert tracer_of(environ, is_tls=False) is None


def test_nothing_of_opentelemetry_is_imported_unasked() -> None:
    program = (
        "import sys, skerry_runtime.server as s; s.tracer_of({}, is_tls=False); "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
