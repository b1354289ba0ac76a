"""gRPC's own services, as probes and grpcurl use them, and how often a connection may be pinged."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from serving import models
from serving.fakes import load, serving
from serving.running import InThread, running
from skerry_runtime.rpc.generated.health_pb2 import HealthCheckRequest, HealthCheckResponse
from skerry_runtime.rpc.generated.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from unit.runtime.secrets_folder import Secret

VERSIONS = ("v1", "v1alpha")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.product(tmp_path_factory.mktemp("models") / "m.onnx")


@pytest.fixture(params=["grpcio", "http2"])
def server(request: pytest.FixtureRequest) -> Iterator[InThread]:
    with running(reflection=True, grpc_server=request.param) as server:
        yield server


def health(server: InThread, service: str) -> int:
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        return int(check(HealthCheckRequest(service=service), timeout=30).status)


@pytest.mark.parametrize("service", ["", "readiness", "inference.GRPCInferenceService"])
def test_the_health_of_a_service_is_whether_a_model_serves(
    server: InThread, service: str, model: Path
) -> None:
    assert health(server, service) == HealthCheckResponse.NOT_SERVING
    server.registry.switch(serving(load(model)))
    assert health(server, service) == HealthCheckResponse.SERVING


def test_liveness_needs_no_model(server: InThread) -> None:
    assert health(server, "liveness") == HealthCheckResponse.SERVING


def test_a_service_that_nobody_knows_is_not_found(server: InThread) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        health(server, "digits")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert "ask for ''" in refused.value.details()


def ask(server: InThread, version: str, *questions: dict[str, str]) -> list[object]:
    with grpc.insecure_channel(server.grpc) as channel:
        reflect = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        messages = iter([ServerReflectionRequest(**question) for question in questions])
        return list(reflect(messages, timeout=30))


@pytest.mark.parametrize("version", VERSIONS)
def test_grpcurl_finds_the_services_and_their_messages(server: InThread, version: str) -> None:
    listed, found, nested, unknown, again = ask(
        server,
        version,
        {"list_services": ""},
        {"file_containing_symbol": "inference.GRPCInferenceService"},
        {"file_containing_symbol": "inference.ModelInferRequest.InferInputTensor"},
        {"file_containing_symbol": "no.such.Thing"},
        {"file_containing_symbol": "grpc.health.v1.Health.Check"},
    )
    names = [service.name for service in listed.list_services_response.service]
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(names)
    file = FileDescriptorProto.FromString(found.file_descriptor_response.file_descriptor_proto[0])
    assert [service.name for service in file.service] == ["GRPCInferenceService"]
    assert not file.dependency, "a tool would ask for those as well"
    assert nested.file_descriptor_response == found.file_descriptor_response
    assert unknown.error_response.error_code == 5
    assert again.file_descriptor_response.file_descriptor_proto
    assert again.original_request.file_containing_symbol == "grpc.health.v1.Health.Check"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_service_that_is_listed_can_be_described(server: InThread, version: str) -> None:
    (listed,) = ask(server, version, {"list_services": ""})
    names = [service.name for service in listed.list_services_response.service]
    described = ask(server, version, *({"file_containing_symbol": name} for name in names))
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in described)
    files = [
        FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
        for answer in described
    ]
    by_name = ask(server, version, *({"file_by_filename": file.name} for file in files))
    assert [each.file_descriptor_response for each in by_name] == [
        each.file_descriptor_response for each in described
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_reflection_is_off_by_default(version: str) -> None:
    with running() as server:
        with pytest.raises(grpc.RpcError) as refused:
            ask(server, version, {"list_services": ""})
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_with_tokens_a_probe_needs_none_and_reflection_does(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "tokens", token=b"a-token-that-nobody-guesses")
    with running(reflection=True, token_dir=secret.folder) as server:
        assert health(server, "liveness") == HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            ask(server, "v1", {"list_services": ""})
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ENHANCE_YOUR_CALM = 11


def frame(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + bytes(4) + body


class Wire:
    """A connection of HTTP/2 by hand: a client that pings as it likes."""

    def __init__(self, server: InThread) -> None:
        host, _, port = server.grpc.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.file = self.socket.makefile("rb")
        self.socket.sendall(PREFACE + frame(SETTINGS))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and body of each frame until the server closes."""
        while len(head := self.file.read(9)) == 9:
            yield head[3], head[4], self.file.read(int.from_bytes(head[:3], "big"))

    def ping(self) -> tuple[int, bytes]:
        """Ping, and return the kind and the body of what ends the waiting."""
        self.socket.sendall(frame(PING, b"12345678"))
        for kind, flags, body in self.frames():
            if kind == GOAWAY or (kind == PING and flags & 1):
                return kind, body
        return GOAWAY, b""


def test_a_client_that_pings_each_second_stays(server: InThread) -> None:
    with Wire(server) as wire:
        for _ in range(6):
            assert wire.ping() == (PING, b"12345678")
            time.sleep(1)  # the interval is what is tried; a longer one is no harder


def test_a_client_that_pings_without_pause_is_sent_away(server: InThread) -> None:
    with Wire(server) as wire:
        for _ in range(1000):
            kind, body = wire.ping()
            if kind == GOAWAY:
                break
    assert int.from_bytes(body[4:8], "big") == ENHANCE_YOUR_CALM
