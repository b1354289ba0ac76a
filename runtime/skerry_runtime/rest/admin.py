"""The admin port: /status for the operator, /metrics for Prometheus, two probes for kubelet."""

from __future__ import annotations

import time
from collections.abc import Callable

from skerry_runtime.contract import StatusReport
from skerry_runtime.rest.http import JSON, Handler, Reply, Request
from skerry_runtime.rest.statuses import HttpError, reply_of

TEXT = b"content-type: text/plain; charset=utf-8\r\n"
PROMETHEUS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


SHARE = 0.1
"""Part of one CPU that goes to either document in the long run, however many ask for it."""

SAVED_S = 0.25
"""CPU seconds of it that a quiet time saves up: enough to make each document a hundred times."""


class Spared:
    """A document, made at each request, unless so many come that the model's clients would feel it.

    Then the last one is given again: it is a few milliseconds old.
    """

    def __init__(
        self,
        make: Callable[[], bytes],
        now: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        """Take what makes the document, a clock, and one of the CPU time of this thread."""
        self._make = make
        self._now = now
        self._spent = spent
        self._saved_s = SAVED_S
        self._seen = now()
        self._text: bytes | None = None

    def text(self) -> bytes:
        """Return the document."""
        now = self._now()
        self._saved_s = min(SAVED_S, self._saved_s + SHARE * (now - self._seen))
        self._seen = now
        if self._text is None or self._saved_s > 0:
            before = self._spent()
            self._text = self._make()
            self._saved_s -= self._spent() - before
        return self._text


class AdminApp:
    """What any pod of the cluster may ask."""

    def __init__(
        self,
        status: Callable[[], StatusReport],
        metrics: Callable[[], bytes],
        is_ready: Callable[[], bool],
        is_alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take what tells the report, the metrics, the readiness and the life of this moment."""
        report = Spared(lambda: status().model_dump_json(by_alias=True).encode())
        page = Spared(metrics)
        self._is_ready, self._is_alive = is_ready, is_alive
        self._answers: dict[bytes, Callable[[], Reply]] = {
            b"/status": lambda: Reply(200, report.text(), JSON),
            b"/metrics": lambda: Reply(200, page.text(), PROMETHEUS),
            b"/healthz": self._alive,
            b"/readyz": self._ready,
        }

    def open(self, request: Request) -> Handler:
        """Return what answers a path.

        Raises:
            HttpError: there is no such path, or not for this method, or a body would follow.
        """
        answer = self._answers.get(request.target.partition(b"?")[0])
        if answer is None:
            raise HttpError(404, "no such path")
        if request.method not in ("GET", "HEAD"):
            raise HttpError(405, "use GET", b"allow: GET\r\n")
        if _has_body(request):
            raise HttpError(413, "send no body: nothing here takes one")
        return lambda _: answer()

    def refuse(self, _: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        return reply_of(error)

    def _alive(self) -> Reply:
        if self._is_alive():
            return Reply(200, b"alive\n", TEXT)
        return Reply(503, b"the agent does not turn any more\n", TEXT)

    def _ready(self) -> Reply:
        if self._is_ready():
            return Reply(200, b"serving\n", TEXT)
        return Reply(503, b"not serving\n", TEXT)


def _has_body(request: Request) -> bool:
    return (
        b"transfer-encoding" in request.headers
        or request.headers.get(b"content-length", b"0").strip(b"0") != b""
    )
