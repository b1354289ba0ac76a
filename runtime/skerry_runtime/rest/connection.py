"""One HTTP/1.1 connection: bytes in, requests to the app, answers out.

Written by hand over httptools because the path of a small inference is mostly this: heads go to
the parser, bodies of a declared length are read by the socket into their final place, and a
request whose answer is at hand costs neither a task nor a turn of the event loop.

Every wait has a deadline and every buffer a bound. Who still sends a body, or takes an answer, at
its deadline is judged by what has moved since the last one: a slow line is no standstill. Of what
a client sends ahead of its answers one piece is taken, and the rest stays in the socket.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import cast

from typing_extensions import override

from skerry_runtime.rest.body import SizedBody
from skerry_runtime.rest.crowd import A_REQUEST, AN_ANSWER, NOTHING
from skerry_runtime.rest.head import END_OF_HEAD, Chunks, Head, number
from skerry_runtime.rest.http import HEAD_LENGTH, Buffer, Handler, Reply, Request, encode
from skerry_runtime.rest.hub import Hub
from skerry_runtime.rest.statuses import RETRY_AFTER, HttpError, reply_of

LINGER_S = 2.0
"""A client that is refused while it sends has so long to read why."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

SMALL_BODY = 4 * 1024
"""A body of this size that comes with its head is copied: less ado than a place of its own."""

# What a connection waits for. Plain numbers: an enum's members cost more to compare.
HEAD, SIZED, CHUNKED, ANSWER = range(4)
END = 4
"""Waits for the client to leave: what it still sends is thrown away."""


class Connection(asyncio.BufferedProtocol):
    """One client."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = hub.loop
        self._state = HEAD
        self._partial = bytearray()  # of a head
        self._early = bytearray()  # came before the answer to what came before it
        self._held = 0
        self._quiet_bytes = 0
        self._moved = 0  # of a body or an answer, when its progress was looked at last
        self._is_clogged = False
        self._is_last = False  # no request can come after this one
        self._task: asyncio.Task[Reply] | None = None
        self._transport: asyncio.Transport
        self._head: Head
        self._request: Request
        self._chunks: Chunks
        self._handler: Handler
        self._body: SizedBody
        self._deadline = self._in_time()
        self._address = ""

    @property
    def address(self) -> str:
        """The client's address without its port; empty when it has left already."""
        return self._address

    @property
    def loss(self) -> int:
        """What ending the connection now would cost its client."""
        if self._state == ANSWER:
            return AN_ANSWER
        is_busy = self._state in _READING or self._transport.get_write_buffer_size() > 0
        return A_REQUEST if is_busy else NOTHING

    @property
    def deadline(self) -> float:
        """When what is waited for is overdue."""
        return self._deadline

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        self._address = address_of(transport)
        if not self._hub.add(self):
            self._part(Reply(503, b"", RETRY_AFTER))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was under way for this client."""
        self._hub.remove(self)
        self._state = END
        if self._task is not None:
            self._task.cancel()
        self._release()

    @override
    def eof_received(self) -> bool:
        """Answer what was asked by a client that has only ended its own side, then part.

        One that has left altogether looks the same, so that its work has not for ever. Over TLS
        there is no such half.
        """
        self._is_last = True
        self._deadline = self._in_time()
        return self._state == ANSWER and self._transport.can_write_eof()

    @override
    def get_buffer(self, sizehint: int) -> memoryview | bytearray:
        """Tell where the next bytes go."""
        return self._body.rest if self._state == SIZED else self._hub.piece

    @override
    def buffer_updated(self, nbytes: int) -> None:
        """Go on with the bytes that came."""
        if self._state != SIZED:
            self._consume(self._hub.piece, nbytes)
            return
        try:
            self._grow(nbytes)
        except HttpError as error:
            self._refuse(error)

    @override
    def pause_writing(self) -> None:
        """Take no more requests from a client that does not read its answers."""
        self._is_clogged = True
        self._deadline = self._in_time()

    @override
    def resume_writing(self) -> None:
        """Go on."""
        self._is_clogged = False
        if self._state == HEAD:
            self._wait_for_head()
            self._resume()

    def close_if_idle(self) -> None:
        """End the connection unless a request is under way."""
        if self._state == HEAD and not self._partial and not self._early:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """End the connection when what it waits for is overdue."""
        if now < self._deadline:
            return
        if self._is_moving() and self._has_progressed():
            self._deadline = self._in_time()
        elif self._is_clogged or self._state == END:
            self._transport.abort()
        elif self._state == HEAD:
            self._leave()
        elif self._state == ANSWER:
            self._refuse(HttpError(408, "you stopped sending, and the answer took too long"))
        else:
            self._refuse(HttpError(408, "the body came too slowly"))

    def _is_moving(self) -> bool:
        """Tell whether a body comes in, or an answer goes out."""
        return self._is_clogged or self._state in _READING or self._state == END

    def _has_progressed(self) -> bool:
        """Tell whether enough has moved since the last look, and look anew."""
        before, self._moved = self._moved, self._moved_bytes()
        limits = self._hub.limits
        return self._moved - before >= limits.least_bytes_s * limits.read_timeout_s

    def _moved_bytes(self) -> int:
        """Return a count that grows with what comes of a body, or is taken of an answer."""
        return self._held if self._state in _READING else -self._transport.get_write_buffer_size()

    def _leave(self) -> None:
        """End an idle connection; what its client has not taken by now it does not want."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _consume(self, data: bytearray, size: int) -> None:
        """Use up a piece: heads, bodies, and what is too early."""
        start = 0
        while start < size and self._state != END:
            if self._state == ANSWER or self._is_clogged:
                self._early += memoryview(data)[start:size]
                self._transport.pause_reading()
                return
            try:
                start = self._advance(data, start, size)
            except HttpError as error:
                self._refuse(error)

    def _advance(self, data: bytearray, start: int, size: int) -> int:
        """Use up what belongs to the present state; return where the next begins."""
        if self._state == HEAD:
            return self._take_head(data, start, size)
        if self._state == CHUNKED:
            self._feed_chunks(memoryview(data)[start:size])
            return size
        taken = self._body.put(memoryview(data)[start:size])
        self._grow(taken)
        return start + taken

    def _take_head(self, data: bytearray, start: int, size: int) -> int:
        if self._partial:
            return self._complete_head(data, start, size)
        while data.startswith(b"\r\n", start, size):  # left behind by some old clients
            start += 2
        end = data.find(END_OF_HEAD, start, size)
        if end < 0:
            self._stash_head(data, start, size)
            return size
        end += len(END_OF_HEAD)
        return self._begin(bytes(memoryview(data)[start:end]), data, end, size)

    def _stash_head(self, data: bytearray, start: int, size: int) -> None:
        """Keep a head's first part, unless no head begins so."""
        if start < size and not data[start : start + 1].isalpha():
            raise HttpError(400, "not a valid HTTP request; is TLS spoken to a plain port?")
        self._partial += memoryview(data)[start:size]
        self._deadline = min(self._deadline, self._in_time())
        self._check_head(len(self._partial))

    def _complete_head(self, data: bytearray, start: int, size: int) -> int:
        before = len(self._partial)
        self._partial += memoryview(data)[start:size]
        end = self._partial.find(END_OF_HEAD, max(0, before - len(END_OF_HEAD) + 1))
        if end < 0:
            self._check_head(len(self._partial))
            return size
        end += len(END_OF_HEAD)
        head, self._partial = bytes(self._partial[:end]), bytearray()
        return self._begin(head, data, start + end - before, size)

    def _check_head(self, length: int) -> None:
        if length > self._hub.limits.max_header_bytes:
            raise HttpError(431, "the request's head is too large")

    def _begin(self, text: bytes, data: bytearray, start: int, size: int) -> int:
        """Begin a request whose head is there; return where in `data` the next thing begins."""
        self._check_head(len(text))
        self._head = head = self._hub.heads.parse(text)
        self._request = Request(head.method, head.target, head.headers)
        try:
            self._handler = self._hub.app.open(self._request)
        except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
            self._turn_away(reply_of(error))
            return start
        end = start + head.length
        if head.is_chunked or head.length > SMALL_BODY or end > size:
            self._expect_body(head, text)
            return start
        self._dispatch(bytes(memoryview(data)[start:end]))
        return end

    def _expect_body(self, head: Head, text: bytes) -> None:
        self._deadline = self._in_time()
        self._moved = 0
        if head.is_chunked:
            self._state = CHUNKED
            self._chunks, self._quiet_bytes = Chunks(text), 0
        else:
            self._state = SIZED
            self._hub.budget.check_length(head.length)
            self._body = SizedBody(head.length, number(head.headers.get(HEAD_LENGTH)) or 0)
        if head.expects_continue:
            self._transport.write(_CONTINUE)

    def _grow(self, count: int) -> None:
        """Note that the body grew; hand the request over when it is whole."""
        self._hold(count)
        self._body.grow(count)
        if not self._body.missing:
            self._dispatch(self._body.whole)

    def _feed_chunks(self, data: memoryview) -> None:
        chunks = self._chunks
        grown = chunks.feed(data)
        self._hub.budget.check_length(len(chunks.body))
        self._hold(grown)
        self._quiet_bytes = 0 if grown else self._quiet_bytes + len(data)
        self._check_head(self._quiet_bytes)  # chunk extensions and trailers without an end
        if chunks.is_complete:
            self._is_last |= chunks.is_crowded
            self._dispatch(chunks.body)

    def _dispatch(self, body: Buffer) -> None:
        """Hand the request to the app; answer at once when it does."""
        self._state = ANSWER
        self._deadline = math.inf
        request = self._request
        request.body = body
        request.received = time.perf_counter()
        try:
            outcome = self._handler(request)
        except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
            outcome = reply_of(error)
        if isinstance(outcome, Reply):
            self._send(outcome)
        else:
            self._task = self._loop.create_task(outcome)
            self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[Reply]) -> None:
        """Send the answer that a task found, and go on."""
        self._task = None
        if task.cancelled() or self._state == END:
            return
        error = task.exception()
        self._send(task.result() if error is None else reply_of(error))
        self._resume()

    def _resume(self) -> None:
        """Go on with what came too early."""
        if not self._early:
            return
        early, self._early = self._early, bytearray()
        self._consume(early, len(early))
        if not self._early and self._state != END:
            self._transport.resume_reading()

    def _refuse(self, error: HttpError) -> None:
        """Answer a request that could not be read."""
        request = self._request if self._state in _READING else None
        self._part(reply_of(error) if request is None else self._hub.app.refuse(request, error))

    def _turn_away(self, reply: Reply) -> None:
        """Answer a request by its head; a body that would follow ends the connection."""
        self._state = ANSWER
        if self._head.has_body:
            self._part(reply)
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        keep = self._head.keep_alive and not self._hub.is_draining and not self._is_last
        self._write(reply, keep=keep)
        if keep:
            self._wait_for_head()
        else:
            self._state = END
            self._deadline = self._in_time()
            self._transport.close()

    def _part(self, reply: Reply) -> None:
        """Send a last answer to a client that may still be sending.

        Closing at once would reset the connection and take the answer from the client's hands.
        """
        self._write(reply, keep=False)
        self._state = END
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._deadline = self._loop.time() + LINGER_S
        else:
            self._transport.close()

    def _write(self, reply: Reply, *, keep: bool) -> None:
        is_head = self._state == ANSWER and self._head.method == "HEAD"
        pieces = encode(reply, keep=keep, is_head=is_head, announces=keep and self._head.is_old)
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)
        if self._is_clogged or not keep:
            self._moved = -self._transport.get_write_buffer_size()
        self._release()

    def _wait_for_head(self) -> None:
        self._state = HEAD
        if not self._is_clogged:
            self._deadline = self._loop.time() + self._hub.idle_timeout_s

    def _hold(self, count: int) -> None:
        self._hub.budget.hold(count)
        self._held += count

    def _release(self) -> None:
        self._hub.budget.release(self._held)
        self._held = 0

    def _in_time(self) -> float:
        return self._loop.time() + self._hub.limits.read_timeout_s


_READING = (SIZED, CHUNKED)


def address_of(transport: asyncio.BaseTransport) -> str:
    """Return the peer's address without its port; empty when it has left already."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if name else ""
