"""The admin port when a pod of the cluster wants to keep kubelet and operator out of it."""

from __future__ import annotations

import http.client
import resource
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from serving.deployed import eventually
from serving.running import InThread, running
from skerry_runtime.rest.admin import SAVED_S, SHARE, Spared

CROWD = 2000
HALF = b"GET /status HTTP/1.1\r\nhost: a\r\n"
PATHS = ("/healthz", "/status", "/metrics")


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Both ends of every connection are this process's."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def ask(server: InThread, path: str, source: str = "127.0.0.1") -> int:
    connection = http.client.HTTPConnection(server.admin, timeout=30, source_address=(source, 0))
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status


@contextmanager
def crowd(
    server: InThread, sources: Sequence[str], sends: bytes = b"", count: int = CROWD
) -> Iterator[list[socket.socket]]:
    """Connections that send something, or nothing, and wait."""
    with ExitStack() as opened:
        connections = []
        for number in range(count):
            source = (sources[number % len(sources)], 0)
            connection = socket.create_connection(("127.0.0.1", server.ports.admin), 30, source)
            connections.append(opened.enter_context(connection))
            with suppress(ConnectionError):
                connection.sendall(sends)
        yield connections


@pytest.mark.parametrize("sends", [b"", HALF, b"GET /metrics HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("sources", [1, 200])
def test_no_crowd_keeps_a_probe_out(sends: bytes, sources: int) -> None:
    addresses = [f"127.0.0.{2 + number}" for number in range(sources)]
    with running() as server, crowd(server, addresses, sends):
        for path in PATHS:
            assert ask(server, path) in (200, 503)
            assert ask(server, path, addresses[0]) in (200, 503), "from the crowd's own address"


def test_probes_are_answered_while_a_crowd_comes_without_pause() -> None:
    is_over = threading.Event()

    def come(server: InThread) -> None:
        while not is_over.is_set():
            with crowd(server, ["127.0.0.1", "127.0.0.2"], HALF, count=100):
                pass

    with running() as server:
        threads = [threading.Thread(target=come, args=(server,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                assert ask(server, "/healthz") == 200
                assert ask(server, "/status", "127.0.0.3") == 200
        finally:
            is_over.set()
            for thread in threads:
                thread.join(60)


def test_a_kept_connection_of_one_who_asks_survives_a_crowd_of_another() -> None:
    with running() as server:
        kept = http.client.HTTPConnection(server.admin, timeout=30)
        with closing(kept), crowd(server, ["127.0.0.2"]):
            for _ in range(2):
                kept.request("GET", "/healthz")
                answer = kept.getresponse()
                assert (answer.status, answer.read()) == (200, b"alive\n")
                port = kept.sock.getsockname()[1]
            assert kept.sock.getsockname()[1] == port


@pytest.mark.parametrize("drip", [b"x", b"\r\n", b"x: y\r\n"])
def test_a_request_that_drips_in_is_given_up(drip: bytes) -> None:
    with running(admin_timeout_s=0.2) as server, crowd(server, ["127.0.0.2"], b"", 1) as dripping:
        dripping[0].settimeout(0.01)

        def is_ended() -> bool:
            try:
                dripping[0].sendall(drip)
                return not dripping[0].recv(4096)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually(is_ended, "the end of a request that drips")


def test_idle_connections_are_ended_in_time() -> None:
    with running(admin_idle_timeout_s=0.1, admin_timeout_s=0.2) as server:
        with crowd(server, ["127.0.0.1"], b"GET /healthz HTTP/1.1\r\n\r\n", 3) as idle:
            for connection in idle:
                connection.settimeout(30)
                seen = b""
                while data := connection.recv(4096):
                    seen += data
                assert seen.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "head", [b"content-length: 1000000", b"content-length: 1", b"transfer-encoding: chunked"]
)
def test_the_admin_port_takes_no_body(head: bytes) -> None:
    sends = b"GET /status HTTP/1.1\r\n" + head + b"\r\n\r\n"
    with running() as server, crowd(server, ["127.0.0.1"], sends, 1) as asking:
        assert asking[0].recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_never_reads_its_answers_costs_no_memory_without_end() -> None:
    """What is asked ahead of the answers stays in the socket."""
    asked = b"GET /metrics HTTP/1.1\r\n\r\n" * 2000
    with running(admin_timeout_s=0.5) as server, crowd(server, ["127.0.0.2"], b"", 1) as deaf:
        deaf[0].settimeout(0.2)
        with suppress(TimeoutError, ConnectionError):
            while True:
                deaf[0].sendall(asked)
        assert ask(server, "/healthz") == 200


def test_a_document_is_made_anew_unless_so_many_ask_that_clients_would_feel_it() -> None:
    spent, now, made = 0.0, 0.0, 0

    def make() -> bytes:
        nonlocal spent, made
        spent, made = spent + 0.01, made + 1
        return b"%d" % made

    document = Spared(make, lambda: now, lambda: spent)
    assert [document.text() for _ in range(3)] == [b"1", b"2", b"3"]
    for _ in range(1000):
        now += 0.001
        document.text()
    assert made <= 1 + (SAVED_S + SHARE * now) / 0.01
    now += 10
    assert document.text() == b"%d" % made
    assert made > 3
