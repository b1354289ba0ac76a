"""Asks Prometheus for one number at a time: bounded in number, time and bytes.

The address is the operator's setting. What people write is only the query, which goes out in the
body of a POST and decides nothing about where.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from skerry_operator.bodies import read_at_most
from skerry_operator.decide.observed import Sample, SampleState
from skerry_operator.telemetry import Telemetry

BODY_LIMIT = 256 * 1024
"""Longest answer that is read: one series has some hundred bytes."""
TOKEN_LIMIT = 16 * 1024
TEXT_LIMIT = 200
"""Longest text of the server's own that is passed on to people."""
CONCURRENCY = 8
"""Queries that are under way at one time, over all deployments."""


@dataclass(frozen=True)
class PrometheusAddress:
    """Where Prometheus is, and how it is spoken to."""

    url: str
    """For example https://prometheus.monitoring:9090; with a path where one is in front."""
    timeout_s: float
    token_file: Path | None = None
    """Bearer token; read anew for each query, because tokens of a mounted secret are rotated."""
    ca_file: Path | None = None
    """CA certificates that are believed, instead of the system's."""


class Prometheus:
    """The one Prometheus of this operator. To be made inside a running event loop."""

    def __init__(self, address: PrometheusAddress, telemetry: Telemetry) -> None:
        self._address = address
        self._telemetry = telemetry
        self._slots = asyncio.Semaphore(CONCURRENCY)
        trust = ssl.create_default_context(cafile=address.ca_file) if address.ca_file else True
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=address.timeout_s),
            connector=aiohttp.TCPConnector(limit=CONCURRENCY, ssl=trust),
            auto_decompress=False,  # a small body could unpack into a very large one
        )

    async def ask(self, text: str) -> Sample:
        """Return the answer to a PromQL query; never raises for what a server does."""
        try:
            async with self._slots:
                sample = await self._ask(text)
        except TimeoutError:
            sample = _down(f"no answer in {self._address.timeout_s:g} s")
        except aiohttp.ClientError as error:
            sample = _down(type(error).__name__)
        except OSError as error:
            sample = _down(f"its token cannot be read: {error.strerror}")
        self._telemetry.prometheus_queries.labels(sample.state.lower()).inc()
        return sample

    async def _ask(self, text: str) -> Sample:
        url = f"{self._address.url.rstrip('/')}/api/v1/query"
        data = {"query": text, "timeout": f"{self._address.timeout_s:g}"}  # seconds, as a number
        async with self._session.post(
            url, data=data, headers=self._headers(), allow_redirects=False
        ) as response:
            body = await read_at_most(response.content, BODY_LIMIT + 1)
            return read_answer(response.status, body)

    def _headers(self) -> dict[str, str]:
        path = self._address.token_file
        if path is None:
            return {}
        with path.open(encoding="ascii", errors="replace") as file:
            token = "".join(file.read(TOKEN_LIMIT).split())
        return {"Authorization": f"Bearer {token}"}

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def read_answer(status: int, body: bytes) -> Sample:
    """Return what an answer of `/api/v1/query` says.

    Source: https://prometheus.io/docs/prometheus/latest/querying/api/: 400 and 422 are the
    query's own fault, 503 a query that was given up, all others the server's or the way's.
    """
    if len(body) > BODY_LIMIT:
        return _odd("the answer is too long: aggregate, for example with sum()")
    if status not in {200, 400, 422}:
        return _down(f"HTTP {status}")
    try:
        answer = json.loads(body)
        if status != 200:
            return _odd(f"Prometheus refuses the query: {str(answer['error'])[:TEXT_LIMIT]}")
        return _result(answer["data"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return _down(f"HTTP {status}, and no answer of Prometheus")


def _result(data: dict[str, Any]) -> Sample:
    """Return a scalar, or the value of a vector's only series."""
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return Sample(SampleState.READ, float(result[1]))
    if kind != "vector":
        return _odd(f"the answer is a {str(kind)[:TEXT_LIMIT]}: write a query with one number")
    if not result:
        return Sample(SampleState.EMPTY, problem="the query gives no series")
    if len(result) > 1:
        return _odd(f"the query gives {len(result)} series: aggregate, for example with sum()")
    return Sample(SampleState.READ, float(result[0]["value"][1]))


def _odd(problem: str) -> Sample:
    return Sample(SampleState.ODD, problem=problem)


def _down(problem: str) -> Sample:
    return Sample(SampleState.DOWN, problem=f"Prometheus is not to be had: {problem}")
