"""The whole pod: `skerry-runtime serve` with an assignment, slots, and a model server."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from serving.running import ROOT, Addressed
from skerry_runtime.contract import RevisionContent, StatusReport
from skerry_runtime.doors import Ports
from unit.runtime.agent.support import Mount

DEADLINE_S = 180.0
"""A loaded machine is slow, and not wrong; nothing is measured here."""
QUICK = {
    "SKERRY_POLL_S": "0.01",
    "SKERRY_FETCH_ALLOW": "127.0.0.0/8",  # where the tests' model server is
    "SKERRY_BACKOFF_MIN_S": "0.05",
    "SKERRY_BACKOFF_MAX_S": "0.2",
    "SKERRY_SLOW_BACKOFF_MIN_S": "0.05",
    "SKERRY_SLOW_BACKOFF_MAX_S": "0.2",
    "SKERRY_DISK_RESERVE_BYTES": "1",
    "SKERRY_LINGER_S": "0",
}
"""Settings that differ from the product's only in how long it waits."""


def eventually(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Return the condition's first true value; fail when the deadline comes first."""
    deadline = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.005)
    return found


class FileServer:
    """A model server on a free port, in threads; knows how often a file was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.held = threading.Event()
        self.held.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def add(self, name: str, body: bytes) -> str:
        self.files[name] = body
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                source.asked.append(name)
                body = source.files.get(name)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                half = len(body or b"") // 2
                self.wfile.write((body or b"")[:half])
                source.held.wait(DEADLINE_S)  # a test may stop a download in its middle
                self.wfile.write((body or b"")[half:])

            def log_message(self, *_: object) -> None:
                return

        return Handler


@contextmanager
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    try:
        yield server
    finally:
        server.close()


@dataclass
class Deployed(Addressed):
    """A pod's process, its mount and its slots."""

    child: subprocess.Popen[str]
    mount: Mount
    ports: Ports
    log: list[dict[str, Any]] = field(default_factory=list)

    def status(self) -> StatusReport:
        code, body = self.get(self.admin, "/status")
        assert code == 200, body
        return StatusReport.model_validate_json(body)

    def get(self, address: str, path: str) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def assign(self, revision: str | None, described: Mapping[str, RevisionContent]) -> None:
        self.mount.assign(revision, dict(described))

    def until(
        self, condition: Callable[[StatusReport], object], deadline_s: float = DEADLINE_S
    ) -> StatusReport:
        """Return the first report that meets the condition; fail with the last one."""
        last: list[StatusReport] = []

        def holds() -> StatusReport | None:
            assert self.child.poll() is None, f"the process ended: {self.log[-3:]}"
            last[:] = [self.status()]
            return last[0] if condition(last[0]) else None

        try:
            found: StatusReport = eventually(holds, "a status", deadline_s)
        except AssertionError as error:
            said = last[0].model_dump_json(exclude={"counters"}) if last else "nothing"
            raise AssertionError(f"{error}; last status: {said}") from None
        return found

    def until_serving(self, revision: str) -> StatusReport:
        return self.until(lambda s: s.serving and s.serving.revision == revision)

    def until_settled(self, revision: str) -> StatusReport:
        """Return the report in which the revision either serves or is refused."""
        return self.until(
            lambda s: (
                s.progress
                and s.progress.revision == revision
                and s.progress.phase in ("Serving", "Failed")
            )
        )

    def infer(self, features: int = 4) -> tuple[int, dict[str, Any]]:
        """Ask with zeros; return the status and the answer."""
        entry = {"name": "x", "datatype": "FP32", "shape": [1, features], "data": [0.0] * features}
        with closing(http.client.HTTPConnection(self.http, timeout=30)) as connection:
            connection.request("POST", "/v2/models/digits/infer", json.dumps({"inputs": [entry]}))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def kill(self) -> None:
        self.child.kill()
        self.child.wait(30)


@contextmanager
def deployed(root: Path, **environment: str) -> Iterator[Deployed]:
    """A pod's process that listens; what it serves is the assignment's business."""
    mount, slots = Mount(root / "assignment"), root / "slots"
    slots.mkdir(exist_ok=True)
    own = {
        "SKERRY_HOST": "127.0.0.1",
        "SKERRY_HTTP_PORT": "0",
        "SKERRY_GRPC_PORT": "0",
        "SKERRY_ADMIN_PORT": "0",
        "SKERRY_UNIT": "node-1",
        "SKERRY_ASSIGNMENT_DIR": str(mount.folder),
        "SKERRY_SLOTS_DIR": str(slots),
    }
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "skerry_runtime", "serve"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime"), **QUICK, **own, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _listening(child, mount)
    finally:
        child.kill()
        child.wait(30)


def _listening(child: subprocess.Popen[str], mount: Mount) -> Deployed:
    log: list[dict[str, Any]] = []
    stderr = child.stderr
    assert stderr is not None
    too_late = threading.Timer(DEADLINE_S, child.kill)
    too_late.start()
    for line in stderr:
        log.append(_entry(line))
        if "ports" in log[-1]:
            break
    too_late.cancel()
    if not log or "ports" not in log[-1]:
        stderr.close()
        raise AssertionError(f"the process ended early, or did not listen in time: {log}")
    ports = Ports(**log[-1]["ports"])

    def follow() -> None:
        with stderr:
            log.extend(_entry(line) for line in stderr)

    threading.Thread(target=follow, daemon=True).start()
    return Deployed(child, mount, ports, log)


def _entry(line: str) -> dict[str, Any]:
    """Return a line of the log; an engine may print its own, which is no JSON."""
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"text": line}
    return entry
