"""The REST adapter on real sockets: paths, methods, bodies and limits."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving import models
from serving.asking import ask
from serving.fakes import FakeModel, Gate, load, serving
from serving.running import InThread, running

INFER = "/v2/models/digits/infer"
ONES = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
REQUEST = json.dumps({"inputs": [ONES]}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    path = models.product(tmp_path_factory.mktemp("models") / "m.onnx")
    with running(max_body_bytes=4096, max_header_bytes=2048, max_tensors=4) as server:
        server.registry.switch(serving(load(path)))
        yield server


def send_raw(address: str, data: bytes) -> bytes:
    """Send bytes as they are and return what comes until the server closes."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def until_ok(address: str, path: str, status: int) -> None:
    """Wait until a GET answers with the status."""
    deadline = time.monotonic() + 30
    while ask(address, "GET", path).status != status:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/digits", 200),
        ("GET", "/v2/models/digits/ready", 200),
        ("GET", "/v2/models/digits/config", 200),
        ("GET", "/v2/models/digits/stats", 200),
        ("GET", "/v2/models/digits/versions/1.0.0", 200),
        ("GET", "/v2/models/digits/versions/1.0.0/ready", 200),
        ("GET", "/v2/models/digits/versions/9", 404),
        ("GET", "/v2/models/letters", 404),
        ("GET", "/v2/models/letters/ready", 404),
        ("GET", "/v2/models/digits/nope", 404),
        ("GET", "/v2/models/digits/versions/1.0.0/ready/more", 404),
        ("POST", "/v2/repository/index", 200),
        ("GET", "/v2/repository/index", 200),
        ("GET", "/", 404),
        ("GET", "/v1/models/digits:predict", 404),
        ("GET", INFER, 405),
        ("HEAD", INFER, 405),
        ("POST", "/v2/models/digits", 405),
        ("DELETE", "/v2", 405),
        ("GET", "/v2/models/stats", 200),
        ("GET", "/v2/docs", 200),
        ("GET", "/openapi.json", 200),
        ("POST", "/v2/repository/models/digits/load", 403),
        ("POST", "/v2/repository/models/digits/unload", 403),
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("POST", "/v2/cudasharedmemory/region/a/register", 501),
    ],
)
def test_every_path_has_its_status(server: InThread, method: str, path: str, status: int) -> None:
    answer = ask(server.http, method, path)
    assert answer.status == status
    if status >= 400 and method != "HEAD":
        assert list(answer.json) == ["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *[("/v2/health/live", 200), ("/v2/health/ready", 200), ("/v2/models/digits/ready", 200)],
        *[("/v2", 200), ("/v2/models/digits", 200), ("/v2/models/letters/ready", 404), ("/", 404)],
    ],
)
def test_head_has_the_status_and_the_length_of_get(
    server: InThread, path: str, status: int
) -> None:
    answer, whole = ask(server.http, "HEAD", path), ask(server.http, "GET", path)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.headers["content-length"] == str(len(whole.body))


def test_what_is_allowed_instead_is_told(server: InThread) -> None:
    assert ask(server.http, "DELETE", "/v2").headers["allow"] == "GET, HEAD"
    assert ask(server.http, "HEAD", INFER).headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
    ],
)
def test_health_is_told_in_the_body_too(server: InThread, path: str, body: object) -> None:
    """KServe's client reads the body, others the status."""
    assert ask(server.http, "GET", path).json == body


def test_a_json_request_gets_a_json_answer_that_names_its_revision(server: InThread) -> None:
    answer = ask(server.http, "POST", INFER, json.dumps({"id": "7", "inputs": [ONES]}).encode())
    assert answer.status == 200
    assert answer.headers["skerry-revision"] == "r1"
    assert answer.json["model_version"] == "1.0.0"
    assert answer.json["parameters"] == {"revision": "r1"}
    assert answer.json["id"] == "7"
    assert answer.json["outputs"][0] == {
        "name": "y",
        "datatype": "FP32",
        "shape": [1, 3],
        "data": [18.0, 22.0, 26.0],
    }


@pytest.mark.parametrize("value", ["false", "true", 0, 1, 1.0, [], {}])
@pytest.mark.parametrize("name", ["binary_data_output", "binary_data"])
def test_what_is_no_truth_value_decides_no_form(server: InThread, name: str, value: object) -> None:
    parameters = {name: value}
    output = {"name": "y", "parameters": parameters}
    more = {"outputs": [output]} if name == "binary_data" else {"parameters": parameters}
    answer = ask(server.http, "POST", INFER, json.dumps({"inputs": [ONES], **more}).encode())
    assert answer.status == 400
    assert f"{name} must be true or false" in answer.json["error"]


def test_null_means_that_an_optional_part_is_not_there(server: InThread) -> None:
    """MLServer's types write it so."""
    nothing = {"id": None, "parameters": {"binary_data_output": None}, "outputs": None}
    body = json.dumps({**nothing, "inputs": [{**ONES, "parameters": None}]}).encode()
    answer = ask(server.http, "POST", INFER, body)
    assert answer.status == 200
    assert "id" not in answer.json


def binary_request(**extra: object) -> tuple[bytes, dict[str, str]]:
    raw = np.ones((1, 4), "<f4").tobytes()
    entry = {**ONES, "parameters": {"binary_data_size": len(raw)}}
    del entry["data"]
    head = json.dumps({"inputs": [entry], **extra}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def test_each_output_takes_the_form_that_was_asked_for(server: InThread) -> None:
    body, headers = binary_request(
        parameters={"binary_data_output": True},
        outputs=[{"name": "z", "parameters": {"binary_data": False}}, {"name": "y"}],
    )
    answer = ask(server.http, "POST", INFER, body, headers)
    length = int(answer.headers["inference-header-content-length"])
    z, y = json.loads(answer.body[:length])["outputs"]
    assert z["data"] == [36.0, 44.0, 52.0]
    assert y["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(answer.body[length:], "<f4").tolist() == [18.0, 22.0, 26.0]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"{", {}, id="no JSON"),
        pytest.param(b"[]", {}, id="no object"),
        pytest.param(b"{}", {}, id="no inputs"),
        pytest.param(b'{"inputs": [1]}', {}, id="an input that is no object"),
        pytest.param(b'{"inputs": [{}]}', {}, id="an input without a name"),
        pytest.param(b'{"inputs": 5}', {}, id="inputs that are no list"),
        pytest.param(
            json.dumps({"inputs": [ONES] * 5}).encode(), {}, id="more inputs than allowed"
        ),
        pytest.param(
            json.dumps({"inputs": [ONES], "id": 7}).encode(), {}, id="an id that is no text"
        ),
        pytest.param(
            json.dumps({"inputs": [ONES], "outputs": {}}).encode(),
            {},
            id="outputs that are no list",
        ),
        pytest.param(
            json.dumps({"inputs": [{**ONES, "shape": "4"}]}).encode(),
            {},
            id="a shape that is no list",
        ),
        pytest.param(
            json.dumps({"inputs": [{**ONES, "datatype": "FP8"}]}).encode(),
            {},
            id="an unknown datatype",
        ),
        pytest.param(
            json.dumps(
                {"inputs": [{**ONES, "parameters": {"shared_memory_region": "a"}}]}
            ).encode(),
            {},
            id="shared memory",
        ),
        pytest.param(
            json.dumps({"inputs": [{**ONES, "name": "x" * 300}]}).encode(), {}, id="an endless name"
        ),
        pytest.param(
            REQUEST, {"Inference-Header-Content-Length": "99999"}, id="a head beyond the body"
        ),
        pytest.param(REQUEST, {"Inference-Header-Content-Length": "-1"}, id="a negative head"),
        pytest.param(binary_request()[0][:-1], binary_request()[1], id="binary data cut short"),
        pytest.param(binary_request()[0] + b"!", binary_request()[1], id="binary data left over"),
        pytest.param(REQUEST, {"Content-Encoding": "gzip"}, id="a gzip body that is none"),
        pytest.param(
            gzip.compress(REQUEST)[:-8], {"Content-Encoding": "gzip"}, id="a gzip body cut short"
        ),
        pytest.param(b'{"inputs": ' + b"[" * 2000, {}, id="deeply nested JSON"),
    ],
)
def test_a_bad_body_is_answered_with_400(
    server: InThread, body: bytes, headers: dict[str, str]
) -> None:
    answer = ask(server.http, "POST", INFER, body, headers)
    assert answer.status == 400
    assert list(answer.json) == ["error"]
    assert "Traceback" not in answer.json["error"]


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_body_is_read(server: InThread, encoding: str, compress: Any) -> None:
    answer = ask(server.http, "POST", INFER, compress(REQUEST), {"Content-Encoding": encoding})
    assert answer.json["outputs"][0]["data"] == [18.0, 22.0, 26.0]


def test_an_unknown_encoding_is_refused(server: InThread) -> None:
    answer = ask(server.http, "POST", INFER, REQUEST, {"Content-Encoding": "br"})
    assert answer.status == 415


def test_a_body_that_grows_too_large_when_decompressed_is_refused(server: InThread) -> None:
    bomb = gzip.compress(bytes(10_000_000), 9)[:4000]
    answer = ask(server.http, "POST", INFER, bomb, {"Content-Encoding": "gzip"})
    assert answer.status == 413


def test_a_declared_length_beyond_the_limit_is_refused_before_the_body_is_sent(
    server: InThread,
) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 4097\r\n\r\n".encode()
    assert send_raw(server.http, head).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_read_and_bounded(server: InThread) -> None:
    halves = iter([REQUEST[:20], REQUEST[20:]])
    assert ask(server.http, "POST", INFER, halves).status == 200
    chunk = b"800\r\n" + bytes(2048) + b"\r\n"
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert send_raw(server.http, head + 3 * chunk).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /v2 HTTP/1.1\r\nA: " + b"a" * 3000 + b"\r\n\r\n", id="one long header"),
        pytest.param(
            b"GET /v2 HTTP/1.1\r\n" + b"A: bbbbbbbb\r\n" * 300 + b"\r\n", id="many headers"
        ),
        pytest.param(b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(b"GET /v2 HTTP/1.1\r\nA: " + b"a" * 3000, id="a head that does not end"),
    ],
)
def test_too_large_a_head_is_refused(server: InThread, head: bytes) -> None:
    assert send_raw(server.http, head).startswith(b"HTTP/1.1 431 ")


def test_a_client_that_never_finishes_its_head_is_cut_off() -> None:
    with running(read_timeout_s=0.1) as server:
        assert send_raw(server.http, b"GET /v2 HT") == b""
        assert send_raw(server.http, b"") == b""


def test_a_client_that_never_finishes_its_body_is_told_so() -> None:
    with running(read_timeout_s=0.1) as server:
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123".encode()
        assert send_raw(server.http, head).startswith(b"HTTP/1.1 408 ")


def test_bodies_together_are_bounded() -> None:
    with running(max_body_bytes=4096, max_buffered_bytes=4096) as server:
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n".encode()
        host, port = server.http.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as waiting:
            waiting.sendall(head + bytes(3000))
            deadline = time.monotonic() + 30
            while True:
                answer = ask(server.http, "POST", INFER, bytes(2000))
                if answer.status == 429:
                    break
                assert time.monotonic() < deadline
        until_served(server)


def until_served(server: InThread) -> None:
    """Wait until a body is read again: the memory of one that never came is given back."""
    deadline = time.monotonic() + 30
    while ask(server.http, "POST", INFER, bytes(2000)).status == 429:
        assert time.monotonic() < deadline


def test_two_requests_in_one_packet_both_get_answers(server: InThread) -> None:
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n"
    answer = send_raw(server.http, request + b"\r\n" + request + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_overload_is_429_with_retry_after() -> None:
    gate = Gate()
    with running(queue_limit=1) as server:
        server.registry.switch(serving(FakeModel(gate)))
        connection = http.client.HTTPConnection(server.http, timeout=30)
        connection.request("POST", INFER, REQUEST)
        gate.wait_entered()
        answer = ask(server.http, "POST", INFER, REQUEST)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        gate.open.set()
        assert connection.getresponse().status == 200
        connection.close()


def test_nothing_serving_is_503_with_retry_after() -> None:
    with running() as server:
        answer = ask(server.http, "POST", INFER, REQUEST)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert ask(server.http, "GET", "/v2/health/ready").status == 503
        assert ask(server.http, "GET", "/v2/health/live").status == 200
        assert ask(server.admin, "GET", "/readyz").status == 503
        assert ask(server.admin, "GET", "/healthz").status == 200


def test_a_request_that_cannot_be_read_is_counted_as_rejected(server: InThread) -> None:
    before = server.metrics.of("r1").counters().total.rejected
    ask(server.http, "POST", INFER, b"{")
    assert server.metrics.of("r1").counters().total.rejected == before + 1


def test_the_admin_port_tells_status_and_metrics(server: InThread) -> None:
    assert ask(server.admin, "GET", "/status").json["unit"] == "node-1"
    assert b"skerry_model_info" in ask(server.admin, "GET", "/metrics").body
    assert ask(server.admin, "GET", "/readyz").status == 200
    assert ask(server.admin, "POST", "/status").status == 405
    assert ask(server.admin, "GET", "/v2").status == 404


def test_draining_ends_readiness_first_and_keeps_the_request_in_flight() -> None:
    gate = Gate()
    with running() as server:
        server.registry.switch(serving(FakeModel(gate)))
        connection = http.client.HTTPConnection(server.http, timeout=30)
        connection.request("POST", INFER, REQUEST)
        gate.wait_entered()
        server.request_stop()
        until_ok(server.admin, "/readyz", 503)
        gate.open.set()
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("connection") == "close"
        connection.close()
        server.join()


def test_a_head_length_of_thousands_of_digits_is_the_client_s_mistake(server: InThread) -> None:
    headers = {"Inference-Header-Content-Length": "9" * 1900}
    assert ask(server.http, "POST", INFER, REQUEST, headers).status == 400
    with running(max_header_bytes=16384) as roomy:
        roomy.registry.switch(serving(FakeModel()))
        headers = {"Inference-Header-Content-Length": "9" * 5000}
        assert ask(roomy.http, "POST", INFER, REQUEST, headers).status == 400
        assert roomy.metrics.of("r1").counters().total.rejected == 1


def test_texts_nested_beyond_reason_are_the_client_s_mistake(server: InThread) -> None:
    data: Any = "a"
    for _ in range(900):
        data = [data]
    body = json.dumps({"inputs": [{**ONES, "datatype": "BYTES", "shape": [1], "data": data}]})
    answer = ask(server.http, "POST", INFER, body.encode())
    assert answer.status == 400
    assert "nested" in answer.json["error"]
