"""The admin port when a pod of the cluster wants to keep kubelet and operator out of it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from serving.deployed import eventually
from serving.running import InThread, running
from skerry_runtime.rest.admin import SAVED_S, SHARE, Spared

CROWD = 2000
HALF = b"GET /status HTTP/1.1\r\nhost: a\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\n\r\n"
PATHS = ("/healthz", "/status", "/metrics")


CROWD_PROGRAM = """
import errno, resource, select, socket, sys
port, first, addresses, count = map(int, sys.argv[1:5])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
connections, poll = {}, select.poll()
def come(number):
    connection = socket.socket()
    connection.setblocking(False)
    connection.bind((f"127.0.0.{first + number % addresses}", 0))
    connection.connect_ex(("127.0.0.1", port))
    connections[connection.fileno()] = connection
    poll.register(connection, select.POLLOUT)
for number in range(count):
    come(number)
print("here", flush=True)
poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
while True:
    for file, _ in poll.poll():
        if file == sys.stdin.fileno():
            sys.exit()
        try:
            connections[file].send(sys.argv[5].encode())
        except OSError:
            pass
        if sys.argv[6] == "again":
            poll.unregister(file)
            connections.pop(file).close()
            come(file)
        else:
            poll.modify(file, 0)
"""
"""Comes from several addresses, says something, and stays; or leaves and comes again at once."""


def ask(server: InThread, path: str, source: str = "127.0.0.1") -> int:
    connection = http.client.HTTPConnection(server.admin, timeout=30, source_address=(source, 0))
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status


@contextmanager
def crowd(
    server: InThread, addresses: int = 1, says: bytes = b"", then: str = "stays", count: int = CROWD
) -> Iterator[None]:
    """A process whose connections come from 127.0.0.2 and so on."""
    port, numbers = str(server.ports.admin), [str(n) for n in (2, addresses, count)]
    command = [sys.executable, "-c", CROWD_PROGRAM, port, *numbers, says.decode(), then]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"here\n"
        yield
        assert process.poll() is None, "the crowd has not left"
        process.kill()


@pytest.mark.parametrize("says", [b"", HALF, METRICS])
@pytest.mark.parametrize("addresses", [1, 200])
def test_no_crowd_keeps_a_probe_out(says: bytes, addresses: int) -> None:
    with running() as server, crowd(server, addresses, says):
        for path in PATHS:
            assert ask(server, path) == 200
            assert ask(server, path, "127.0.0.2") == 200, "from an address of the crowd"


def test_probes_are_answered_while_a_crowd_comes_without_pause() -> None:
    with running() as server, crowd(server, 2, HALF, "again", 50):
        for _ in range(5):
            assert ask(server, "/healthz") == 200
            assert ask(server, "/status", "127.0.0.9") == 200


def test_a_kept_connection_of_one_who_asks_survives_a_crowd_of_another() -> None:
    with running() as server, closing(http.client.HTTPConnection(server.admin, timeout=30)) as kept:
        ports = set()
        with crowd(server):
            for _ in range(3):
                kept.request("GET", "/healthz")
                ports.add(kept.sock.getsockname()[1])
                answer = kept.getresponse()
                assert (answer.status, answer.read()) == (200, b"alive\n")
                assert ask(server, "/healthz", "127.0.0.9") == 200  # those before it were let in
        assert len(ports) == 1


@contextmanager
def one(server: InThread, says: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.ports.admin), 30) as connection:
        connection.sendall(says)
        yield connection


@pytest.mark.parametrize("drip", [b"x", b"\r\n", b"x: y\r\n"])
def test_a_request_that_drips_in_is_given_up(drip: bytes) -> None:
    with running(admin_timeout_s=0.2) as server, one(server) as dripping:
        dripping.settimeout(0.01)

        def is_ended() -> bool:
            try:
                dripping.sendall(drip)
                return not dripping.recv(4096)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually(is_ended, "the end of a request that drips")


def test_a_connection_that_asked_and_is_idle_is_ended_in_time() -> None:
    asks = b"GET /healthz HTTP/1.1\r\n\r\n"
    with (
        running(admin_keep_alive_s=0.5, admin_timeout_s=5.0) as server,
        one(server, asks) as idle,
    ):
        seen = b""
        while data := idle.recv(4096):
            seen += data
        assert seen.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "head", [b"content-length: 1000000", b"content-length: 1", b"transfer-encoding: chunked"]
)
def test_the_admin_port_takes_no_body(head: bytes) -> None:
    with running() as server, one(server, b"GET /status HTTP/1.1\r\n" + head + b"\r\n\r\n") as asks:
        assert asks.recv(4096).startswith(b"HTTP/1.1 413 ")


def is_cut_off(deaf: socket.socket) -> bool:
    deaf.settimeout(0.01)
    try:
        deaf.sendall(METRICS * 2000)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return False


def test_a_client_that_never_reads_its_answers_is_ended() -> None:
    """What is asked ahead of the answers stays in the socket until then."""
    with running(admin_timeout_s=1.0) as server, one(server) as deaf:
        eventually(lambda: is_cut_off(deaf), "the end of a client that does not read")
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
