"""A bad way between the operator and the API server: refusals, lost answers, odd watch streams.

Nothing is invented: every object and event comes from the real server. What a proxy can do to a
client is done: a request that is refused, one that is carried out and whose answer never arrives,
a watch event that comes late or twice, a stream that breaks off or says 410 Gone. Which request is
hit is drawn from a seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Self

import aiohttp
import yaml
from aiohttp import web

from fleet.runtimes import server_session

START_WITHIN_S = 60.0
LATE_S = 0.7
_HOP_BY_HOP = frozenset({"host", "content-length", "transfer-encoding", "connection"})


class Fault(StrEnum):
    """What can happen on the way."""

    TOO_MANY = "429, with Retry-After"
    ERROR = "500"
    LOST_ANSWER = "carried out, and the connection breaks"
    LATE_EVENT = "an event comes late"
    EVENT_TWICE = "an event comes twice"
    BROKEN_STREAM = "a watch breaks off"
    GONE = "a watch ends with 410 Gone"


REQUEST_FAULTS = (Fault.TOO_MANY, Fault.ERROR, Fault.LOST_ANSWER)
EVENT_FAULTS = (Fault.LATE_EVENT, Fault.EVENT_TWICE, Fault.BROKEN_STREAM, Fault.GONE)
_GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}


class FaultProxy:
    """Forwards to the server of a kubeconfig; while it is bad, hits one in each so many."""

    def __init__(self, kubeconfig: Path, in_how_many: int, seed: int) -> None:
        self._kubeconfig = kubeconfig
        self._random = random.Random(seed)
        self._in_how_many = in_how_many
        self.is_bad = False
        self.done: Counter[Fault] = Counter()
        self._turns: dict[tuple[Fault, ...], list[bool]] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._main, name="fault proxy")
        self.kubeconfig = kubeconfig.with_name("bad-way.kubeconfig")

    def __enter__(self) -> Self:
        """Start; return when its own kubeconfig is written."""
        self._thread.start()
        assert self._listens.wait(START_WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # ends what still runs
            runner.run(self._run())

    async def _run(self) -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        async with server_session(self._kubeconfig) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.kubeconfig.write_text(self._own(runner.addresses[0][1]))
            self._listens.set()
            await self._stop.wait()
            await runner.cleanup()
        await asyncio.sleep(0.2)  # TLS connections say goodbye to each other

    def _own(self, port: int) -> str:
        config = yaml.safe_load(self._kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        return str(yaml.safe_dump(config))

    def _shuffled(self) -> list[bool]:
        """Return the turns of the next few: exactly one of them is hit, so luck spares no run."""
        turns = [True] + [False] * (self._in_how_many - 1)
        self._random.shuffle(turns)
        return turns

    def _draw(self, faults: tuple[Fault, ...]) -> Fault | None:
        if not self.is_bad:
            return None
        if not self._turns.get(faults):
            self._turns[faults] = self._shuffled()
        if not self._turns[faults].pop():
            return None
        fault = self._random.choice(faults)
        self.done[fault] += 1
        return fault

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        is_watch = request.query.get("watch") in {"1", "true"}
        fault = None if is_watch else self._draw(REQUEST_FAULTS)
        if fault is Fault.TOO_MANY:
            return web.json_response({"kind": "Status", "code": 429}, status=429, headers=_SOON)
        if fault is Fault.ERROR:
            return web.json_response({"kind": "Status", "code": 500}, status=500)
        headers = _kept(request.headers)
        async with self._session.request(
            request.method, request.path_qs, data=body or None, headers=headers
        ) as answer:
            if is_watch and answer.status == 200:
                return await self._stream(request, answer)
            data = await answer.read()
        if fault is Fault.LOST_ANSWER and request.transport is not None:
            request.transport.abort()
        return web.Response(body=data, status=answer.status, headers=_kept(answer.headers))

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=_kept(answer.headers))
        await response.prepare(request)
        with suppress(ConnectionError, aiohttp.ClientError):
            while line := await answer.content.readline():
                fault = self._draw(EVENT_FAULTS)
                if fault is Fault.LATE_EVENT:
                    await asyncio.sleep(LATE_S)
                if fault is Fault.BROKEN_STREAM and request.transport is not None:
                    request.transport.abort()
                    break
                if fault is Fault.GONE:
                    await response.write(json.dumps(_GONE).encode() + b"\n")
                    break
                await response.write(line + line if fault is Fault.EVENT_TWICE else line)
        return response


_SOON = {"Retry-After": "1"}


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in headers.items() if name.lower() not in _HOP_BY_HOP}
    kept.pop("Content-Encoding", None)  # what is passed on was decompressed here
    kept.pop("Accept-Encoding", None)
    return kept
