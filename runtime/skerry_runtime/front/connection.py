"""One client of the port, on one event loop."""

from __future__ import annotations

import asyncio
from typing import cast

from typing_extensions import override

from skerry_runtime.front import calls
from skerry_runtime.front.desk import Desk
from skerry_runtime.front.exchanges import Answering
from skerry_runtime.front.requests import RestCall
from skerry_runtime.http2.connection import ServerCore
from skerry_runtime.http2.errors import ErrorCode
from skerry_runtime.http2.events import (
    AnswerTaken,
    Event,
    GoodbyeHeard,
    PieceCame,
    RequestCame,
    RequestEnded,
)
from skerry_runtime.http2.heads import CheckedHead
from skerry_runtime.rest.connection import LINGER_S, address_of
from skerry_runtime.rest.crowd import A_REQUEST, AN_ANSWER, NOTHING
from skerry_runtime.rest.hub import Hub
from skerry_runtime.rpc.framing import CONTENT_TYPE

JOINED_BYTES = 64 * 1024
"""What goes out is joined up to this size: copying it costs less than more pieces."""

GOODBYE_S = 2.0
"""A client that does not say that it has heard of the end is believed to have."""


class FrontConnection(asyncio.Protocol):
    """Reads, hands on to whoever answers, and writes."""

    def __init__(self, hub: Hub, desk: Desk) -> None:
        self.desk = desk
        self.loop = hub.loop
        self.core = ServerCore(desk.http2, hub.loop.time)
        self._hub = hub
        self._answering: dict[int, Answering] = {}
        self._transport: asyncio.Transport
        self._address = ""
        self._is_begun = False  # something has begun to come that is no request yet
        self._is_reading = False  # what is to go out waits until all that came has been heeded
        self._is_clogged = False
        self._is_leaving = False
        self._is_retired = False
        self._goodbye: asyncio.TimerHandle | None = None
        self._unsent = 0  # bytes, when a clogged connection was looked at last
        self._deadline = 0.0
        self._wait()

    @property
    def address(self) -> str:
        """The client's address without its port; empty when it has left already."""
        return self._address

    @property
    def loss(self) -> int:
        """What ending the connection now would cost its client."""
        if self._is_leaving:
            return NOTHING
        if self.core.open_streams:
            return AN_ANSWER
        return A_REQUEST if self._is_begun else NOTHING

    @property
    def deadline(self) -> float:
        """When what is waited for is overdue."""
        return self._deadline

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or let it go where there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        self._address = address_of(transport)
        if self._hub.add(self):
            self.flush()
        else:
            self._transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was under way for this client."""
        self._hub.remove(self)
        self.core.is_over = True
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._give_all_up()

    @override
    def data_received(self, data: bytes) -> None:
        """Heed what came, then let out what is to be said to it."""
        self._is_reading = True
        try:
            for event in self.core.receive(data):
                self._heed(event)
        finally:
            self._is_reading = False
        self.flush()
        if not self._is_clogged:
            self._wait()

    @override
    def pause_writing(self) -> None:
        """Hear nothing more from a client that does not read its answers."""
        self._is_clogged = True
        self._transport.pause_reading()
        self._unsent = self._transport.get_write_buffer_size()
        self._deadline = self._in_time()

    @override
    def resume_writing(self) -> None:
        """Go on."""
        self._is_clogged = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._wait()

    def flush(self) -> None:
        """Let out what the core has to send; while something is read, that is at its end."""
        if self._is_reading or self._is_leaving or self._transport.is_closing():
            return
        out = self.core.take()
        if len(out) == 1:
            self._transport.write(out[0])
        elif out:
            is_small = sum(map(len, out)) <= JOINED_BYTES
            self._transport.writelines((b"".join(out),) if is_small else out)
        if self.core.is_over:
            self._leave()
        elif self._is_retired and not self.core.open_streams:
            self._transport.close()
            self._deadline = self._in_time()

    def _leave(self) -> None:
        """End the connection, and give a peer that still sends time to read why."""
        self._is_leaving = True
        self._deadline = self.loop.time() + LINGER_S
        self._give_all_up()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def forget(self, stream_id: int) -> None:
        """Stop telling a stream of what comes: its work has ended."""
        self._answering.pop(stream_id, None)

    def close_if_idle(self) -> None:
        """Take no more requests; end when those under way are answered."""
        if self._is_leaving:
            self._transport.abort()
        elif self._goodbye is None:
            self.core.retire(is_final=False)
            self.flush()
            self._goodbye = self.loop.call_later(GOODBYE_S, self._part)

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """End what has taken too long: a stream, or the connection."""
        patience_s = self._hub.limits.read_timeout_s
        for stream_id in self.core.reset_stalled(now - patience_s):
            self._give_up(stream_id)
        if now >= self._deadline:
            self._end_overdue()
        self.flush()

    def _end_overdue(self) -> None:
        limits = self._hub.limits
        least = limits.least_bytes_s * limits.read_timeout_s
        if self._is_clogged:
            before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
            if before - self._unsent < least:
                self._transport.abort()
            self._deadline = self._in_time()
        elif self._is_leaving or self._transport.is_closing():
            self._transport.abort()  # the last words were not taken, or the peer does not go
        elif self._is_begun:
            self.core.end(ErrorCode.ENHANCE_YOUR_CALM, "what was begun came too slowly")
        elif not self.core.open_streams:
            self.core.end(ErrorCode.NO_ERROR)
        else:
            for answering in tuple(self._answering.values()):
                answering.look(least)
            self._deadline = self._in_time()

    def _wait(self) -> None:
        """Set the deadline by what is waited for."""
        if self._is_leaving:
            return
        was_begun, is_busy = self._is_begun, self.core.open_streams > 0
        is_cut = self.core.has_part_of_frame and not is_busy
        self._is_begun = self.core.waits_for_head or is_cut
        if not self._is_begun and not is_busy:
            self._deadline = self.loop.time() + self._hub.idle_timeout_s
        elif self._is_begun and not was_begun:
            self._deadline = self._in_time()
        else:
            self._deadline = min(self._deadline, self._in_time())

    def _in_time(self) -> float:
        return self.loop.time() + self._hub.limits.read_timeout_s

    def _heed(self, event: Event) -> None:
        if isinstance(event, RequestCame):
            self._begin(event)
            return
        if isinstance(event, GoodbyeHeard):
            self._part()
            return
        answering = self._answering.get(event.stream_id)
        if answering is None:
            if isinstance(event, PieceCame):
                self.core.credit(event.stream_id, len(event.piece))
        elif isinstance(event, PieceCame):
            answering.take(event.piece, is_last=event.is_last)
        elif isinstance(event, RequestEnded):
            answering.end()
        elif isinstance(event, AnswerTaken):
            answering.go_on()
        else:
            self._give_up(event.stream_id)

    def _begin(self, event: RequestCame) -> None:
        answering = self._answering_of(event.stream_id, event.head)
        if answering is None:
            return
        self._answering[event.stream_id] = answering
        if event.is_whole:
            answering.end()

    def _answering_of(self, stream_id: int, head: CheckedHead) -> Answering | None:
        """Return who answers; None: it is answered already."""
        kind = head.get(b"content-type") or b""
        if kind[: len(CONTENT_TYPE)] == CONTENT_TYPE and kind[len(CONTENT_TYPE) :][:1] in _ENDS:
            return calls.begin(self, stream_id, head)
        call = RestCall(self, stream_id, head, self.desk.app)
        return None if call.is_over else call

    def _give_all_up(self) -> None:
        for answering in tuple(self._answering.values()):
            answering.give_up()

    def _give_up(self, stream_id: int) -> None:
        answering = self._answering.pop(stream_id, None)
        if answering is not None:
            answering.give_up()
        else:
            self.core.release(stream_id)

    def _part(self) -> None:
        """Say which request was the last; end when all are answered."""
        if self._goodbye is not None and not self._is_retired:
            self._goodbye.cancel()
            self._is_retired = True
            self.core.retire(is_final=True)
            self.flush()


_ENDS = (b"", b"+", b";")
