"""What a pod says to the cache of its site. No fault of the cache leaves this file as an error."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import AgentError
from skerry_runtime.agent.site import SiteFile
from skerry_runtime.agent.sources.base import Begun, BrokenOff, Stream, Unresumable
from skerry_runtime.agent.sources.client import range_headers, stream_of
from skerry_runtime.tickets import SERVER_NAME, TICKET_HEADER

CONNECT_S = 5.0
ANSWER_S = 30.0
"""Of a small answer; a claim that has to wait is answered sooner."""
STALL_S = 20.0
"""A cache that takes no bytes for so long is not fed any more."""
_MAX_ANSWER = 4096
_FAULTS = (aiohttp.ClientError, OSError, TimeoutError, ValueError, AgentError)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SiteOffer:
    """What the cache makes of an asker."""

    state: str
    """here, follow, fetch or alone; alone also where the cache does not answer."""
    claim: str = ""
    at: int = 0
    """Where the file ends that the cache has of it."""

    @property
    def is_near(self) -> bool:
        """Tell whether there is something to read."""
        return self.state in ("here", "follow")


ALONE = SiteOffer("alone")
AS_IT_IS = SiteOffer("follow")
"""To read what is there, without having asked."""


class SiteClient:
    """Asks one cache about one file."""

    def __init__(self, file: SiteFile, tuning: Tuning) -> None:
        self._file = file
        self._tuning = tuning
        self._trust = _trust(file)
        self._base = f"{file.url}/sha256/{file.sha256}"

    @property
    def sha256(self) -> str:
        """Return the file's name."""
        return self._file.sha256

    async def offer(self, at: int) -> SiteOffer:
        """Ask what to do about a file of which `at` bytes are here; wait for others if need be."""
        ends = time.monotonic() + self._tuning.site_wait_s
        while time.monotonic() < ends:
            found = await self._small("POST", f"/claim?at={at}")
            state = found.get("state")
            if state == "wait":
                await asyncio.sleep(self._tuning.site_again_s)
                continue
            return _offer(found) if state in ("here", "follow", "fetch") else ALONE
        log.warning("the site cache has let %s wait for too long", self.sha256)
        return ALONE

    @asynccontextmanager
    async def read(self, at: int) -> AsyncIterator[Stream | None]:
        """Read the file from a place in it on; None: it cannot be had."""
        async with AsyncExitStack() as stack:
            try:
                response = await self._asked(stack, range_headers(Begun(at)))
                stream: Stream | None = stream_of(response, Begun(at), self._file.url)
                if stream is not None and stream.start != at:
                    stream = None
            except (*_FAULTS, Unresumable) as err:
                log.warning("the site cache did not give %s: %s", self.sha256, type(err).__name__)
                stream = None
            yield stream

    async def _asked(
        self, stack: AsyncExitStack, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        session = await stack.enter_async_context(self._session(self._tuning.idle_timeout_s))
        return await stack.enter_async_context(self._request(session, "GET", "", headers=headers))

    async def chunks(self, stream: Stream) -> AsyncIterator[bytes]:
        """Yield what comes, until it ends or comes too slowly."""
        since, count, window_s = time.monotonic(), 0, self._tuning.trickle_window_s / 2
        try:
            async for data in stream.chunks:
                yield data
                count += len(data)
                if time.monotonic() - since < window_s:
                    continue
                if count < self._tuning.trickle_bytes:
                    return
                since, count = time.monotonic(), 0
        except BrokenOff:
            return

    async def feed(
        self, offer: SiteOffer, place: tuple[int, int], body: AsyncIterator[bytes]
    ) -> bool:
        """Put the file from a place in it up to its end; tell whether it is whole there."""
        first, total = place
        headers = {
            "Skerry-Claim": offer.claim,
            "Content-Length": str(total - first),
            "Content-Range": f"bytes {first}-{total - 1}/{total}",
        }
        try:
            async with (
                self._session(None) as session,
                self._request(session, "PUT", "", headers=headers, data=body) as response,
            ):
                return bool(response.status == 201)
        except _FAULTS as err:
            log.warning("the site cache was not fed %s: %s", self.sha256, type(err).__name__)
            return False

    async def release(self, offer: SiteOffer) -> None:
        """Give a claim back."""
        if offer.claim:
            await self._small("DELETE", "/claim", {"Skerry-Claim": offer.claim})

    async def pin(self) -> bool | None:
        """Ask the cache to keep the file; false: it has none; None: it does not, or not answer."""
        status = (await self._small("POST", "/pin"))["status"]
        return {200: True, 404: False}.get(status)

    async def doubt(self) -> None:
        """Tell the cache that what it gave was wrong."""
        await self._small("POST", "/doubt")

    async def _small(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Ask, and return the answer with its status; status 0: there was none."""
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._session(ANSWER_S) as session,
                self._request(session, method, path, headers=headers or {}) as response,
            ):
                body = await response.content.read(_MAX_ANSWER)
                found = _document(body) if response.status == 200 else {}
                return {**found, "status": response.status}
        except _FAULTS as err:
            log.warning("the site cache does not answer: %s", type(err).__name__)
            return {"status": 0}

    def _session(self, read_s: float | None) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=read_s)
        return aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(force_close=True),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", TICKET_HEADER: self._file.ticket},
        )

    def _request(
        self, session: aiohttp.ClientSession, method: str, path: str, **options: Any
    ) -> Any:
        is_tls = self._trust is not None
        return session.request(
            method,
            f"{self._base}{path}",
            allow_redirects=False,
            ssl=self._trust or True,
            server_hostname=SERVER_NAME if is_tls else None,
            **options,
        )


def _trust(file: SiteFile) -> ssl.SSLContext | None:
    """Return whom to believe: the caches' own certificate, and nobody else."""
    if not file.url.startswith("https:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=file.ca)
    except (ssl.SSLError, ValueError):  # nobody is believed then
        log.warning("the site cache's certificate in the assignment cannot be read")
    return context


def _document(body: bytes) -> dict[str, Any]:
    found = json.loads(body)
    return found if isinstance(found, dict) else {}


def _offer(found: Mapping[str, Any]) -> SiteOffer:
    claim, at = found.get("claim", ""), found.get("at", 0)
    if not isinstance(claim, str) or not isinstance(at, int) or len(claim) > 256:
        return ALONE
    return SiteOffer(str(found["state"]), claim, max(0, at))
