"""A real image registry on loopback, the one that most others are made of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
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
{auth}
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
        except urllib.error.HTTPError as error:
            return error.code == 401  # it wants to know who asks
        except OSError:
            return False


def free_address(host: str = "127.0.0.1") -> str:
    return f"{host}:{free_port(host)}"


@contextmanager
def running_server(
    argv: list[str | Path], env: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
) -> Iterator[None]:
    """Run a server until the block ends; it is ready when the block begins."""
    with log.open("w") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
    try:
        end = time.monotonic() + READY_S
        while not is_ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_registry(folder: Path, auth: str = "", host: str = "127.0.0.1") -> Iterator[Registry]:
    """Start a registry with its files in `folder`; it ends with the block.

    Args:
        folder: place for its files.
        auth: part of its configuration that says whom it lets in; empty: everybody.
        host: address that it listens on.
    """
    program = tools.ensure(Layout.from_environment(), tools.REGISTRY)["registry"]
    found = Registry(free_address(host), folder / "registry.log")
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder, address=found.address, auth=auth))
    env = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    with running_server([program, "serve", config], env, found.log, found.is_ready):
        yield found
