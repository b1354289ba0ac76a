"""Reads GET /status of many pods at once: bounded in number, time and bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import aiohttp
from pydantic import ValidationError

from skerry_operator.metricsource.base import Fetch, PodAddress, ReadError, ReadResult
from skerry_operator.metricsource.body import read_at_most
from skerry_operator.telemetry import Telemetry
from skerry_runtime.contract import ADMIN_PORT, StatusReport

BODY_LIMIT = 1 << 20
"""Longest body that is read. An honest report has some kilobytes."""

log = logging.getLogger(__name__)


class RuntimeStatus:
    """The pods' own /status, through whatever way `fetch` goes."""

    def __init__(self, fetch: Fetch, telemetry: Telemetry, concurrency: int) -> None:
        self._fetch = fetch
        self._telemetry = telemetry
        self._slots = asyncio.Semaphore(concurrency)

    async def read(self, pods: Sequence[PodAddress]) -> Mapping[str, StatusReport]:
        """Return unit -> report of every pod that answered in time."""
        reports = await asyncio.gather(*(self._read_one(address) for address in pods))
        return {report.unit: report for report in reports if report}

    async def _read_one(self, address: PodAddress) -> StatusReport | None:
        try:
            async with self._slots:
                report = parse(await self._fetch(address), address)
        except ReadError as error:
            log.debug("no status of pod %s: %s", address.pod.name, error)
            self._telemetry.pod_status_reads.labels(error.result).inc()
            return None
        self._telemetry.pod_status_reads.labels(ReadResult.OK).inc()
        return report


def parse(body: bytes, address: PodAddress) -> StatusReport:
    """Return the report, when it is one and speaks of the unit that was asked.

    Raises:
        ReadError: it does not.
    """
    if len(body) > BODY_LIMIT:
        raise ReadError(ReadResult.TOO_LARGE, f"more than {BODY_LIMIT} bytes")
    try:
        report = StatusReport.model_validate_json(body)
    except ValidationError as error:
        raise ReadError(ReadResult.GARBAGE, f"{error.error_count()} errors") from error
    wanted = f"{address.namespace}/{address.deployment}"
    if report.unit != address.pod.unit or report.deployment not in (None, wanted):
        who = f"{report.deployment} on {report.unit}"
        raise ReadError(ReadResult.STRANGER, f"the answer is of {who}, not of {wanted}")
    return report


class HttpFetch:
    """Asks the pod's address. No credentials, no redirects: the pod is the user's, not ours."""

    def __init__(self, timeout_s: float, port: int = ADMIN_PORT) -> None:
        self._port = port
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            connector=aiohttp.TCPConnector(limit=0, force_close=False),
            auto_decompress=False,  # a small body could unpack into a very large one
        )

    async def __call__(self, address: PodAddress) -> bytes:
        """Return the body, cut off one byte after the limit.

        Raises:
            ReadError: there is none.
        """
        try:
            return await self._get(_url(address.pod.ip, self._port))
        except TimeoutError as error:
            raise ReadError(ReadResult.TIMEOUT, "no answer in time") from error
        except aiohttp.ClientError as error:
            raise ReadError(ReadResult.UNREACHABLE, type(error).__name__) from error

    async def _get(self, url: str) -> bytes:
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise ReadError(ReadResult.REFUSED, f"HTTP {response.status}")
            return await read_at_most(response.content, BODY_LIMIT + 1)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def _url(ip: str, port: int) -> str:
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port}/status"
