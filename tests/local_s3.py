"""A real S3 server on loopback, with its objects in a folder."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_registry import free_address, running_server
from skerry_cluster import tools
from skerry_cluster.settings import Layout

KEY_ID, SECRET_KEY = "AKIATEST", "a-key-of-tests"


@dataclass(frozen=True)
class S3Server:
    address: str
    root: Path

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def keys(self) -> dict[str, str]:
        """What a Secret for it holds."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def put(self, bucket: str, key: str, body: bytes) -> str:
        """Lay an object down, and return its address."""
        path = self.root / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return f"s3://{bucket}/{key}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=2):
                return True
        except urllib.error.HTTPError:
            return True  # it wants to know who asks
        except OSError:
            return False


@contextmanager
def running_s3(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Start a server with its files in `folder`; it ends with the block."""
    program = tools.ensure(Layout.from_environment(), tools.S3)["versitygw"]
    found = S3Server(free_address(host), folder / "objects")
    for path in (found.root, folder / "attributes"):
        path.mkdir()
    env = os.environ | {"ROOT_ACCESS_KEY": KEY_ID, "ROOT_SECRET_KEY": SECRET_KEY}
    argv = [program, "--port", found.address, "posix", "--sidecar", folder / "attributes"]
    with running_server([*argv, found.root], env, folder / "s3.log", found.is_ready):
        yield found
