"""The bench's clients: what they send was encoded before, so that the figures are the servers'."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import grpc
import onnxruntime as ort

from bench.contenders import Running
from bench.models import Case

Call = Callable[[], object]

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def raw(case: Case) -> Call:
    """`session.run` in this process, with the server's own options."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    feed = {"x": case.array}
    return lambda: session.run(None, feed)


@contextmanager
def asking(way: str, case: Case, server: Running) -> Iterator[Call]:
    """Ask one server in one way over one connection."""
    if way == "gRPC":
        message = case.message()
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
            call = channel.unary_unary(METHOD)
            yield lambda: call(message, timeout=60)
        return
    request = case.binary() if way == "REST binary" else case.json()
    with connected(server.http) as connection:
        yield lambda: exchange(connection, request)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Return a connection that waits for no fuller packet."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and return the answer's body.

    Raises:
        RuntimeError: the answer is not 200.
    """
    connection.sendall(request)
    return answer(connection)


def answer(connection: socket.socket) -> bytes:
    """Read one answer; return its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError("the server closed the connection")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(data[:500])
    length = int(head.lower().split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return body


def timed(call: Call, count: int) -> list[float]:
    """Call so often; return the microseconds of each."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e6)
    return times


def crowd(port: int, request: bytes, clients: int, count: int) -> tuple[float, list[float]]:
    """Ask from many connections at a time; return requests per second, and every latency in s."""
    with ExitStack() as opened, selectors.DefaultSelector() as selector:
        began_at: dict[socket.socket, float] = {}
        for _ in range(clients):
            connection = opened.enter_context(connected(port))
            selector.register(connection, selectors.EVENT_READ)
            began_at[connection] = time.perf_counter()
            connection.sendall(request)
        latencies: list[float] = []
        began = time.perf_counter()
        while len(latencies) < count:
            for key, _ in selector.select():
                connection = key.fileobj  # type: ignore[assignment]
                answer(connection)
                now = time.perf_counter()
                latencies.append(now - began_at[connection])
                began_at[connection] = now
                connection.sendall(request)
        return len(latencies) / (time.perf_counter() - began), latencies
