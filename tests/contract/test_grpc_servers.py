"""gRPC on our own HTTP/2 beside gRPC's own server: the same calls, the same outcomes."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from ports import free_port
from serving import models
from serving.fakes import FakeModel, Gate, load, serving
from serving.running import WITHIN_S, InThread, running
from skerry_cluster import tools
from skerry_cluster.settings import Layout
from skerry_runtime.rpc.generated import oip_pb2 as pb
from unit.runtime.secrets_folder import Secret

KINDS = ("grpcio", "http2")
SERVICE = "/inference.GRPCInferenceService/"
LIMIT = 1024 * 1024
TOKEN = "a-token-that-is-long-enough"  # noqa: S105 (of this test alone)


class Outcome(NamedTuple):
    """What a client has of a call."""

    status: str
    text: str
    body: bytes
    more: tuple[tuple[str, str], ...]
    """Trailing metadata."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.product(tmp_path_factory.mktemp("models") / "m.onnx")


@pytest.fixture(scope="module")
def servers(model: Path) -> Iterator[dict[str, InThread]]:
    with ExitStack() as opened:
        found = {
            kind: opened.enter_context(running(grpc_server=kind, max_body_bytes=LIMIT))
            for kind in KINDS
        }
        for server in found.values():
            server.registry.switch(serving(load(model), "r1", "1.0.0"))
        yield found


@contextmanager
def channel_to(server: InThread) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        yield channel


def outcome(call: Callable[[], Any]) -> Outcome:
    try:
        body, state = call()
    except grpc.RpcError as error:
        return _outcome(error, b"")
    return _outcome(state, body)


def _outcome(state: Any, body: bytes) -> Outcome:
    more = tuple((key, value) for key, value in state.trailing_metadata() or ())
    return Outcome(state.code().name, state.details() or "", body, more)


def unary(server: InThread, method: str, message: bytes, **options: Any) -> Outcome:
    options.setdefault("timeout", WITHIN_S)
    with channel_to(server) as channel:
        return outcome(lambda: channel.unary_unary(method).with_call(message, **options))


def infer(rows: int = 2, **fields: Any) -> bytes:
    message = pb.ModelInferRequest(model_name="digits", **fields)
    message.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
    message.raw_input_contents.append(np.arange(rows * 4, dtype=np.float32).tobytes())
    return message.SerializeToString()


def typed() -> bytes:
    message = pb.ModelInferRequest(model_name="digits", id="7")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents[:] = [1] * 4
    return message.SerializeToString()


CALLS: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "live": ("ServerLive", b"", {}),
    "ready": ("ServerReady", b"", {}),
    "model ready": ("ModelReady", pb.ModelReadyRequest(name="digits").SerializeToString(), {}),
    "metadata": ("ModelMetadata", pb.ModelMetadataRequest(name="digits").SerializeToString(), {}),
    "config": ("ModelConfig", pb.ModelConfigRequest(name="digits").SerializeToString(), {}),
    "index": ("RepositoryIndex", b"", {}),
    "inference": ("ModelInfer", infer(), {}),
    "typed inference": ("ModelInfer", typed(), {}),
    "inference with an id": ("ModelInfer", infer(id="é" * 20), {}),
    "a large inference": ("ModelInfer", infer(50_000), {}),
    "another model": ("ModelInfer", infer(model_version="9"), {}),
    "no inputs": ("ModelInfer", pb.ModelInferRequest(model_name="digits").SerializeToString(), {}),
    "no message of protobuf": ("ModelInfer", b"\xff\xff\xff", {}),
    "special characters": (
        "ModelReady",
        pb.ModelReadyRequest(name="\t\n%é☃").SerializeToString(),
        {},
    ),
    "special characters in an error": (
        "ModelMetadata",
        pb.ModelMetadataRequest(
            name="\ttest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t"
        ).SerializeToString(),
        {},
    ),
    "what is not offered": ("SystemSharedMemoryStatus", b"", {}),
    "custom metadata": (
        "ServerLive",
        b"",
        {"metadata": (("x-mine", "yes"), ("x-mine-bin", b"\x00\xff"))},
    ),
    "gzip": ("ModelInfer", infer(1000), {"compression": grpc.Compression.Gzip}),
    "deflate": ("ModelInfer", infer(1000), {"compression": grpc.Compression.Deflate}),
    "bytes that gzip makes few": (
        "ModelInfer",
        bytes(900_000),
        {"compression": grpc.Compression.Gzip},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_the_same_outcome(servers: dict[str, InThread], name: str) -> None:
    method, message, options = CALLS[name]
    theirs, ours = (unary(servers[kind], SERVICE + method, message, **options) for kind in KINDS)
    assert ours == theirs


@pytest.mark.parametrize("method", [SERVICE + "Nothing", "/other.Service/ModelInfer", "/a"])
def test_a_method_that_is_not_there_is_unimplemented(
    servers: dict[str, InThread], method: str
) -> None:
    assert {unary(server, method, b"").status for server in servers.values()} == {"UNIMPLEMENTED"}


def test_a_message_beyond_the_limit_is_refused_with_it(servers: dict[str, InThread]) -> None:
    for server in servers.values():
        refused = unary(server, SERVICE + "ModelInfer", bytes(LIMIT + 1))
        assert refused.status == "RESOURCE_EXHAUSTED"
        assert str(LIMIT) in refused.text


def test_a_message_that_is_large_only_when_unpacked_is_refused_too(
    servers: dict[str, InThread],
) -> None:
    for server in servers.values():
        refused = unary(
            server,
            SERVICE + "ModelInfer",
            bytes(20 * LIMIT),
            compression=grpc.Compression.Gzip,
        )
        assert refused.status == "RESOURCE_EXHAUSTED"


def test_a_stream_answers_in_order_whatever_fails_in_it(servers: dict[str, InThread]) -> None:
    messages = [
        infer(id="1"),
        infer(id="2", model_version="9"),
        infer(60_000, id="3"),
        infer(id="4"),
    ]
    answers = {}
    for kind, server in servers.items():
        with channel_to(server) as channel:
            stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
            answers[kind] = list(stream(iter(messages), timeout=WITHIN_S))
    assert len(answers["grpcio"]) == len(messages)
    assert answers["http2"] == answers["grpcio"]


def test_each_message_of_a_stream_is_answered_before_the_next_one_comes(
    servers: dict[str, InThread],
) -> None:
    with channel_to(servers["http2"]) as channel:
        asked, answered = threading.Semaphore(1), 0

        def one_by_infer() -> Iterator[bytes]:
            for _ in range(20):
                assert asked.acquire(timeout=WITHIN_S)
                yield infer()

        for _ in channel.stream_stream(SERVICE + "ModelStreamInfer")(
            one_by_infer(), timeout=WITHIN_S
        ):
            answered += 1
            asked.release()
    assert answered == 20


def test_an_empty_stream_ends_well(servers: dict[str, InThread]) -> None:
    for server in servers.values():
        with channel_to(server) as channel:
            stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
            assert list(stream(iter([]), timeout=WITHIN_S)) == []


@pytest.fixture(params=KINDS)
def slow(request: pytest.FixtureRequest) -> Iterator[tuple[InThread, Gate]]:
    gate = Gate()
    with running(grpc_server=request.param) as server:
        server.registry.switch(serving(FakeModel(gate)))
        yield server, gate
        gate.open.set()


def until_idle(server: InThread) -> None:
    deadline = time.monotonic() + WITHIN_S
    while server.server.dataplane.pending:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_deadline_ends_the_call_and_the_work_counts(slow: tuple[InThread, Gate]) -> None:
    server, gate = slow
    ended = unary(server, SERVICE + "ModelInfer", infer(), timeout=0.5)
    assert ended.status == "DEADLINE_EXCEEDED"
    gate.open.set()
    until_idle(server)


def test_a_call_that_is_cancelled_leaves_the_connection_to_others(
    slow: tuple[InThread, Gate],
) -> None:
    server, gate = slow
    with channel_to(server) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer").future(infer(), timeout=WITHIN_S)
        gate.wait_entered()
        call.cancel()
        live = channel.unary_unary(SERVICE + "ServerLive")(b"", timeout=WITHIN_S)
        assert pb.ServerLiveResponse.FromString(live).live
        gate.open.set()
        until_idle(server)


def test_slow_calls_of_one_connection_run_beside_each_other(slow: tuple[InThread, Gate]) -> None:
    server, gate = slow
    with channel_to(server) as channel:
        ask = channel.unary_unary(SERVICE + "ModelInfer")
        calls = [ask.future(infer(), timeout=WITHIN_S) for _ in range(2)]
        gate.wait_entered(min(2, server.settings.workers))
        gate.open.set()
        assert all(call.result() for call in calls)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_asked_for(kind: str, tmp_path: Path) -> None:
    secret = Secret(tmp_path / "tokens", token=TOKEN.encode())
    with running(grpc_server=kind, token_dir=secret.folder) as server:
        known = (("authorization", f"Bearer {TOKEN}"),)
        wrong = (("authorization", "Bearer another-token-as-long"),)
        ready = SERVICE + "ModelReady"
        assert unary(server, SERVICE + "ServerLive", b"").status == "OK"
        assert unary(server, ready, b"", metadata=known).status == "OK"
        refused = [unary(server, ready, b""), unary(server, ready, b"", metadata=wrong)]
        assert {one.status for one in refused} == {"UNAUTHENTICATED"}
        secret.write(token=b"another-token-as-long")
        server.server._credentials.refresh()
        assert unary(server, ready, b"", metadata=known).status == "UNAUTHENTICATED"
        assert unary(server, ready, b"", metadata=wrong).status == "OK"


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_stops_answers_what_is_under_way(kind: str) -> None:
    gate = Gate()
    with running(grpc_server=kind, grace_s=WITHIN_S) as server:
        server.registry.switch(serving(FakeModel(gate)))
        with channel_to(server) as channel:
            call = channel.unary_unary(SERVICE + "ModelInfer").future(infer(), timeout=WITHIN_S)
            gate.wait_entered()
            server.request_stop()
            gate.open.set()
            assert call.result()
        server.join()


def test_the_same_port_serves_rest_over_http2_and_keeps_to_the_standard(model: Path) -> None:
    program = tools.ensure(Layout.from_environment(), tools.H2SPEC)["h2spec"]
    port = free_port()
    with running(grpc_server="http2", grpc_port=port) as server:
        server.registry.switch(serving(load(model)))
        address = ("-h", "127.0.0.1", "-p", str(port), "-P", "/v2/repository/index")
        done = subprocess.run(
            [program, *address, "-o", "30"], capture_output=True, text=True, check=False
        )
    assert "145 tests, 145 passed, 0 skipped, 0 failed" in done.stdout, done.stdout
