"""Requests that no client sends: both parsers answer each as a client's mistake, and go on.

Every example goes to one process over a real socket. `SKERRY_FUZZ=N` makes N times as many.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.http as triton_http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile.watch import resident_bytes
from serving import models
from serving.running import InProcess, process
from skerry_runtime.rpc.generated import oip_pb2 as pb

EXAMPLES = 150 * int(os.environ.get("SKERRY_FUZZ", "1"))
GROWTH_BYTES = 48 << 20
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PATH = "/v2/models/digits/infer"
FAIR: dict[str, Any] = {
    "id": "1",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
    "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
}
CLIENTS_MISTAKES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """A process whose memory has not grown when everything is over."""
    folder = tmp_path_factory.mktemp("fuzz")
    with process(models.product(folder / "m.onnx"), "--read-timeout-s", "5") as child:
        assert fair_answer(child)
        before = resident_bytes(child.process.pid)
        yield child
        assert child.process.poll() is None, "the server died"
        assert fair_answer(child)
        assert resident_bytes(child.process.pid) - before < GROWTH_BYTES


def fair_answer(server: InProcess) -> bool:
    entry = triton_http.InferInput("x", [1, 4], "FP32")
    entry.set_data_from_numpy(np.ones((1, 4), np.float32))
    with closing(triton_http.InferenceServerClient(server.http)) as client:
        return client.infer("digits", [entry]).as_numpy("y") is not None


def post(body: bytes, *more: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(server: InProcess, sent: bytes, *, is_cut: bool = True) -> list[int]:
    """Send bytes, hang up when they are cut short, and return the statuses that came back."""
    host, port = server.http.split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(sent)
            if is_cut:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:
            pass  # refused before all of it was sent
    heads = received.split(b"HTTP/1.1 ")[1:]
    return [int(head[:3]) for head in heads if head[:3].isdigit()]


def assert_fair(server: InProcess, sent: bytes) -> None:
    assert all(status < 500 for status in answers(server, sent)), sent


mutations = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "repeat"]), st.floats(0, 1), st.binary()),
    min_size=1,
    max_size=4,
)


def mutated(body: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Return the bytes after changes at relative places."""
    for how, where, what in changes:
        at = int(where * len(body))
        match how:
            case "flip":
                body = body[:at] + what + body[at + len(what) :]
            case "cut":
                body = body[:at] + body[at + len(what) + 1 :]
            case "insert":
                body = body[:at] + what + body[at:]
            case _:
                body = body[:at] + body
    return body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["name", "datatype", "shape", "data", "parameters", "id", "inputs", "outputs"]
)


@FUZZ
@given(sent=st.binary(max_size=300))
def test_bytes_that_are_no_http(server: InProcess, sent: bytes) -> None:
    assert_fair(server, sent)


@FUZZ
@given(changes=mutations)
def test_http_with_mistakes(server: InProcess, changes: list[tuple[str, float, bytes]]) -> None:
    assert_fair(server, mutated(post(json.dumps(FAIR).encode()), changes))


@FUZZ
@given(root=st.none() | KEYS, entry=KEYS, value=JSON)
def test_json_with_strange_values(
    server: InProcess, root: str | None, entry: str, value: Any
) -> None:
    """One value of a fair request is replaced, at the top or in its input."""
    request = json.loads(json.dumps(FAIR))
    place = request["inputs"][0] if root is None else request
    place[entry if root is None else root] = value
    try:
        body = json.dumps(request).encode()
    except ValueError:
        return
    assert_fair(server, post(body))


@FUZZ
@given(head_length=st.integers(-5, 400), size=st.integers(-5, 2**40), tail=st.binary(max_size=64))
def test_the_binary_extension_with_lengths_that_lie(
    server: InProcess, head_length: int, size: int, tail: bytes
) -> None:
    entry = {**FAIR["inputs"][0], "parameters": {"binary_data_size": size}}
    del entry["data"]
    body = json.dumps({"inputs": [entry]}).encode()
    header = f"Inference-Header-Content-Length: {len(body) if head_length > 300 else head_length}"
    assert_fair(server, post(body + tail, header))


@FUZZ
@given(lengths=st.lists(st.integers(0, 2**32 - 1), max_size=4), tail=st.binary(max_size=20))
def test_bytes_tensors_with_lengths_that_lie(
    server: InProcess, lengths: list[int], tail: bytes
) -> None:
    raw = b"".join(struct.pack("<I", length) for length in lengths) + tail
    entry = {"name": "x", "datatype": "BYTES", "shape": [1, 4]}
    entry["parameters"] = {"binary_data_size": len(raw)}  # type: ignore[assignment]
    head = json.dumps({"inputs": [entry]}).encode()
    assert_fair(server, post(head + raw, f"Inference-Header-Content-Length: {len(head)}"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 200_000, id="lists 200000 deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="objects 100000 deep"),
        pytest.param(b'{"inputs":[' + b"{}," * 10_000 + b"{}]}", id="10001 inputs"),
        pytest.param(b'{"id":' + b"9" * 100_000 + b"}", id="a number of 100000 digits"),
        pytest.param(b'{"id":"\\ud800"}', id="half a surrogate"),
        pytest.param(b"\xff\xfe{}", id="UTF-16"),
        pytest.param(b'{"inputs":[],' + b'"a":1,' * 100_000 + b'"b":1}', id="100001 keys"),
    ],
)
def test_json_of_ill_intent(server: InProcess, body: bytes) -> None:
    assert answers(server, post(body, "Connection: close"), is_cut=False) == [400]


def fair_message() -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="digits", id="1")
    entry = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    entry.contents.fp32_contents.extend([1, 2, 3, 4])
    return message


@pytest.fixture(scope="module")
def channel(server: InProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as found:
        yield found


def call(channel: grpc.Channel, sent: bytes, method: str = "ModelInfer") -> grpc.StatusCode:
    """Send bytes as a message; return the status."""
    ask = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    try:
        ask(sent, timeout=30)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def assert_call_is_fair(channel: grpc.Channel, sent: bytes) -> None:
    assert call(channel, sent) in {grpc.StatusCode.OK, *CLIENTS_MISTAKES}, sent


@FUZZ
@given(sent=st.binary(max_size=300))
def test_bytes_that_are_no_message(channel: grpc.Channel, sent: bytes) -> None:
    assert_call_is_fair(channel, sent)


@FUZZ
@given(changes=mutations)
def test_messages_with_mistakes(
    channel: grpc.Channel, changes: list[tuple[str, float, bytes]]
) -> None:
    assert_call_is_fair(channel, mutated(fair_message().SerializeToString(), changes))


@FUZZ
@given(
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    datatype=st.sampled_from(["FP32", "BYTES", "BOOL", "INT64", "FP16", "BF16", "FP99", ""]),
    raws=st.lists(st.binary(max_size=40), max_size=3),
    name=st.text(max_size=10),
)
def test_messages_whose_parts_do_not_fit(
    channel: grpc.Channel, shape: list[int], datatype: str, raws: list[bytes], name: str
) -> None:
    message = fair_message()
    entry = message.inputs[0]
    entry.datatype, entry.name = datatype, name or "x"
    entry.shape[:] = shape
    message.raw_input_contents.extend(raws)
    assert_call_is_fair(channel, message.SerializeToString())


def test_messages_together_have_a_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One message may have 1 MiB, all of them together have less."""
    folder = tmp_path_factory.mktemp("budget")
    limits = ("--max-buffered-bytes", "2000")
    with process(models.product(folder / "m.onnx"), *limits) as server:
        message = fair_message()
        with grpc.insecure_channel(server.grpc) as channel:
            assert call(channel, message.SerializeToString()) == grpc.StatusCode.OK
            message.id = "i" * 3000
            status = call(channel, message.SerializeToString())
            assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
            message.id = "1"
            assert call(channel, message.SerializeToString()) == grpc.StatusCode.OK
