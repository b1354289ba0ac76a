"""A download with a Secret beside it, for tests of sources."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from skerry_runtime.agent.fetch import Download, Fetcher
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import AgentError
from skerry_runtime.agent.worker import Worker

TUNING = Tuning(
    fetch_allow=(IPv4Network("127.0.0.0/8"),),  # where the tests' servers are
    connect_timeout_s=5.0,
    idle_timeout_s=5.0,
    disk_reserve_bytes=0,
)


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Fetching:
    """Fetches files below `root`, with the Secrets that were put there."""

    root: Path
    worker: Worker
    tuning: Tuning = TUNING
    free: int = 1 << 40
    seen: list[tuple[int, int | None]] = field(default_factory=list)

    @property
    def part(self) -> Path:
        return self.root / "part"

    @property
    def target(self) -> Path:
        return self.root / "blobs" / "model.onnx"

    def secret(self, name: str = "keys", **values: str) -> str:
        """Put a Secret where the kubelet would; `_` in a key's name stays, `ca_crt` is ca.crt."""
        folder = self.root / "secrets" / name
        folder.mkdir(parents=True, exist_ok=True)
        names = {"dockerconfigjson": ".dockerconfigjson", "ca_crt": "ca.crt"}
        for key, value in values.items():
            (folder / names.get(key, key)).write_text(value)
        return name

    async def fetch(self, uri: str, sha256: str, secret: str | None = None) -> bytes:
        tuning = self.tuning.model_copy(update={"sources_dir": self.root / "secrets"})
        fetcher = Fetcher(tuning, self.worker, lambda: self.free)
        download = Download(uri, sha256, self.part, self.target, secret)
        await fetcher.fetch(download, lambda got, total: self.seen.append((got, total)))
        return self.target.read_bytes()

    async def refusal(self, uri: str, sha256: str = "0" * 64, secret: str | None = None) -> str:
        """Return why a file is not fetched."""
        with pytest.raises(AgentError) as caught:
            await self.fetch(uri, sha256, secret)
        return str(caught.value)
