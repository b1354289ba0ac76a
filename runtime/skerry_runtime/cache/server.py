"""The network's side of the cache: connections with an end, and the verbs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from asyncio import sslproto
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

from skerry_runtime.cache.claims import STILL_ASKING_S, Ruling
from skerry_runtime.cache.disk import SHA256
from skerry_runtime.cache.ledger import Key
from skerry_runtime.cache.settings import CacheSettings
from skerry_runtime.cache.store import Spring, Store
from skerry_runtime.cache.wire import (
    CacheReply,
    RequestHead,
    document,
    head_of,
    read_request,
    refusal,
)
from skerry_runtime.tickets import TICKET_HEADER, BadTicket, Ticket

CHUNK = 16 * 1024
BACKLOG = 64
ACCEPT_AGAIN_S = 0.2
HELD_BACK = 1
"""Bytes at the end of a file that nobody gets before its hash was found right."""
PATIENCE_S = STILL_ASKING_S * 2 / 3
CLAIM_HEADER = "skerry-claim"
_TICKET = TICKET_HEADER.lower()

sslproto.SSLProtocol.max_size = CHUNK  # what each connection holds of it: 256 KiB by default

Verify = Callable[[Ticket, str], bool]
"""Tells whether the operator gave this ticket for a sha256."""

_log = logging.getLogger(__name__)


class CacheServer:
    """Answers one request a connection."""

    def __init__(self, settings: CacheSettings, store: Store, verify: Verify) -> None:
        self._settings = settings
        self._store = store
        self._verify = verify
        self._open: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._verbs: Mapping[tuple[str, str], Callable[..., Awaitable[None]]] = {
            ("GET", ""): self._get,
            ("HEAD", ""): self._get,
            ("PUT", ""): self._put,
            ("POST", "claim"): self._claim,
            ("DELETE", "claim"): self._release,
            ("POST", "pin"): self._pin,
            ("POST", "doubt"): self._doubt,
        }

    def listen(self) -> socket.socket:
        """Return a socket that clients can come to.

        Raises:
            OSError: the port is taken.
        """
        host, port = self._settings.host, self._settings.port
        is_both = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if is_both or ":" in host else socket.AF_INET
        found = socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=is_both
        )
        found.setblocking(False)
        return found

    async def accept(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Answer for ever. A connection counts from its first packet, before TLS."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as err:  # no file descriptors are left, or the client has gone again
                _log.warning("a connection was not accepted: %s", err.strerror)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            if self._is_crowded(str(address[0])):
                connection.close()
                continue
            self._open[str(address[0])] += 1
            task = loop.create_task(self._serve(connection, str(address[0]), tls))
            self._tasks.add(task)
            task.add_done_callback(self._note)

    def _note(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("a request failed", exc_info=error)

    async def end(self) -> None:
        """Break off what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, connection: socket.socket, address: str, tls: ssl.SSLContext | None
    ) -> None:
        try:
            try:
                reader, writer = await self._begin(connection, tls)
            except (OSError, TimeoutError):  # also of TLS
                connection.close()
                return
            await self._answer_or_refuse(reader, writer)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _begin(
        self, connection: socket.socket, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        limit_s = self._settings.head_s if tls else None
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=tls, ssl_handshake_timeout=limit_s
        )
        transport.set_write_buffer_limits(CHUNK)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _answer_or_refuse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._answer(reader, writer)
        except CacheReply as reply:
            await self._say(writer, refusal(reply))
        except (OSError, TimeoutError):
            writer.transport.abort()  # what is not sent yet would wait for who reads nothing
        finally:
            writer.close()

    def _is_crowded(self, address: str) -> bool:
        each = self._open[address] >= self._settings.max_connections_each
        return each or self._open.total() >= self._settings.max_connections

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send something small, and end the connection in good order."""
        try:
            async with asyncio.timeout(self._settings.stall_s):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._settings.head_s):
                request = await read_request(reader)
        except TimeoutError as err:
            raise CacheReply(408, "the head did not come in time") from err
        if request.path == "/healthz" and request.method == "GET":
            await self._say(writer, document(200, {"status": "ok"}))
        elif request.path == "/metrics" and request.method == "GET":
            await self._say(writer, self._metrics())
        else:
            sha256, verb = _place(request.path)
            handle = self._verbs.get((request.method, verb))
            if handle is None:
                raise CacheReply(405, "no such method here")
            await handle(request, sha256, reader, writer)

    def _metrics(self) -> bytes:
        ledger = self._store.ledger
        values = {
            "skerry_cache_bytes": ledger.used_bytes,
            "skerry_cache_capacity_bytes": ledger.limits.capacity_bytes,
            "skerry_cache_files": len(ledger.entries),
            "skerry_cache_claims": self._store.claims,
            "skerry_cache_connections": self._open.total(),
        }
        lines = [f"# TYPE {name} gauge\n{name} {value}\n" for name, value in values.items()]
        body = "".join(lines).encode()
        return head_of(200, len(body), {"Content-Type": "text/plain; version=0.0.4"}) + body

    # who asks

    def _key(self, request: RequestHead, sha256: str) -> Key:
        """Return the file as the asker's namespace knows it.

        Raises:
            CacheReply: there is no ticket, or another's.
        """
        text = request.headers.get(_TICKET)
        if text is None:
            raise CacheReply(403, f"send a ticket as {TICKET_HEADER}")
        try:
            ticket = Ticket.parse(text)
        except BadTicket as err:
            raise CacheReply(403, str(err)) from err
        if not self._verify(ticket, sha256):
            raise CacheReply(403, "the operator has not given this ticket for this file")
        return ticket.namespace, sha256

    # files that are read

    async def _get(
        self,
        request: RequestHead,
        sha256: str,
        _: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        size = self._store.size_of(sha256)
        if size is not None:
            whole = Spring(size, size, is_whole=True, is_over=True)
            await self._send(request, ("", sha256), whole, writer)
            return
        if _TICKET not in request.headers or request.method == "HEAD":
            raise CacheReply(404, "no such file here")
        key = self._key(request, sha256)
        spring = await self._store.wait_for_spring(key, self._settings.begin_s)
        if spring is None:
            if self._store.size_of(sha256) is None:
                raise CacheReply(404, "no such file here")
            await self._get(request, sha256, _, writer)
            return
        await self._send(request, key, spring, writer)

    async def _send(
        self, request: RequestHead, key: Key, spring: Spring, writer: asyncio.StreamWriter
    ) -> None:
        place = request.range(spring.total)
        start, end = place or (0, spring.total)
        headers = {"ETag": f'"{key[1]}"', "Content-Type": "application/octet-stream"}
        if place:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{spring.total}"
        writer.write(head_of(206 if place else 200, end - start, headers))
        if request.method == "HEAD":
            await self._say(writer, b"")
            return
        path = self._store.path_of(key, is_whole=spring.is_whole)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = await self._store.opened(os.open, os.close, path, flags)
        except OSError as err:
            raise ConnectionError("the file has gone") from err
        try:
            await self._pour(fd, (start, end), spring, writer)
        finally:
            await asyncio.shield(self._store.run(os.close, fd))

    async def _pour(
        self, fd: int, place: tuple[int, int], spring: Spring, writer: asyncio.StreamWriter
    ) -> None:
        """Send what there is and what comes; what does not come ends the connection early."""
        at, end = place
        while at < end:
            moved = spring.moved
            there = spring.size if spring.is_whole else min(spring.size, spring.total - HELD_BACK)
            count = min(CHUNK, min(there, end) - at)
            if count > 0:
                data = await self._store.run(os.pread, fd, count, at)
                if not data:
                    break
                async with asyncio.timeout(self._settings.stall_s):
                    writer.write(data)
                    await writer.drain()
                at += len(data)
            elif spring.is_over:
                break
            else:
                await moved.wait()
        if at < end and spring.is_whole:
            writer.transport.abort()  # the volume has lost what it had

    # files that come in

    async def _put(
        self,
        request: RequestHead,
        sha256: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        key, length = self._key(request, sha256), request.length()
        place = request.put_offset(length)
        token = request.headers.get(CLAIM_HEADER, "")
        if request.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self._store.put(key, token, place, self._body(reader, length))
        await self._say(writer, document(201, {"state": "here"}))

    async def _body(self, reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
        """Yield the body as it comes; who stalls or goes has sent what it has."""
        left = length
        while left:
            try:
                async with asyncio.timeout(self._settings.stall_s):
                    chunk = await reader.read(min(CHUNK, left))
            except (TimeoutError, ConnectionError, ssl.SSLError):
                return
            if not chunk:
                return
            left -= len(chunk)
            yield chunk

    # what is asked for besides

    async def _claim(
        self,
        request: RequestHead,
        sha256: str,
        _: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        key = self._key(request, sha256)
        words = parse_qs(request.query).get("at", ["0"])[0]
        if not words.isdecimal() or len(words) > 18:
            raise CacheReply(400, "write ?at=BYTES that you have")
        ruling, token, have = await self._store.claim(key, int(words), PATIENCE_S)
        answer: dict[str, object] = {"state": ruling.value}
        if ruling is Ruling.FETCH:
            answer |= {"claim": token, "at": have}
        await self._say(writer, document(200, answer))

    async def _release(
        self,
        request: RequestHead,
        sha256: str,
        _: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        key = self._key(request, sha256)
        if not self._store.release(key, request.headers.get(CLAIM_HEADER, "")):
            raise CacheReply(409, "the claim is another one's, or has ended")
        await self._say(writer, document(200, {}))

    async def _pin(
        self,
        request: RequestHead,
        sha256: str,
        _: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._store.pin(self._key(request, sha256))
        await self._say(writer, document(200, {"state": "here"}))

    async def _doubt(
        self,
        request: RequestHead,
        sha256: str,
        _: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._key(request, sha256)
        if not await self._store.doubt(sha256):
            raise CacheReply(404, "no such file here")
        await self._say(writer, document(200, {"state": "here"}))


def _place(path: str) -> tuple[str, str]:
    """Return sha256 and verb of a path.

    Raises:
        CacheReply: it leads nowhere.
    """
    parts = path.split("/")
    if len(parts) not in (3, 4) or parts[0] or parts[1] != "sha256":
        raise CacheReply(404, "write /sha256/HEX")
    if not SHA256.fullmatch(parts[2]):
        raise CacheReply(404, "write the sha256 as 64 small hex digits")
    if len(parts) == 4 and not parts[3]:
        raise CacheReply(404, "write /sha256/HEX")
    return parts[2], parts[3] if len(parts) == 4 else ""


def verifier(folder: Path) -> Verify:
    """Return what checks tickets by the public key in a folder.

    Raises:
        OSError, ValueError: there is none.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (what imports the rest)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_public_key,
    )

    from skerry_runtime.tickets import signed_bytes  # noqa: PLC0415

    key = load_pem_public_key((folder / "ticket.pub").read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("ticket.pub is no Ed25519 key")

    def verify(ticket: Ticket, sha256: str, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(ticket.signature, signed_bytes(ticket.namespace, sha256))
        except InvalidSignature:
            return False
        return True

    return partial(verify, key=key)


def tls_context(folder: Path) -> ssl.SSLContext:
    """Return how the cache proves itself to agents.

    Raises:
        OSError: certificate or key are missing, or do not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context
