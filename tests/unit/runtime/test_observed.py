"""The log of requests and the traces: what is passed on, what is written, and what never is."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.deployed import eventually
from serving.fakes import FakeModel, serving
from serving.running import InThread, running
from skerry_runtime.rpc.generated import oip_pb2 as pb
from skerry_runtime.trace import span_of
from unit.runtime.secrets_folder import Secret

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-01"
KNOWN = "one-of-the-test-0001"
PATH = "/v2/models/digits/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}
)


def test_a_span_belongs_to_the_clients_trace() -> None:
    span = span_of(HEADER)
    assert (span.trace_id, span.parent_id, span.flags) == (TRACE, PARENT, "01")
    assert span.traceparent == f"00-{TRACE}-{span.span_id}-01"
    assert span.span_id != PARENT


@pytest.mark.parametrize(
    "header",
    [None, "", "nonsense", HEADER.upper(), f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
     f"00-{TRACE}-{'0' * 16}-01", HEADER + "x", b"\xff\xfe", "0" * 100_000],
)  # fmt: skip
def test_what_is_no_trace_begins_a_new_one(header: str | bytes | None) -> None:
    span = span_of(header)
    assert span.parent_id == ""
    assert span.trace_id != TRACE
    assert len(span.traceparent) == len(HEADER)


@pytest.fixture
def server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[InThread]:
    caplog.set_level(logging.INFO, "skerry_runtime.requests")
    tokens = Secret(tmp_path / "tokens", token=KNOWN.encode())
    with running(access_log=True, token_dir=tokens.folder) as server:
        server.registry.switch(serving(FakeModel()))
        yield server


def logged(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[logging.LogRecord]:
    def found() -> list[logging.LogRecord]:
        return [r for r in caplog.records if r.name == "skerry_runtime.requests"]

    eventually(lambda: len(found()) >= count, f"{count} lines")
    return found()


def ask(server: InThread, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    with closing(http.client.HTTPConnection(server.http, timeout=30)) as connection:
        connection.request("POST", path, BODY, headers)
        answer = connection.getresponse()
        answer.read()
        return answer


def test_a_rest_request_is_logged_with_its_trace_and_without_its_token(
    server: InThread, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": f"Bearer {KNOWN}", "traceparent": HEADER}
    answer = ask(server, f"{PATH}?key=secret", headers)
    (line,) = logged(caplog)
    said = vars(line)
    assert (said["status"], said["revision"], said["path"]) == (200, "r1", PATH)
    assert (said["trace_id"], said["parent_id"]) == (TRACE, PARENT)
    assert answer.getheader("traceparent") == f"00-{TRACE}-{said['span_id']}-01"
    assert said["ms"] >= 0
    assert not any(word in str(said) for word in (KNOWN, "secret"))


def test_refusals_are_logged_as_well(server: InThread, caplog: pytest.LogCaptureFixture) -> None:
    allowed = {"Authorization": f"Bearer {KNOWN}"}
    assert ask(server, PATH, {}).status == 401
    assert ask(server, "/nowhere", allowed).status == 404
    assert ask(server, "/v2/models/other/infer", allowed).status == 404
    assert [vars(line)["status"] for line in logged(caplog, 3)] == [401, 404, 404]


def test_calls_are_logged_with_their_trace(
    server: InThread, caplog: pytest.LogCaptureFixture
) -> None:
    message = infer_message()
    allowed = ("authorization", f"Bearer {KNOWN}")
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
        )
        _, call = infer.with_call(message, metadata=(allowed, ("traceparent", HEADER)))
        message.model_name = "other"
        with pytest.raises(grpc.RpcError):
            infer(message, metadata=(allowed,))
        with pytest.raises(grpc.RpcError):
            infer(message)
    lines = [vars(line) for line in logged(caplog, 3)]
    assert [line["status"] for line in lines] == ["OK", "NOT_FOUND", "UNAUTHENTICATED"]
    assert (lines[0]["trace_id"], lines[0]["revision"]) == (TRACE, "r1")
    returned = dict(call.trailing_metadata())
    assert returned["traceparent"] == f"00-{TRACE}-{lines[0]['span_id']}-01"


def test_a_stream_is_one_line_at_its_end(
    server: InThread, caplog: pytest.LogCaptureFixture
) -> None:
    message = infer_message()
    unknown = pb.ModelInferRequest(model_name="other")
    allowed = ("authorization", f"Bearer {KNOWN}")
    with grpc.insecure_channel(server.grpc) as channel:
        stream = streaming(channel)
        call = stream(iter([message, unknown]), metadata=(allowed, ("traceparent", HEADER)))
        answers = list(call)
        assert [bool(answer.error_message) for answer in answers] == [False, True]
        assert "revision" not in answers[1].infer_response.parameters
        with pytest.raises(grpc.RpcError):
            list(stream(iter([message])))
        left = stream(endless(message), metadata=(allowed,))
        next(left)
        left.cancel()
        lines = [vars(line) for line in logged(caplog, 3)]
    *lines, gone = lines
    assert [line["status"] for line in lines] == ["OK", "UNAUTHENTICATED"]
    assert gone["status"] in {"OK", "CANCELLED"}, "which of both gRPC tells first is chance"
    assert (lines[0]["trace_id"], lines[0]["revision"]) == (TRACE, "r1")
    returned = dict(call.trailing_metadata())
    assert returned["traceparent"] == f"00-{TRACE}-{lines[0]['span_id']}-01"


def infer_message() -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="digits")
    entry = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    entry.contents.fp32_contents.extend([0] * 4)
    return message


def streaming(channel: grpc.Channel) -> Any:
    return channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )


def endless(message: pb.ModelInferRequest) -> Iterator[pb.ModelInferRequest]:
    """One message, and then a client that says no more until it cancels."""
    yield message
    threading.Event().wait(5)


def test_nothing_is_logged_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "skerry_runtime.requests")
    with running() as server:
        server.registry.switch(serving(FakeModel()))
        assert ask(server, PATH, {"traceparent": HEADER}).getheader("traceparent") is None
    assert "infer" not in caplog.text
