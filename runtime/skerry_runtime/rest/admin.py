"""The admin port: /status for the operator, /metrics for Prometheus, two probes for kubelet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skerry_runtime.contract import StatusReport
from skerry_runtime.rest.http import JSON, Handler, Reply, Request
from skerry_runtime.rest.statuses import HttpError, reply_of

TEXT = b"content-type: text/plain; charset=utf-8\r\n"
PROMETHEUS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


@dataclass(frozen=True)
class AdminApp:
    """What it tells is asked for at each request."""

    status: Callable[[], StatusReport]
    metrics: Callable[[], bytes]
    is_ready: Callable[[], bool]

    def open(self, request: Request) -> Handler:
        """Return what answers a path.

        Raises:
            HttpError: there is no such path, or not for this method.
        """
        answer = {
            b"/status": self._status,
            b"/metrics": lambda: Reply(200, self.metrics(), PROMETHEUS),
            b"/healthz": lambda: Reply(200, b"alive\n", TEXT),
            b"/readyz": self._ready,
        }.get(request.target.partition(b"?")[0])
        if answer is None:
            raise HttpError(404, "no such path")
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "use GET", b"allow: GET\r\n")
        return lambda _: answer()

    def refuse(self, _: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        return reply_of(error)

    def _status(self) -> Reply:
        return Reply(200, self.status().model_dump_json(by_alias=True).encode(), JSON)

    def _ready(self) -> Reply:
        if self.is_ready():
            return Reply(200, b"serving\n", TEXT)
        return Reply(503, b"not serving\n", TEXT)
