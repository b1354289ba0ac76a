"""Fetches one file over HTTP: resumed, hashed while it streams, landed by an atomic rename.

Blocking file work runs in the agent's thread, so that the event loop goes on serving.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from skerry_runtime.agent.addresses import Gate
from skerry_runtime.agent.part import Part
from skerry_runtime.agent.ports import MIB, Tuning
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.urls import next_place, require_http, shown
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import FailureReason

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING_4XX = frozenset({408, 425, 429})
_CHUNK = MIB
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d+)$")
_UNREACHED = (
    "the server could not be reached: its name, address or port is wrong, it is down, or TLS "
    "failed; the pod's log has the cause"
)

_log = logging.getLogger(__name__)

OnProgress = Callable[[int, int | None], None]
"""Called with the bytes on disk and the bytes in all, if known."""


@dataclass(frozen=True)
class Download:
    """What to fetch, and where to."""

    uri: str
    sha256: str
    part: Path
    target: Path


class _Unresumable(Exception):  # noqa: N818 (says what the begun file is)
    """The server does not go on from the bytes on disk: begin anew."""


class _Unreached(Exception):  # noqa: N818 (says what the server is)
    """No answer came at all."""


class _Trickles(TimeoutError):  # noqa: N818 (says what the source does)
    """Bytes arrive, but so few that the source is as good as silent."""


class _Flow:
    """Watches that bytes keep coming at a rate at which the file ends some day."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._since = time.monotonic()
        self._bytes = 0

    def note(self, count: int) -> None:
        """Count bytes.

        Raises:
            _Trickles: a whole window brought too few.
        """
        self._bytes += count
        if time.monotonic() - self._since < self._tuning.trickle_window_s:
            return
        if self._bytes < self._tuning.trickle_bytes:
            window = f"{self._tuning.trickle_window_s:g} s"
            raise _Trickles(f"only {self._bytes} bytes came within {window}")
        self._since, self._bytes = time.monotonic(), 0


class Fetcher:
    """Fetches files; `free_bytes` tells how much more the slots can hold."""

    def __init__(self, tuning: Tuning, worker: Worker, free_bytes: Callable[[], int]) -> None:
        self._tuning = tuning
        self._worker = worker
        self._free_bytes = free_bytes
        self._gate = Gate(tuning.fetch_allow)

    async def fetch(self, download: Download, on_progress: OnProgress) -> None:
        """Bring the file to its target, going on from what an earlier try left.

        Raises:
            Refused: FetchFailed, DigestMismatch or InsufficientDisk; the last leaves no byte.
            Transient: the source may answer later; what arrived is kept.
        """
        require_http(download.uri)
        async with self._part(download) as part:
            was_resumed = part.size > 0
            digest = await self._whole(download, part, on_progress)
            if digest != download.sha256 and was_resumed:
                # The begun bytes may be damaged or of another version: once more, from the start.
                await self._worker.run(part.restart)
                digest = await self._whole(download, part, on_progress)
            if digest != download.sha256:
                await self._worker.run(part.restart)
                # Who may only write an EdgeModel must not learn here what an address answers.
                _log.error("%s has sha256 %s", shown(download.uri), digest)
                raise Refused(FailureReason.DIGEST_MISMATCH, _mismatch(download))
            await self._worker.run(part.land, download.target)

    @asynccontextmanager
    async def _part(self, download: Download) -> AsyncIterator[Part]:
        part = await self._worker.run(Part, download.part, download.uri)
        try:
            yield part
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            await self._worker.run(part.drop)
            raise Refused(FailureReason.INSUFFICIENT_DISK, "the disk ran full") from err
        except Refused as err:
            if err.reason is FailureReason.INSUFFICIENT_DISK:
                await self._worker.run(part.drop)  # the node needs the space more than a resume
            raise
        finally:
            self._worker.submit(part.close)  # behind a write that a cancellation left running

    async def _whole(self, download: Download, part: Part, on_progress: OnProgress) -> str:
        """Stream until every byte is on disk; return the digest."""
        try:
            async with self._session() as session:
                try:
                    await self._stream(session, download, part, on_progress)
                except _Unresumable:
                    await self._worker.run(part.restart)
                    await self._stream(session, download, part, on_progress)
        except _Unreached as err:
            _log.warning("GET %s: %s", shown(download.uri), _cause(err.__cause__ or err))
            if self._gate.refused is not None:
                raise _out_of_bounds(download.uri, self._gate.refused) from err
            # Whether a port is closed, filtered or speaks something else is not told: who may
            # write an EdgeModel need not be able to look around in the cluster's network.
            raise Transient(f"GET {shown(download.uri)}: {_UNREACHED}") from err
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as err:
            _log.warning("GET %s: %s", shown(download.uri), _cause(err))
            raise Transient(f"GET {shown(download.uri)}: {_reason(err)}") from err
        return await self._worker.run(part.hexdigest)

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._tuning.connect_timeout_s,
            sock_read=self._tuning.idle_timeout_s,
        )
        return aiohttp.ClientSession(
            timeout=timeout,
            # A socket for each address, also of a redirect and of a host that is an address.
            connector=aiohttp.TCPConnector(socket_factory=self._gate.socket, force_close=True),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "skerry-runtime"},
        )

    async def _stream(
        self,
        session: aiohttp.ClientSession,
        download: Download,
        part: Part,
        on_progress: OnProgress,
    ) -> None:
        headers = await self._worker.run(_range_headers, part)
        async with self._get(session, download.uri, headers) as response:
            if _is_complete(response, part):
                return
            total = _accept(response, part, download.uri)
            if response.status == HTTPStatus.OK:
                await self._worker.run(part.restart)
            await self._require_room(part, total)
            await self._worker.run(part.describe, response.headers.get("ETag", ""))
            await self._copy(response, part, total, on_progress)
            _require_whole(download.uri, part, total)

    @asynccontextmanager
    async def _get(
        self, session: aiohttp.ClientSession, uri: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET and follow redirects, few of them and never to a weaker scheme."""
        place = uri
        for _ in range(MAX_REDIRECTS + 1):
            async with self._answer(session, place, headers) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                place = next_place(place, response.headers.get("Location", ""))
        raise Refused(
            FailureReason.FETCH_FAILED, f"GET {shown(uri)}: more than {MAX_REDIRECTS} redirects"
        )

    @asynccontextmanager
    async def _answer(
        self, session: aiohttp.ClientSession, place: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self._gate.begin()
        limit_s = self._tuning.connect_timeout_s + self._tuning.idle_timeout_s
        try:
            async with asyncio.timeout(limit_s):  # also for a head that drips in
                response = await session.get(place, headers=headers, allow_redirects=False)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError) as err:
            raise Refused(
                FailureReason.FETCH_FAILED, "no valid URL, or a redirect to none"
            ) from err
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as err:
            raise _Unreached from err
        try:
            yield response
        finally:
            response.close()

    async def _copy(
        self,
        response: aiohttp.ClientResponse,
        part: Part,
        total: int | None,
        on_progress: OnProgress,
    ) -> None:
        on_progress(part.size, total)
        async for chunk in _chunks(response, _Flow(self._tuning)):
            if total is not None and part.size + len(chunk) > total:
                await self._worker.run(part.restart)
                raise Transient("the source sent more bytes than it declared")
            await self._worker.run(part.append, chunk)
            on_progress(part.size, total)
            await self._require_room(part, total)

    async def _require_room(self, part: Part, total: int | None) -> None:
        """Check that what is still to come leaves the reserve alone."""
        coming = (total - part.size) if total is not None else 0
        free = await self._worker.run(self._free_bytes)
        if coming <= free - self._tuning.disk_reserve_bytes:
            return
        size = f"{(total or part.size) / MIB:.1f} MiB"
        raise Refused(
            FailureReason.INSUFFICIENT_DISK,
            f"the file has {size}, {coming / MIB:.1f} MiB of it are still to come, but only "
            f"{max(0, free) / MIB:.1f} MiB are free, of which "
            f"{self._tuning.disk_reserve_bytes / MIB:.1f} MiB stay reserved: "
            "raise the size limit of the slots' volume, or free space on the node",
        )


def _range_headers(part: Part) -> dict[str, str]:
    if not part.size:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    return {**headers, "If-Range": part.etag} if part.etag else headers


def _is_complete(response: aiohttp.ClientResponse, part: Part) -> bool:
    """Tell whether the server says that the bytes on disk are all there are."""
    if response.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not part.size:
        return False
    found = _UNSATISFIED_RANGE.match(response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == part.size


def _accept(response: aiohttp.ClientResponse, part: Part, uri: str) -> int | None:
    """Return the size of the whole file, None when the answer does not tell.

    Raises:
        Refused, Transient: the answer is no file.
        _Unresumable: it would be one without a range.
    """
    match response.status:
        case HTTPStatus.OK:
            return response.content_length
        case HTTPStatus.PARTIAL_CONTENT if part.size:
            return _total_of_range(response, part)
        case _ if part.size and response.status in (206, 304, 416):
            raise _Unresumable
        case status if 400 <= status < 500 and status not in _PASSING_4XX:
            raise Refused(FailureReason.FETCH_FAILED, f"GET {shown(uri)}: HTTP {status}")
        case status:
            raise Transient(f"GET {shown(uri)}: HTTP {status}")


def _total_of_range(response: aiohttp.ClientResponse, part: Part) -> int | None:
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != part.size:
        raise _Unresumable
    return None if found[2] == "*" else int(found[2])


async def _chunks(response: aiohttp.ClientResponse, flow: _Flow) -> AsyncIterator[bytes]:
    """Yield the body in pieces that are worth a thread's turn; the last ones also on an error."""
    buffer = bytearray()
    try:
        async for data in response.content.iter_any():
            buffer += data
            flow.note(len(data))
            if len(buffer) >= _CHUNK:
                yield bytes(buffer)
                buffer.clear()
    except (aiohttp.ClientError, TimeoutError):
        if buffer:
            yield bytes(buffer)  # kept for a resume
        raise
    if buffer:
        yield bytes(buffer)


def _require_whole(uri: str, part: Part, total: int | None) -> None:
    if total is not None and part.size < total:
        raise Transient(f"GET {shown(uri)}: ended after {part.size} of {total} bytes")


def _mismatch(download: Download) -> str:
    return (
        f"{shown(download.uri)} has another sha256 than {download.sha256}, which the spec names: "
        "the file was changed at its source, or the spec is wrong; the pod's log has its sha256"
    )


def _out_of_bounds(uri: str, kind: str) -> Refused:
    """Return the refusal of an address; which one it is, and whether something is there, stays."""
    host = urlsplit(uri).hostname
    return Refused(
        FailureReason.FETCH_FAILED,
        f"GET {shown(uri)}: {host}, or where it redirects to, has a {kind} address, from which "
        "pods may not fetch: name another host, or have the address allowed by the operator's "
        "setting fetch_allow (chart value fetch.allowCIDRs)",
    )


def _reason(err: BaseException) -> str:
    """Describe how an answer that had begun broke off."""
    match err:
        case _Trickles():
            return str(err)
        case TimeoutError():
            return "no answer in time"
        case _:
            return "the connection ended in the middle of the file"


def _cause(err: BaseException) -> str:
    """Describe a network error for the log, without the URL, which may hold credentials."""
    match err:
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {err.host}:{err.port}: {err.os_error}"
        case aiohttp.ClientResponseError():
            return f"{type(err).__name__}: {err.message}"
        case _:
            return type(err).__name__
