"""A plain HTTP server for model files, with ranges so that downloads can resume."""

from __future__ import annotations

import argparse
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from typing_extensions import override

from digits_demo.errors import DemoError

CHUNK = 256 * 1024
STOP_TIMEOUT_S = 5.0
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_PACKAGE_ROOT = Path(__file__).resolve().parents[1]


class Unsatisfiable(ValueError):  # noqa: N818 (the protocol's word)
    """The range lies outside the file."""


@dataclass(frozen=True)
class Span:
    """The bytes from `start` up to but without `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.end - self.start


def parse_range(header: str | None, size: int) -> Span | None:
    """Read a Range header; None means the whole file, also for forms that are not understood.

    Raises:
        Unsatisfiable: the range begins behind the end.
    """
    match = _RANGE.match(header or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        return _suffix(int(last), size)
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if start >= size:
        raise Unsatisfiable(header)
    return Span(start, end) if end > start else None


def _suffix(length: int, size: int) -> Span:
    if length == 0 or size == 0:
        raise Unsatisfiable("an empty range")
    return Span(max(0, size - length), size)


class FileHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of one flat folder."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    root = Path()

    def do_GET(self) -> None:
        """Send a file or a part of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send only what GET would say about it."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self._file()
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        try:
            span = parse_range(self.headers.get("Range"), size)
        except Unsatisfiable:
            self._refuse_range(size)
            return
        self._send_head(size, span)
        if with_body:
            with path.open("rb") as file:
                self._send_body(file, span or Span(0, size))

    def _file(self) -> Path | None:
        """Find the file by its bare name: no folders, so no way out of the root."""
        name = self.path.partition("?")[0].removeprefix("/")
        is_plain = bool(re.fullmatch(r"[\w][\w.\-]*", name))
        path = self.root / name
        return path if is_plain and path.is_file() else None

    def _refuse_range(self, size: int) -> None:
        self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        self.send_header("Content-Range", f"bytes */{size}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_head(self, size: int, span: Span | None) -> None:
        self.send_response(HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(size if span is None else span.length))
        if span is not None:
            self.send_header("Content-Range", f"bytes {span.start}-{span.end - 1}/{size}")
        self.end_headers()

    def _send_body(self, file: BinaryIO, span: Span) -> None:
        file.seek(span.start)
        left = span.length
        while left > 0:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                self.close_connection = True  # the file shrank: the length promised is not met
                return
            self.wfile.write(chunk)
            left -= len(chunk)


class FileServer(ThreadingHTTPServer):
    """A server that lets a client go away without a traceback."""

    daemon_threads = True
    allow_reuse_address = True

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hung up; report anything else."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def make_server(root: Path, host: str, port: int) -> FileServer:
    """Bind a server for the folder; port 0 lets the system choose."""
    handler = type("BoundHandler", (FileHandler,), {"root": root.resolve()})
    return FileServer((host, port), handler)


class ModelServer:
    """The server as a process of its own, which can be stopped and started again."""

    def __init__(self, root: Path, host: str, log: Path, port: int = 0) -> None:
        self._root = root
        self._host = host
        self._log = log
        self._port = port or _free_port(host)
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Address without a slash at its end; the same after a restart."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> None:
        """Start the process and wait until it listens.

        Raises:
            DemoError: it ended at once.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=_PACKAGE_ROOT, text=True, stdout=subprocess.PIPE, stderr=log
            )
        self._wait_until_it_listens(self._process)

    def stop(self) -> None:
        """End the process; does nothing when there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def _command(self) -> list[str]:
        options = [f"--root={self._root}", f"--host={self._host}", f"--port={self._port}"]
        return [sys.executable, "-m", "digits_demo.model_server", *options]

    def _wait_until_it_listens(self, process: subprocess.Popen[str]) -> None:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("listening"):
            self.stop()
            raise DemoError(
                f"the model server did not start on {self._host}:{self._port}",
                f"read {self._log}; is the address one of this machine?",
            )


def _free_port(host: str) -> int:
    """Return a port that is free now.

    Raises:
        DemoError: the address is not one of this machine.
    """
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise DemoError(
            f"no server can listen on {host}: {error.strerror}",
            "is the cluster up? it brings this address (hack/cluster/main.py status)",
        ) from error


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with make_server(args.root, args.host, args.port) as server:
        print(f"listening on {args.host}:{server.server_port}", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
