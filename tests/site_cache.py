"""A site cache of one's own, without TLS, and those who ask it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from skerry_runtime.cache.server import CacheServer, verifier
from skerry_runtime.cache.settings import CacheSettings
from skerry_runtime.cache.store import Store
from skerry_runtime.tickets import TICKET_HEADER, Ticket, signed_bytes

WITHIN_S = 20.0


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Told:
    """What the cache answered."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class SiteCache:
    """A running cache, and the key of its operator."""

    settings: CacheSettings
    store: Store
    port: int
    key: Ed25519PrivateKey
    clock: list[float]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pass_time(self, seconds: float) -> None:
        """Let the cache believe that time has passed."""
        self.clock[0] += seconds
        self.store.tick()

    def ticket(self, sha256: str, namespace: str = "shop") -> str:
        return str(Ticket(namespace, self.key.sign(signed_bytes(namespace, sha256))))

    async def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(WITHIN_S):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Told:
        lines = {"Host": "cache", **(headers or {})}
        if body is not None:
            lines.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        answer = await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""))
        return read_answer(answer)

    async def claim(self, sha256: str, namespace: str = "shop", at: int = 0) -> dict[str, object]:
        told = await self.ask(
            "POST",
            f"/sha256/{sha256}/claim?at={at}",
            {TICKET_HEADER: self.ticket(sha256, namespace)},
        )
        assert told.status == 200, told
        found: dict[str, object] = json.loads(told.body)
        return found

    async def put(
        self, sha256: str, body: bytes, claim: object, namespace: str = "shop", **more: str
    ) -> Told:
        headers = {
            TICKET_HEADER: self.ticket(sha256, namespace),
            "Skerry-Claim": str(claim),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        return await self.ask("PUT", f"/sha256/{sha256}", headers, body)

    async def bring(self, body: bytes, namespace: str = "shop") -> str:
        """Claim a file and feed it; return its sha256."""
        sha256 = sha256_of(body)
        claim = await self.claim(sha256, namespace)
        assert claim["state"] == "fetch", claim
        told = await self.put(sha256, body, claim["claim"], namespace)
        assert told.status == 201, told
        return sha256

    async def get(self, sha256: str, namespace: str | None = None, **headers: str) -> Told:
        shown = {TICKET_HEADER: self.ticket(sha256, namespace)} if namespace else {}
        return await self.ask("GET", f"/sha256/{sha256}", {**headers, **shown})

    async def pin(self, sha256: str, namespace: str = "shop") -> Told:
        ticket = {TICKET_HEADER: self.ticket(sha256, namespace)}
        return await self.ask("POST", f"/sha256/{sha256}/pin", ticket)


def read_answer(answer: bytes) -> Told:
    """Take an answer apart; one without a head has status 0."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 "):
        return Told(0, {}, answer)
    pairs = (line.partition(": ") for line in lines)
    return Told(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


def put_keys(folder: Path, key: Ed25519PrivateKey) -> None:
    """Put the operator's public key where the cache looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "ticket.pub").write_bytes(pem)


@asynccontextmanager
async def site_cache(
    root: Path, key: Ed25519PrivateKey | None = None, **settings: object
) -> AsyncIterator[SiteCache]:
    """Run a cache with its files below `root`."""
    key = key or Ed25519PrivateKey.generate()
    put_keys(root / "keys", key)
    base = CacheSettings(
        data_dir=root / "data", keys_dir=root / "keys", host="127.0.0.1", port=0, reserve=""
    )
    chosen = replace(base, **settings)  # type: ignore[arg-type] # tests name fields
    clock = [1000.0]
    store = Store(chosen, lambda: clock[0])
    await store.open()
    server = CacheServer(chosen, store, verifier(chosen.keys_dir))
    listening = server.listen()
    accepting = asyncio.create_task(server.accept(listening, None))
    try:
        yield SiteCache(chosen, store, listening.getsockname()[1], key, clock)
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        listening.close()
        await server.end()
        await store.close()
