"""REST requests on streams: the same app as on the REST port."""

from __future__ import annotations

import asyncio
import time

from skerry_runtime.errors import Overloaded
from skerry_runtime.front.exchanges import ClientLine
from skerry_runtime.http2.fields import Field, block_of
from skerry_runtime.http2.heads import CheckedHead
from skerry_runtime.rest.http import App, Handler, Reply, Request
from skerry_runtime.rest.statuses import HttpError, reply_of


class RestCall:
    """One request."""

    def __init__(self, line: ClientLine, stream_id: int, head: CheckedHead, app: App) -> None:
        self._line = line
        self._id = stream_id
        self._app = app
        self._request = Request(head.method.decode("latin-1"), head.path, dict(head.fields))
        self._pieces: list[bytes] = []
        self._held = 0
        self._seen: int | None = None
        self._task: asyncio.Task[Reply] | None = None
        self.is_over = False
        self._handler: Handler | None = None
        try:
            self._handler = app.open(self._request)
        except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
            self._send(reply_of(error))

    def take(self, piece: memoryview, *, is_last: bool) -> None:
        """Take a piece of the body; answer when it is whole."""
        self._line.core.credit(self._id, len(piece))
        if self.is_over:
            return
        try:
            self._keep(piece)
        except (HttpError, Overloaded) as error:
            self._send(self._app.refuse(self._request, error))
        else:
            if is_last:
                self.end()

    def end(self) -> None:
        """Answer."""
        if self.is_over or self._handler is None:
            return
        self._request.body = b"".join(self._pieces)
        self._request.received = time.perf_counter()
        try:
            outcome = self._handler(self._request)
        except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
            outcome = reply_of(error)
        if isinstance(outcome, Reply):
            self._send(outcome)
            return
        self._task = self._line.loop.create_task(outcome)
        self._task.add_done_callback(self._worked)

    def give_up(self) -> None:
        """Stop: the peer wants no answer."""
        if not self.is_over:
            self._leave()

    def go_on(self) -> None:
        """Heed that the peer has taken what was sent."""

    def look(self, least_bytes: float) -> None:
        """Refuse a request of whose body less than this has come since the last look."""
        if self._task is None and self._seen is not None and self._held - self._seen < least_bytes:
            error = HttpError(408, "the body came too slowly")
            self._send(self._app.refuse(self._request, error))
        self._seen = self._held

    def _keep(self, piece: memoryview) -> None:
        desk = self._line.desk
        if self._held + len(piece) > desk.limits.max_message_bytes:
            raise HttpError(413, f"the body has more than {desk.limits.max_message_bytes} bytes")
        desk.coming.take(len(piece))
        self._held += len(piece)
        self._pieces.append(bytes(piece))

    def _worked(self, task: asyncio.Task[Reply]) -> None:
        self._task = None
        if self.is_over or task.cancelled():
            self.give_up()
            self._line.core.release(self._id)
        else:
            error = task.exception()
            self._send(task.result() if error is None else reply_of(error))
        self._line.flush()

    def _send(self, reply: Reply) -> None:
        core, body = self._line.core, b"".join((reply.body, *reply.blobs))
        head = block_of(_fields(reply, len(body)))
        if self._request.method == "HEAD" or not body:
            core.head(self._id, head, is_end=True)
        else:
            core.head(self._id, head)
            core.body(self._id, body)
            core.finish(self._id)
        self._leave()

    def _leave(self) -> None:
        self.is_over = True
        self._line.desk.coming.give(self._held)
        self._held, self._pieces = 0, []
        if self._task is None:
            self._line.core.release(self._id)
        else:
            self._task.cancel()
        self._line.forget(self._id)


def _fields(reply: Reply, length: int) -> list[Field]:
    """Return the fields of an answer's head; its headers are lines."""
    fields = [(b":status", b"%d" % reply.status)]
    for line in reply.headers.splitlines():
        name, _, value = line.partition(b": ")
        fields.append((name.lower(), value))
    return [*fields, (b"content-length", b"%d" % length)]
