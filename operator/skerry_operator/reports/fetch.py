"""Asks a pod's own address for GET /status: bounded in time and bytes."""

from __future__ import annotations

import time

import aiohttp

from skerry_operator.bodies import read_at_most
from skerry_operator.reports.base import BODY_LIMIT, Question, ReadError, ReadResult
from skerry_runtime.contract import ADMIN_PORT

KEPT_OPEN_S = 15.0
"""How long a connection waits for the next question; a pod itself closes after 20 s."""
KEPT_MOST = 256
"""Pods whose connections are kept: of a larger fleet the others are connected to each time."""


class KeptOpen:
    """Whose connections are open, at most `KEPT_MOST`: each holds a file descriptor and memory."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        """Address -> when its connection ends; who ends first stands first."""

    def take(self, address: str, now: float) -> bool:
        """Tell whether the connection is to be kept that is about to be used."""
        while self._until and next(iter(self._until.values())) <= now:
            del self._until[next(iter(self._until))]
        is_new = self._until.pop(address, None) is None
        if is_new and len(self._until) >= KEPT_MOST:
            return False
        self._until[address] = now + KEPT_OPEN_S
        return True


class HttpFetch:
    """Asks the pod's address. No credentials, no redirects: the pod is the user's, not ours."""

    def __init__(self, timeout_s: float, port: int = ADMIN_PORT) -> None:
        self._port = port
        self._kept = KeptOpen()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_OPEN_S),
            cookie_jar=aiohttp.DummyCookieJar(),  # what one pod sets is not for another
            auto_decompress=False,  # a small body could unpack into a very large one
        )

    async def __call__(self, question: Question) -> bytes:
        """Return the body, cut off one byte after the limit.

        Raises:
            ReadError: there is none.
        """
        try:
            return await self._get(question.pod.ip)
        except TimeoutError as error:
            raise ReadError(ReadResult.TIMEOUT, "no answer in time") from error
        except aiohttp.ClientError as error:
            raise ReadError(ReadResult.UNREACHABLE, type(error).__name__) from error

    async def _get(self, ip: str) -> bytes:
        url = _url(ip, self._port)
        headers = {} if self._kept.take(ip, time.monotonic()) else {"Connection": "close"}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise ReadError(ReadResult.REFUSED, f"HTTP {response.status}")
            return await read_at_most(response.content, BODY_LIMIT + 1)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def _url(ip: str, port: int) -> str:
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port}/status"
