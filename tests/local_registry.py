"""A real image registry on loopback, the one that most others are made of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ports import free_port
from skerry_cluster import tools
from skerry_cluster.settings import Layout

READY_S = 30.0
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_WRITES = re.compile(r'"(?:POST|PUT|PATCH) ')
_CONFIG = """
version: 0.1
log: {{accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "{address}"}}
"""


@dataclass(frozen=True)
class Blob:
    """Something pulled from the registry."""

    content: bytes
    digest: str
    """What the registry says it is."""

    @property
    def is_whole(self) -> bool:
        return self.digest == f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Registry:
    address: str
    log: Path

    def pull(self, path: str, method: str = "GET") -> Blob:
        url = f"http://{self.address}/v2/{path}"
        request = urllib.request.Request(url, method=method, headers={"Accept": _MANIFEST})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Blob(answer.read(), answer.headers["Docker-Content-Digest"])

    def writes(self) -> int:
        """How many requests have asked for a change so far."""
        return len(_WRITES.findall(self.log.read_text()))

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


@contextmanager
def running_registry(folder: Path) -> Iterator[Registry]:
    """Start a registry with its files in `folder`; it ends with the block."""
    program = tools.ensure(Layout.from_environment(), tools.REGISTRY)["registry"]
    found = Registry(free_address(), folder / "registry.log")
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder, address=found.address))
    env = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    with found.log.open("w") as log:
        process = subprocess.Popen([program, "serve", config], env=env, stdout=log, stderr=log)
    try:
        end = time.monotonic() + READY_S
        while not found.is_ready():
            assert process.poll() is None, found.log.read_text()
            assert time.monotonic() < end, found.log.read_text()
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait()
