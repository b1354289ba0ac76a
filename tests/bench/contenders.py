"""The servers of the runtime bench: each in a process, those of others in venvs of their own."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.models import Case
from ports import free_port
from serving.running import process

SERVERS = Path(__file__).parent / "servers"
CACHE = Path.home() / ".cache" / "skerry"
START_S = 120.0

KSERVE = ("kserve==0.21.0", "onnxruntime==1.32.0")
MLSERVER = ("mlserver==1.7.1", "onnxruntime==1.32.0")


@dataclass
class Running:
    """A server that answers."""

    pid: int
    http: int
    grpc: int | None
    start_s: float
    """From the start of its process until it serves the model."""

    def cpu_s(self) -> float:
        """CPU time of its threads so far, to the nanosecond: a tick is longer than a request."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def rss_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True)
class Contender:
    """A server to compare."""

    name: str
    ways: tuple[str, ...]
    """How it is asked: `REST binary`, `REST JSON`, `gRPC`."""
    requirements: tuple[str, ...]
    """What its venv holds; empty: it runs in ours."""
    command: Callable[[Path, Path, int, int], list[str]]
    """From interpreter, model and ports; unused for Skerry."""


def environment(requirements: tuple[str, ...]) -> Path:
    """Return the interpreter of a venv with the requirements, made when it is not there yet.

    Raises:
        subprocess.CalledProcessError: they cannot be installed here.
    """
    if not requirements:
        return Path(sys.executable)
    name = hashlib.sha256(repr((sys.version, requirements)).encode()).hexdigest()[:12]
    folder = CACHE / f"bench-{name}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {', '.join(requirements)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if shutil.which("uv"):
        install = ["uv", "pip", "install", "-q", "--python", str(python)]
    else:
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, *requirements], check=True)
    (folder / "complete").touch()
    return python


@contextmanager
def skerry(case: Case, folder: Path, *flags: str) -> Iterator[Running]:
    """Skerry as its container runs it."""
    path = written(case, folder)
    began = time.perf_counter()
    with process(path, *flags) as server:
        start_s = time.perf_counter() - began
        yield Running(server.process.pid, server.ports.http, server.ports.grpc, start_s)


@contextmanager
def started(contender: Contender, case: Case, folder: Path) -> Iterator[Running]:
    """Another server; it answers when it is handed out."""
    python = environment(contender.requirements)
    http_port, grpc_port = free_port(), free_port()
    command = contender.command(python, written(case, folder), http_port, grpc_port)
    log = folder / f"{contender.name}-{case.name}.log"
    began = time.perf_counter()
    with log.open("w") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
        )
        try:
            start_s = _wait(child, http_port, log) - began
            yield Running(child.pid, http_port, grpc_port, start_s)
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)


def _wait(child: subprocess.Popen[bytes], port: int, log: Path) -> float:
    """Wait until the model is ready; return when that was."""
    deadline = time.perf_counter() + START_S
    while time.perf_counter() < deadline and child.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/models/digits/ready")
            if connection.getresponse().status in (200, 400):  # the floor knows no such path
                return time.perf_counter()
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")


def written(case: Case, folder: Path) -> Path:
    """Return the case's model as a file."""
    path = folder / f"{case.name}.onnx"
    if not path.exists():
        path.write_bytes(case.model)
    return path


def _floor(python: Path, model: Path, http_port: int, _: int) -> list[str]:
    return [str(python), str(SERVERS / "floor.py"), str(model), str(http_port)]


def _kserve(python: Path, model: Path, http_port: int, grpc_port: int) -> list[str]:
    ports = [str(http_port), str(grpc_port)]
    return [str(python), str(SERVERS / "kserve_server.py"), str(model), *ports]


def _mlserver(python: Path, model: Path, http_port: int, grpc_port: int) -> list[str]:
    """Write MLServer's two files beside the model; without workers of its own and metrics."""
    folder = model.parent / f"mlserver-{model.stem}"
    folder.mkdir(exist_ok=True)
    shutil.copy(SERVERS / "mlserver_model.py", folder)
    settings = {
        "host": "127.0.0.1",
        "http_port": http_port,
        "grpc_port": grpc_port,
        "parallel_workers": 0,
        "metrics_endpoint": None,
        "debug": False,
    }
    parameters = {"uri": str(model)}
    described = {"name": "digits", "implementation": "mlserver_model.Onnx"}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps({**described, "parameters": parameters}))
    return [str(python.parent / "mlserver"), "start", str(folder)]


FLOOR = Contender("floor", ("REST binary",), (), _floor)
OTHERS = (
    Contender("KServe", ("REST binary", "REST JSON", "gRPC"), KSERVE, _kserve),
    Contender("MLServer", ("REST JSON", "gRPC"), MLSERVER, _mlserver),
)
