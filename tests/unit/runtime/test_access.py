"""Tokens and certificates of mounted secrets: who is let in, and what a change of them does."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from serving.deployed import eventually
from serving.fakes import FakeModel, serving
from serving.running import InThread, running
from skerry_runtime.access import MAX_FILE_BYTES, BadSecret, Credentials, Reads, Tls, Tokens
from unit.runtime.secrets_folder import Secret, certificate

ONE, TWO = "first-token-0123456789", "second-token-0123456789"
INFER = "/v2/models/digits/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}
)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Tokens


def test_any_of_several_tokens_is_admitted(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "t", old=f"{ONE}\n".encode(), new=f"\n{TWO}\r\n".encode())
    tokens = Tokens(secret.folder)
    assert tokens.admits(f"Bearer {ONE}".encode())
    assert tokens.admits(f"bearer   {TWO} ".encode())


@pytest.mark.parametrize(
    "header",
    [None, b"", b"Bearer", b"Bearer ", b"Basic " + ONE.encode(), ONE.encode(), b"Bearer \xff\xfe",
     b"Bearer " + ONE[:-1].encode(), b"Bearer " + ONE.encode() + b"x",
     f"Bearer {ONE} {TWO}".encode(), b"Bearer " + b"x" * 1_000_000],
)  # fmt: skip
def test_everything_else_is_turned_away(tmp_path: Path, header: bytes | None) -> None:
    tokens = Tokens(Secret(tmp_path / "t", token=f"{ONE}\n{TWO}".encode()).folder)
    assert not tokens.admits(header)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "0 tokens"),
        (b" \n\n", "0 tokens"),
        (b"short", "fewer than 16 characters"),
        (b"a-passphrase-made-of two-long-halves", "a space in it"),
        (b"\n".join(b"token-%016d" % n for n in range(65)), "65 tokens"),
        (b"x" * (MAX_FILE_BYTES + 1), "more than"),
    ],
)
def test_a_secret_that_protects_nothing_is_refused(tmp_path: Path, body: bytes, words: str) -> None:
    with pytest.raises(BadSecret, match=words):
        Tokens(Secret(tmp_path / "t", token=body).folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSecret, match="cannot be read"):
        Tokens(tmp_path / "nothing")


def test_tokens_rotate_and_a_bad_change_keeps_those_of_before(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "t", token=ONE.encode())
    tokens = Tokens(secret.folder)
    secret.write(token=TWO.encode())
    tokens.refresh()
    assert tokens.admits(f"Bearer {TWO}".encode())
    assert not tokens.admits(f"Bearer {ONE}".encode())
    secret.write(token=b"")
    with pytest.raises(BadSecret) as caught:
        tokens.refresh()
    assert TWO not in str(caught.value)
    assert tokens.admits(f"Bearer {TWO}".encode())


def test_a_key_that_belongs_to_another_certificate_is_refused(tmp_path: Path) -> None:
    one, two = certificate(tmp_path, "one"), certificate(tmp_path, "two")
    mixed = Secret(tmp_path / "m", tls_crt=one["tls_crt"], tls_key=two["tls_key"])
    with pytest.raises(BadSecret, match="no certificate with its key"):
        Tls(mixed.folder)


def test_a_secret_whose_links_go_in_a_circle_keeps_what_was_read(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "t", token=ONE.encode())
    access = Credentials.of(secret.folder, None)
    circle(secret.folder)
    assert "cannot be read" in access.refresh()
    assert access.reads() == Reads(failures=1, is_stale=True)
    assert access.tokens
    assert access.tokens.admits(f"Bearer {ONE}".encode())


def circle(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.symlink_to(folder.name)


def test_no_surprise_of_one_secret_keeps_the_other_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Secret(tmp_path / "t", token=ONE.encode())
    tls = Secret(tmp_path / "tls", **certificate(tmp_path, "one"))
    access = Credentials.of(tokens.folder, tls.folder)
    assert access.tokens
    assert access.tls

    def surprise() -> None:
        raise LookupError("never seen before")

    monkeypatch.setattr(access.tokens, "refresh", surprise)
    before = access.tls.pair
    tls.write(**certificate(tmp_path, "two"))
    assert "LookupError" in access.refresh()
    assert access.tls.pair != before
    monkeypatch.undo()
    assert access.refresh() == ""
    assert access.reads() == Reads(failures=1, is_stale=False)


# A running server


def ask(
    address: str, path: str, headers: dict[str, str] | None = None, body: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("POST" if body else "GET", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


@contextmanager
def guarded(**settings: object) -> Iterator[InThread]:
    with running(secrets_poll_s=0.02, **settings) as server:
        server.registry.switch(serving(FakeModel()))
        yield server


@pytest.fixture
def tokens(tmp_path: Path) -> Secret:
    return Secret(tmp_path / "tokens", token=ONE.encode())


@pytest.mark.parametrize("path", ["/v2", "/v2/models/digits", "/v2/models/digits/ready", "/nowhere",
                                  "/v2/health/live/../../models/digits", "//v2/health/live",
                                  "/v2/health/live/", "/v2/health/liveness"])  # fmt: skip
def test_every_path_but_health_needs_a_token(tokens: Secret, path: str) -> None:
    with guarded(token_dir=tokens.folder) as server:
        status, headers, body = ask(server.http, path)
        assert status == 401
        assert headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in json.loads(body)["error"]
        assert ask(server.http, path, bearer(ONE))[0] != 401


def test_health_and_the_admin_port_stay_open(tokens: Secret) -> None:
    with guarded(token_dir=tokens.folder) as server:
        assert ask(server.http, "/v2/health/live")[0] == 200
        assert ask(server.http, "/v2/health/ready?x=1")[0] == 200
        assert [ask(server.admin, path)[0] for path in ("/status", "/metrics", "/readyz")] == [
            200
        ] * 3


def test_a_request_without_a_token_is_refused_before_its_body_is_sent(tokens: Secret) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    with guarded(token_dir=tokens.folder) as server:
        host, port = server.http.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_the_reference_clients_get_in_with_a_token_and_not_without(tokens: Secret) -> None:
    with guarded(token_dir=tokens.folder) as server:
        for module, address in ((triton_http, server.http), (triton_grpc, server.grpc)):
            entry = module.InferInput("x", [1, 4], "FP32")
            entry.set_data_from_numpy(np.zeros((1, 4), np.float32))
            with closing(module.InferenceServerClient(address)) as client:
                assert client.is_server_live()
                assert client.is_server_ready()
                with pytest.raises(InferenceServerException) as caught:
                    client.infer("digits", [entry])
                assert caught.value.status() in ("401", str(grpc.StatusCode.UNAUTHENTICATED))
                assert "Authorization: Bearer TOKEN" in str(caught.value)
                headers = {"authorization": f"Bearer {ONE}"}
                assert client.infer("digits", [entry], headers=headers).as_numpy("y") is not None


def test_a_changed_secret_counts_without_a_restart_and_no_token_is_logged(
    tokens: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with guarded(token_dir=tokens.folder) as server:
        tokens.write(token=TWO.encode())
        eventually(lambda: ask(server.http, "/v2", bearer(TWO))[0] == 200, "the new token")
        assert ask(server.http, "/v2", bearer(ONE))[0] == 401
        tokens.write(token=b"")
        eventually(lambda: "0 tokens" in caplog.text, "a complaint")
        assert ask(server.http, "/v2", bearer(TWO))[0] == 200
    assert ONE not in caplog.text
    assert TWO not in caplog.text


def test_a_rotation_that_fails_is_counted_and_the_pod_goes_on_being_ready(tokens: Secret) -> None:
    def page() -> str:
        return ask(server.admin, "/metrics")[2].decode()

    with guarded(token_dir=tokens.folder) as server:
        assert "skerry_secrets_stale 0.0" in page()
        tokens.write(token=b"")
        eventually(lambda: "skerry_secrets_stale 1.0" in page(), "the failure in /metrics")
        assert "skerry_secret_read_failures_total 0.0" not in page()
        assert ask(server.admin, "/readyz")[0] == 200
        assert ask(server.http, "/v2", bearer(ONE))[0] == 200
        tokens.write(token=TWO.encode())
        eventually(lambda: "skerry_secrets_stale 0.0" in page(), "its end")
        assert ask(server.http, "/v2", bearer(TWO))[0] == 200
    with guarded() as server:
        assert "skerry_secret" not in page()


def trusting(*pems: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for pem in pems:
        context.load_verify_locations(cadata=pem.decode())
    return context


@pytest.mark.parametrize("grpc_server", ["grpcio", "http2"])
def test_both_protocols_speak_tls_and_a_new_certificate_drops_no_connection(
    tmp_path: Path, grpc_server: str
) -> None:
    old, new = certificate(tmp_path, "old"), certificate(tmp_path, "new")
    secret = Secret(tmp_path / "tls", **old)
    with guarded(tls_dir=secret.folder, grpc_server=grpc_server) as server:
        context = trusting(old["tls_crt"], new["tls_crt"])
        with closing(http.client.HTTPSConnection(server.http, timeout=30, context=context)) as kept:
            kept.request("POST", INFER, BODY)
            assert kept.getresponse().read()
            before = peer_name(server.http, context)
            with secure_rpc(server, old["tls_crt"]) as stub:
                assert stub.is_server_live()
                secret.write(**new)
                eventually(lambda: peer_name(server.http, context) != before, "a new certificate")
                eventually(lambda: live_over(server, new["tls_crt"]), "the same over gRPC")
                assert stub.is_server_live()
            kept.request("POST", INFER, BODY)
            assert kept.getresponse().status == 200
        assert not live_over(server, old["tls_crt"])


def peer_name(address: str, context: ssl.SSLContext) -> object:
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        certificate_of_peer = connection.getpeercert()
        assert certificate_of_peer
        return certificate_of_peer["subject"]


@contextmanager
def secure_rpc(server: InThread, root: bytes) -> Iterator[triton_grpc.InferenceServerClient]:
    credentials = grpc.ssl_channel_credentials(root)
    address = server.grpc.replace("127.0.0.1", "localhost")
    client = triton_grpc.InferenceServerClient(address, creds=credentials)
    with closing(client):
        yield client


def live_over(server: InThread, root: bytes) -> bool:
    """Tell whether a client that trusts one certificate gets an answer."""
    with secure_rpc(server, root) as client:
        try:
            return bool(client.is_server_live())
        except InferenceServerException:
            return False


def test_plain_requests_to_a_tls_port_get_nothing(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "tls", **certificate(tmp_path, "one"))
    with guarded(tls_dir=secret.folder) as server:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(server.http, "/v2/health/live")
        assert ask(server.admin, "/healthz")[0] == 200


@contextmanager
def silent(address: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections that never say a word."""
    host, port = address.split(":")
    with ExitStack() as opened:
        yield [
            opened.enter_context(socket.create_connection((host, int(port)), timeout=30))
            for _ in range(count)
        ]


def is_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_handshakes_that_take_too_long_are_ended_over_both_protocols(tmp_path: Path) -> None:
    secret = Secret(tmp_path / "tls", **certificate(tmp_path, "one"))
    with guarded(tls_dir=secret.folder, handshake_timeout_s=0.3) as server:
        for address in (server.http, server.grpc):
            with silent(address, 2) as connections:
                assert all(map(is_gone, connections))


def test_a_crowd_that_never_shakes_hands_keeps_nobody_out(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "one")
    secret = Secret(tmp_path / "tls", **pair)
    with guarded(tls_dir=secret.folder, max_handshakes=4) as server:
        with silent(server.http, 12) as connections:
            assert all(map(is_gone, connections[:8])), "the oldest make room"
            assert peer_name(server.http, trusting(pair["tls_crt"]))
        handshakes = server.server._doors._rest._handshakes._under_way
        eventually(lambda: not handshakes, "nobody is left")


def test_the_grpc_port_takes_so_many_connections(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "one")
    secret = Secret(tmp_path / "tls", **pair)
    with guarded(tls_dir=secret.folder, max_connections=3) as server:
        with silent(server.grpc, 8) as connections:
            assert all(map(is_gone, connections[3:]))
        eventually(lambda: live_over(server, pair["tls_crt"]), "room again")


def test_idle_connections_and_streams_leave_the_grpc_port() -> None:
    with guarded(keep_alive_s=0.3) as server:
        with closing(grpc.insecure_channel(server.grpc)) as channel:
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            never = threading.Event()
            answers = stream(iter(lambda: never.wait(60) and None, None))
            assert list(answers) == []  # the server ended it; nothing was sent
            never.set()
        with closing(grpc.insecure_channel(server.grpc)) as channel:
            states: list[grpc.ChannelConnectivity] = []
            channel.subscribe(states.append, try_to_connect=True)
            eventually(lambda: grpc.ChannelConnectivity.READY in states, "a connection")
            eventually(lambda: states[-1] is grpc.ChannelConnectivity.IDLE, "its end")


def test_the_shared_memory_extension_is_absent() -> None:
    with guarded() as server:
        for kind in ("systemsharedmemory", "cudasharedmemory"):
            assert ask(server.http, f"/v2/{kind}/status")[0] in (404, 501)
            assert ask(server.http, f"/v2/{kind}/region/a/register", body="{}")[0] in (404, 501)
        with closing(triton_grpc.InferenceServerClient(server.grpc)) as client:
            for call in (client.get_system_shared_memory_status,
                         client.get_cuda_shared_memory_status):  # fmt: skip
                with pytest.raises(InferenceServerException) as caught:
                    call()
                assert caught.value.status() == str(grpc.StatusCode.UNIMPLEMENTED)
        extensions = json.loads(ask(server.http, "/v2")[2])["extensions"]
        assert not any("shared_memory" in name for name in extensions)
