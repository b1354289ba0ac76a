"""The HTTP client under every source: judged addresses, few redirects, answers with an end."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from skerry_runtime.agent.addresses import Gate
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.sources.base import Begun, BrokenOff, Stream, Unresumable
from skerry_runtime.agent.sources.egress import forbidden_literal, proxy_for, with_bundle
from skerry_runtime.agent.urls import next_place, shown
from skerry_runtime.contract import FailureReason, size_text

MAX_REDIRECTS = 5
_READ_BUFFER = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING_4XX = frozenset({408, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d+)$")
_UNREACHED = (
    "the server could not be reached: its name, address or port is wrong, it is down, or TLS "
    "failed; the pod's log has the cause"
)

_log = logging.getLogger(__name__)


class Keys(Protocol):
    """Decides what each host is shown."""

    def headers(self, place: str, asked: Mapping[str, str], /) -> Mapping[str, str]:
        """Return the headers to ask an address with; `asked` are those that anybody may see."""
        ...

    def trust(self, place: str, /) -> ssl.SSLContext | None:
        """Return whom to believe about this host; None: the system's authorities."""
        ...


@dataclass(frozen=True)
class Sent:
    """A request that is no plain GET."""

    method: str = "GET"
    body: bytes | Path = b""
    """What is sent, or the file that is."""

    @property
    def size(self) -> int:
        """Return how many bytes are sent."""
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)


_PLAIN = Sent()


class NoKeys:
    """Shows nothing to anybody."""

    def headers(self, place: str, asked: Mapping[str, str], /) -> Mapping[str, str]:
        """Return the headers as they are."""
        del place
        return asked

    def trust(self, place: str, /) -> ssl.SSLContext | None:
        """Return that nobody else is believed."""
        del place
        return None


class Client:
    """Asks for one file; `uri` is what people know it by."""

    def __init__(self, tuning: Tuning, uri: str, keys: Keys) -> None:
        self._tuning = tuning
        self._uri = uri
        self._keys = keys
        self._gate = Gate(tuning.fetch_allow)

    @asynccontextmanager
    async def get(
        self, place: str, headers: Mapping[str, str], *, is_encoded: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET and follow redirects, few of them and never to a weaker scheme.

        Args:
            place: the address.
            headers: what anybody may see.
            is_encoded: the address goes out as it is written, character for character.

        Raises:
            Refused, Transient: there is no answer, or none may be had.
        """
        first = place
        async with self._session() as session:
            for _ in range(MAX_REDIRECTS + 1):
                asked = URL(place, encoded=True) if is_encoded and place == first else place
                async with self._answer(session, asked, headers) as response:
                    if response.status not in _REDIRECTS:
                        yield response
                        return
                    place = next_place(place, response.headers.get("Location", ""))
        text = f"GET {shown(self._uri)}: more than {MAX_REDIRECTS} redirects"
        raise Refused(FailureReason.FETCH_FAILED, text)

    @asynccontextmanager
    async def send(
        self, sent: Sent, place: str, headers: Mapping[str, str], *, is_encoded: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask once, with a body; no redirect is followed.

        Raises:
            Refused, Transient: there is no answer, or none may be had.
        """
        asked = URL(place, encoded=True) if is_encoded else place
        async with (
            self._session() as session,
            self._answer(session, asked, headers, sent) as response,
        ):
            yield response

    async def text(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """Read the body of a small answer.

        Raises:
            Refused: it is larger than `limit`.
            Transient: it broke off.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(self._tuning.trickle_window_s):
                async for chunk in chunks_of(response):
                    body += chunk
                    if len(body) > limit:
                        size = size_text(limit)
                        text = f"GET {shown(self._uri)}: an answer of more than {size}: refused"
                        raise Refused(FailureReason.FETCH_FAILED, text)
        except (BrokenOff, TimeoutError) as err:
            reason = str(err) or "no answer in time"
            raise Transient(f"GET {shown(self._uri)}: {reason}") from err
        return bytes(body)

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._tuning.connect_timeout_s,
            sock_read=self._tuning.idle_timeout_s,
        )
        return aiohttp.ClientSession(
            timeout=timeout,
            # A socket for each address, also of a redirect and of a host that is an address.
            connector=aiohttp.TCPConnector(socket_factory=self._socket, force_close=True),
            auto_decompress=False,
            read_bufsize=self._tuning.receive_buffer_bytes // 8 or _READ_BUFFER,
            headers={"Accept-Encoding": "identity", "User-Agent": "skerry-runtime"},
        )

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Return a socket for an address, with a window that a rate can be held with."""
        made = self._gate.socket(info)
        if self._tuning.receive_buffer_bytes:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._tuning.receive_buffer_bytes)
        return made

    @asynccontextmanager
    async def _answer(
        self,
        session: aiohttp.ClientSession,
        place: str | URL,
        headers: Mapping[str, str],
        sent: Sent = _PLAIN,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self._gate.begin()
        limit_s = self._tuning.connect_timeout_s + self._tuning.idle_timeout_s
        limit_s += sent.size * self._tuning.trickle_window_s / self._tuning.trickle_bytes
        shown_to = self._keys.headers(str(place), headers)
        trust = with_bundle(self._keys.trust(str(place)), self._tuning)
        proxy = self._proxy(str(place))
        try:
            async with asyncio.timeout(limit_s):  # also for a head that drips in
                response = await session.request(
                    sent.method,
                    place,
                    headers=shown_to,
                    data=_opened(sent.body),
                    allow_redirects=False,
                    ssl=trust or True,
                    proxy=proxy,
                )
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError) as err:
            raise Refused(
                FailureReason.FETCH_FAILED, "no valid URL, or a redirect to none"
            ) from err
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as err:
            raise self._unreached(err, is_proxied=proxy is not None) from err
        try:
            yield response
        finally:
            response.close()

    def _proxy(self, place: str) -> str | None:
        """Return the proxy for an address.

        Raises:
            Refused: the address stands in the URL, and pods may not ask it by any way.
        """
        proxy = proxy_for(place, self._tuning)
        kind = forbidden_literal(place, self._tuning.fetch_allow) if proxy else None
        if kind is not None:
            raise _out_of_bounds(self._uri, kind)
        return proxy

    def _unreached(self, err: BaseException, *, is_proxied: bool) -> Refused | Transient:
        _log.warning("GET %s: %s", shown(self._uri), _cause(err))
        if self._gate.refused is not None:
            return _out_of_bounds(self._uri, self._gate.refused)
        # Whether a port is closed, filtered or speaks something else is not told: who may
        # write an EdgeModel need not be able to look around in the cluster's network.
        way = " (asked by way of the proxy that the operator names)" if is_proxied else ""
        return Transient(f"GET {shown(self._uri)}: {_UNREACHED}{way}")


def _opened(body: bytes | Path) -> bytes | IO[bytes] | None:
    """Return what aiohttp sends; it closes a file itself."""
    return body.open("rb") if isinstance(body, Path) else body or None


def range_headers(begun: Begun) -> dict[str, str]:
    """Return what asks for the rest of a begun file, if it is still the same one."""
    if not begun.size:
        return {}
    headers = {"Range": f"bytes={begun.size}-"}
    return {**headers, "If-Range": begun.etag} if begun.etag else headers


def stream_of(response: aiohttp.ClientResponse, begun: Begun, uri: str) -> Stream:
    """Return the file that an answer brings.

    Raises:
        Refused, Transient: the answer is no file.
        Unresumable: it would be one without a range.
    """
    if _is_complete(response, begun):
        return Stream(chunks_of(response), begun.size, begun.size, begun.etag, is_complete=True)
    total = _accept(response, begun, uri)
    start = 0 if response.status == HTTPStatus.OK else begun.size
    return Stream(chunks_of(response), total, start, response.headers.get("ETag", ""))


async def chunks_of(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    Raises:
        BrokenOff: it ended in the middle.
    """
    try:
        async for data in response.content.iter_any():
            yield data
    except TimeoutError as err:
        _log.warning("GET %s: %s", shown(str(response.url)), _cause(err))
        raise BrokenOff("no answer in time") from err
    except (aiohttp.ClientError, ConnectionError) as err:
        _log.warning("GET %s: %s", shown(str(response.url)), _cause(err))
        raise BrokenOff("the connection ended in the middle of the file") from err


def refusal_of(status: int, uri: str, remedy: str = "") -> Refused | Transient:
    """Return what an answer without a file means."""
    text = f"GET {shown(uri)}: HTTP {status}{remedy}"
    if 400 <= status < 500 and status not in _PASSING_4XX:
        return Refused(FailureReason.FETCH_FAILED, text)
    return Transient(text)


def _is_complete(response: aiohttp.ClientResponse, begun: Begun) -> bool:
    """Tell whether the server says that the bytes on disk are all there are."""
    if response.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not begun.size:
        return False
    found = _UNSATISFIED_RANGE.match(response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == begun.size


def _accept(response: aiohttp.ClientResponse, begun: Begun, uri: str) -> int | None:
    """Return the size of the whole file, None when the answer does not tell."""
    match response.status:
        case HTTPStatus.OK:
            return response.content_length
        case HTTPStatus.PARTIAL_CONTENT if begun.size:
            return _total_of_range(response, begun)
        case _ if begun.size and response.status in (206, 304, 416):
            raise Unresumable
        case status:
            raise refusal_of(status, uri)


def _total_of_range(response: aiohttp.ClientResponse, begun: Begun) -> int | None:
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != begun.size:
        raise Unresumable
    return None if found[2] == "*" else int(found[2])


def _out_of_bounds(uri: str, kind: str) -> Refused:
    """Return the refusal of an address; which one it is, and whether something is there, stays."""
    host = urlsplit(uri).hostname
    return Refused(
        FailureReason.FETCH_FAILED,
        f"GET {shown(uri)}: {host}, or where it redirects to, has a {kind} address, from which "
        "pods may not fetch: name another host, or have the address allowed by the operator's "
        "setting fetch_allow (chart value fetch.allowCIDRs)",
    )


def _cause(err: BaseException) -> str:
    """Describe a network error for the log, without the URL, which may hold credentials."""
    match err:
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {err.host}:{err.port}: {err.os_error}"
        case aiohttp.ClientResponseError():
            return f"{type(err).__name__}: {err.message}"
        case _:
            return type(err).__name__
