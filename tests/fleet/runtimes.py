"""One process part that answers GET /status for every simulated pod of a fleet.

Its pods exist as objects only: KWOK says that they run, and gives each an address in 127.0.0.0/8,
all of which belong to this machine. A pod reads its assignment file as a real one does: when it
starts, when a patch of the pod tells its kubelet, and once a minute.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from fleet.simulated_pod import LABEL_HABIT, Habit, SimulatedPod
from skerry_operator.constants import ANNOTATION_NUDGE, LABEL_CELL, LABEL_MANAGED_BY, MANAGED_BY
from skerry_runtime.contract import ADMIN_PORT, ASSIGNMENT_FILE

Raw = dict[str, Any]
KUBELET_SYNC_S = 60.0
READY_WITHIN_S = 120.0
LIST_AGAIN_S = 0.2
_CLOSES_WITHIN_S = 0.2
"""Time for TLS connections that were closed to say goodbye to each other."""
_OURS = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
_LINE_LIMIT = 1 << 22
_SO_BINDTODEVICE = 25
"""Of Linux; the socket module names it only from Python 3.12 on."""


class _Pod:
    """A pod object, and the runtime that is simulated for it."""

    def __init__(self, raw: Raw, runtime: SimulatedPod) -> None:
        self.runtime = runtime
        self.ip = ""
        self.cell = (raw["metadata"]["namespace"], raw["metadata"]["labels"].get(LABEL_CELL, ""))
        self.awaits = ""
        """Digest of the file that the last patch told it of and that is not here yet."""
        self.read_at = 0.0


class SimulatedRuntimes:
    """Every simulated pod of one API server; runs in a thread of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._pods: dict[str, _Pod] = {}
        self._by_ip: dict[str, _Pod] = {}
        self._files: dict[tuple[str, str], str] = {}
        self._habits: dict[str, Habit] = {}
        self._connections: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._main, name="simulated runtimes")

    def __enter__(self) -> Self:
        """Start; return when it listens. Another fleet on this machine is waited for.

        Raises:
            RuntimeError: somebody else has the port for long.
        """
        self._listener = _wait_for_port()
        self._thread.start()
        if not self._listens.wait(READY_WITHIN_S):
            self.__exit__()
            raise RuntimeError("the simulated runtimes did not start: see the log above")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        if self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def pods(self) -> list[SimulatedPod]:
        """Return the runtimes as they are now, up to date."""

        async def look() -> list[SimulatedPod]:
            now = time.time()
            for pod in self._pods.values():
                self._sync(pod, now)
                pod.runtime.report(now)
            return [pod.runtime for pod in self._pods.values()]

        return asyncio.run_coroutine_threadsafe(look(), self._loop).result(READY_WITHIN_S)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._run())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        for connection in tuple(self._connections):
            connection.abort()
        self._loop.run_until_complete(asyncio.sleep(_CLOSES_WITHIN_S))
        self._loop.close()

    async def _run(self) -> None:
        answers = partial(_Answers, self._answer, self._connections)
        server = await self._loop.create_server(answers, sock=self._listener)
        async with (
            server,
            server_session(self._kubeconfig) as session,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(follow(session, "/api/v1/nodes", {}, self._node))
            ours = {"labelSelector": _OURS}
            group.create_task(follow(session, "/api/v1/configmaps", ours, self._file))
            group.create_task(follow(session, "/api/v1/pods", ours, self._pod))
            self._listens.set()

    def _node(self, kind: str, raw: Raw) -> None:
        del kind
        name = raw["metadata"]["name"]
        habit = Habit(raw["metadata"].get("labels", {}).get(LABEL_HABIT, Habit.GOOD))
        before, self._habits[name] = self._habits.get(name, Habit.GOOD), habit
        if before is habit:  # a heartbeat
            return
        for pod in self._pods.values():
            if pod.runtime.unit == name:
                pod.runtime.habit = habit

    def _file(self, kind: str, raw: Raw) -> None:
        if kind == "DELETED" or ASSIGNMENT_FILE not in raw.get("data", {}):
            return
        key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        text = self._files[key] = raw["data"][ASSIGNMENT_FILE]
        digest = hashlib.sha256(text.encode()).hexdigest()
        for pod in self._pods.values():
            if pod.cell == key and (pod.awaits == digest or not pod.runtime.text):
                self._read(pod, time.time())

    def _pod(self, kind: str, raw: Raw) -> None:
        uid = raw["metadata"]["uid"]
        if kind == "DELETED":
            gone = self._pods.pop(uid, None)
            if gone is not None and self._by_ip.get(gone.ip) is gone:
                del self._by_ip[gone.ip]
            return
        if not raw.get("status", {}).get("podIP"):
            return
        pod = self._pods.get(uid) or self._start(uid, raw)
        self._move(pod, str(raw["status"]["podIP"]))
        told = raw["metadata"].get("annotations", {}).get(ANNOTATION_NUDGE, "").partition(".")[0]
        text = self._files.get(pod.cell, "")
        self._read(pod, time.time())
        pod.awaits = told if hashlib.sha256(text.encode()).hexdigest() != told else ""

    def _start(self, uid: str, raw: Raw) -> _Pod:
        unit = raw["spec"]["nodeName"]
        habit = self._habits.get(unit, Habit.GOOD)
        pod = _Pod(raw, SimulatedPod(unit, started_at=time.time(), habit=habit))
        self._pods[uid] = pod
        return pod

    def _move(self, pod: _Pod, ip: str) -> None:
        """Give a pod its address: KWOK has been seen to change its mind once."""
        if self._by_ip.get(pod.ip) is pod:
            del self._by_ip[pod.ip]
        pod.ip, self._by_ip[ip] = ip, pod

    def _read(self, pod: _Pod, now: float) -> None:
        """Let a pod read its file, unless its node is off."""
        if (text := self._files.get(pod.cell)) and pod.runtime.habit is not Habit.GONE:
            pod.read_at = now
            pod.runtime.read_file(text, now)

    def _sync(self, pod: _Pod, now: float) -> None:
        if now - pod.read_at > KUBELET_SYNC_S:
            self._read(pod, now)

    def _answer(self, ip: str) -> bytes | None:
        """Return the body for the pod at an address; None: it does not answer."""
        pod, now = self._by_ip.get(ip), time.time()
        if pod is None or pod.runtime.habit is Habit.GONE:
            return None
        self._sync(pod, now)
        report = pod.runtime.report(now)
        return report.model_dump_json(by_alias=True).encode()


class _Answers(asyncio.Protocol):
    """Answers every request of a connection with the status of the pod that was asked."""

    def __init__(
        self, answer: Callable[[str], bytes | None], connections: set[asyncio.Transport]
    ) -> None:
        self._answer = answer
        self._connections = connections
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ip = str(transport.get_extra_info("sockname")[0])
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._left = (self._left + data).split(b"\r\n\r\n")
        for _ in heads:
            if (body := self._answer(self._ip)) is not None:
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                self._transport.write(head.encode() + body)


def _wait_for_port() -> socket.socket:
    """Return the listener as soon as nobody else has the port, which the contract fixes."""
    end = time.monotonic() + READY_WITHIN_S
    while (listener := _listen()) is None:
        if time.monotonic() > end:
            text = f"somebody else has port {ADMIN_PORT} of the loopback device"
            raise RuntimeError(f"{text}: end what `ss -tlnp` shows, or wait until it has ended")
        time.sleep(LIST_AGAIN_S)
    return listener


def _listen() -> socket.socket | None:
    """Listen on every address of 127.0.0.0/8, and on no other; None while somebody else does."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, b"lo")
        listener.bind(("0.0.0.0", ADMIN_PORT))  # of the loopback device only
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return listener


def server_session(kubeconfig: Path) -> aiohttp.ClientSession:
    """Return a session with the server of a bare API's kubeconfig."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    return aiohttp.ClientSession(
        cluster["server"],
        headers={"Authorization": f"Bearer {user['token']}"},
        connector=aiohttp.TCPConnector(ssl=tls),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=_LINE_LIMIT,
    )


async def follow(
    session: aiohttp.ClientSession,
    path: str,
    query: Mapping[str, str],
    tell: Callable[[str, Raw], None],
) -> None:
    """List, then watch for ever; a watch that ends is begun anew with a list."""
    while True:
        async with session.get(path, params=query) as answer:
            listed = await answer.json()
        if answer.status != 200:  # a kind that was made a moment ago
            await asyncio.sleep(LIST_AGAIN_S)
            continue
        for raw in listed["items"]:
            tell("ADDED", raw)
        since = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with session.get(path, params={**query, **since}) as stream:
            while line := await stream.content.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    break
                tell(event["type"], event["object"])
