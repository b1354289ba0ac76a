"""The admin port: /status for the operator, /metrics for Prometheus, two probes for kubelet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skerry_runtime.contract import StatusReport
from skerry_runtime.rest.asgi import JSON, Headers, Receive, Reply, Scope, Send, send_reply
from skerry_runtime.rest.statuses import HttpError, reply_of

TEXT: Headers = ((b"content-type", b"text/plain; charset=utf-8"),)
PROMETHEUS: Headers = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)


@dataclass(frozen=True)
class AdminApp:
    """ASGI application; what it tells is asked for at each request."""

    status: Callable[[], StatusReport]
    metrics: Callable[[], bytes]
    is_ready: Callable[[], bool]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        await send_reply(send, self._answer(scope["method"], scope["path"]))

    def _answer(self, method: str, path: str) -> Reply:
        answer = {
            "/status": self._status,
            "/metrics": lambda: Reply(200, self.metrics(), PROMETHEUS),
            "/healthz": lambda: Reply(200, b"alive\n", TEXT),
            "/readyz": self._ready,
        }.get(path)
        if answer is None:
            return reply_of(HttpError(404, "no such path"))
        if method not in ("GET", "HEAD"):
            return reply_of(HttpError(405, "use GET", ((b"allow", b"GET"),)))
        return answer()

    def _status(self) -> Reply:
        return Reply(200, self.status().model_dump_json(by_alias=True).encode(), JSON)

    def _ready(self) -> Reply:
        if self.is_ready():
            return Reply(200, b"serving\n", TEXT)
        return Reply(503, b"not serving\n", TEXT)
