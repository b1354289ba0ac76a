"""A real Triton server whose only engine is Python: that of the image tritonserver-python-test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient import grpc as triton

from ports import free_port
from skerry_cluster import images
from skerry_cluster.settings import REPOSITORY, Layout
from skerry_operator.manifests.triton import server_arguments
from skerry_runtime.backends.tritonserver import Place

PYTHON = Path("/usr/bin/python3.11")
"""The server's Python backend embeds exactly this one."""
IS_POSSIBLE = PYTHON.exists() and os.uname().machine == "x86_64"
STAND_IN = REPOSITORY / "tests" / "serving" / "onnxruntime_stand_in"
START_S = 180


def assemble(target: Path) -> Path:
    """Put the server together as its image does; return the folder of the locked packages."""
    (image,) = images.choose("tritonserver-python-test", everything=False)
    packages = images.ensure_libraries(Layout.from_environment(), images.read_inputs(image))
    script = REPOSITORY / "images" / "tritonserver_python_test.py"
    subprocess.run([sys.executable, script, packages, STAND_IN, target, packages], check=True)
    return packages


@dataclass
class Server:
    """The process, with the flags that it has in a pod."""

    program: Path
    packages: Path
    repository: Path
    port: int = field(default_factory=free_port)
    _child: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> Place:
        return Place(f"127.0.0.1:{self.port}", self.repository)

    def start(self, *, wait: bool = True) -> None:
        server, *flags = server_arguments(self.port, self.repository)
        folder = self.program / "backends"
        self._child = subprocess.Popen(
            [self.program / "bin" / server, *flags, f"--backend-directory={folder}"],
            env={
                "PATH": f"{self.program / 'python' / 'bin'}:/usr/bin:/bin",
                "LD_LIBRARY_PATH": f"{self.packages / 'nvidia_pytriton.libs'}",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if wait:
            self.wait_ready()

    def kill(self) -> None:
        """End the server and its children, as the kernel does for want of memory."""
        child, self._child = self._child, None
        if child:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(30)

    def pause(self, *, on: bool) -> None:
        """Keep the server from answering, or let it go on."""
        assert self._child
        os.killpg(self._child.pid, signal.SIGSTOP if on else signal.SIGCONT)
        deadline = time.monotonic() + START_S
        while on and not self._is_stopped():  # the kernel stops one thread after the other
            assert time.monotonic() < deadline, "the server does not stop"
            time.sleep(0.01)

    def _is_stopped(self) -> bool:
        assert self._child
        tasks = Path(f"/proc/{self._child.pid}/task").glob("*/stat")
        return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def wait_ready(self) -> None:
        assert self._child
        deadline = time.monotonic() + START_S
        with triton.InferenceServerClient(self.place.url) as client:
            while True:
                assert self._child.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server is not ready"
                with suppress(triton.InferenceServerException):
                    if client.is_server_ready():
                        return
                time.sleep(0.1)

    def loaded(self) -> set[str]:
        """Return the models that it has."""
        with triton.InferenceServerClient(self.place.url) as client:
            index = client.get_model_repository_index(as_json=True).get("models", [])
        return {entry["name"] for entry in index if entry.get("state") == "READY"}

    def files(self) -> set[str]:
        """Return the models that are in the repository."""
        return {path.name for path in self.repository.iterdir()}
