"""A server's connection: bytes in, events and bytes out; no socket, no clock of its own.

What a peer breaks ends its stream or the connection, as RFC 9113 says. What a peer may do as
often as it likes and brings nothing is paid from a purse, so that the cost of a connection is
bounded by what it is used for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from skerry_runtime.http2 import frames
from skerry_runtime.http2.checks import (
    PRIORITY_BYTES,
    STREAM_ID,
    check_dependency,
    check_setting,
    check_trailers,
    other_length,
    require_connection,
    require_size,
    without_padding,
)
from skerry_runtime.http2.errors import BrokenConnection, BrokenStream, ErrorCode
from skerry_runtime.http2.events import (
    Event,
    GivenUp,
    GoodbyeHeard,
    PieceCame,
    RequestCame,
    RequestEnded,
)
from skerry_runtime.http2.fields import Field, block_of
from skerry_runtime.http2.frames import PREFACE
from skerry_runtime.http2.headreader import HeadReader
from skerry_runtime.http2.heads import CheckedHead, Malformed
from skerry_runtime.http2.limits import Http2Limits, Purse
from skerry_runtime.http2.sender import Sender
from skerry_runtime.http2.streams import Books, HttpStream

A_FRAME, A_WINDOW, A_RESET, A_REQUEST = 1.0, 0.5, 3.0, 2.0
"""What is paid for a frame that brings nothing, for more window, for a stream that is cut short;
and what a request brings: less than its reset costs."""
SETTINGS_IN_A_FRAME = 8

_TOO_LARGE = block_of(((b":status", b"431"),))


class _Block(NamedTuple):
    """A header block that is not whole yet."""

    stream_id: int
    is_end: bool
    fragments: list[bytes]


class ServerCore:
    """The protocol's state; lives wherever its bytes come and go."""

    def __init__(self, limits: Http2Limits, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._limits = limits
        self._clock = clock
        self._purse = Purse(limits.purse, limits.purse_per_s)
        self._books = Books()
        self._sender = Sender(limits, self._books, self._purse, clock)
        self._heads = HeadReader(limits)
        self._window = limits.connection_window_bytes
        self._credit = 0
        self._rest = bytearray()
        self._missing = len(PREFACE)
        self._is_greeted = False
        self._is_settled = False
        self._block: _Block | None = None
        self._last_taken: int | None = None  # of streams, when no more are taken
        self.is_over = False
        """Nothing can come of it any more; what it has to say still goes out."""
        self.complaint = ""
        """Why it is over, when that is the peer's doing."""
        self._takers = (  # by the number of the frame's type
            self._take_data,
            self._take_headers,
            self._take_priority,
            self._take_rst_stream,
            self._take_settings,
            self._take_push_promise,
            self._take_ping,
            self._take_goaway,
            self._take_window_update,
            self._take_continuation,
        )
        self._greet()

    def _greet(self) -> None:
        limits = self._limits
        own = (
            (frames.MAX_CONCURRENT_STREAMS, limits.max_streams),
            (frames.INITIAL_WINDOW_SIZE, limits.window_bytes),
            (frames.MAX_FRAME_SIZE, limits.max_frame_bytes),
            (frames.MAX_HEADER_LIST_SIZE, limits.max_header_bytes),
        )
        more = limits.connection_window_bytes - frames.DEFAULT_WINDOW
        self._sender.out += (frames.settings(own), frames.window_update(0, more))

    @property
    def open_streams(self) -> int:
        """Streams whose work has not ended."""
        return len(self._books.open)

    @property
    def waits_for_head(self) -> bool:
        """Whether something has begun that is no request yet: a greeting, or a head."""
        return not self._is_settled or self._block is not None

    @property
    def has_part_of_frame(self) -> bool:
        """Whether a frame has begun to come."""
        return bool(self._rest)

    def take(self) -> Sequence[bytes | memoryview]:
        """Return what goes out, and forget it."""
        out, self._sender.out = self._sender.out, []
        return out

    def receive(self, data: bytes) -> list[Event]:
        """Use up the next bytes of the connection; return what they mean. Events keep views."""
        if self.is_over:
            return []
        if len(self._rest) + len(data) < self._missing:
            self._rest += data
            return []
        if self._rest:
            data, self._rest = bytes(self._rest) + data, bytearray()
        try:
            self._consume(data)
        except BrokenConnection as error:
            self.end(error.code, str(error))
        events, self._sender.events = self._sender.events, []
        return events

    def end(self, code: ErrorCode, text: str = "") -> None:
        """Say goodbye for good."""
        self._sender.out.append(frames.goaway(self._books.last_id, code, text))
        self.is_over = True
        self.complaint = text

    def retire(self, *, is_final: bool) -> None:
        """Take no more streams: first said without a number, so that none under way is lost."""
        last = self._books.last_id if is_final else STREAM_ID
        self._last_taken = self._books.last_id if is_final else None
        self._sender.out.append(frames.goaway(last, ErrorCode.NO_ERROR))
        if not is_final:
            self._sender.out.append(frames.ping(frames.GOODBYE))

    def head(self, stream_id: int, block: bytes, *, is_end: bool = False) -> None:
        """Send the head of an answer; `is_end`: it is all of it."""
        stream = self._books.open.get(stream_id)
        if stream is not None:
            self._sender.head(stream, block, is_end=is_end)

    def body(self, stream_id: int, body: bytes) -> bool:
        """Send bytes of an answer; return whether some wait for the peer."""
        stream = self._books.open.get(stream_id)
        if stream is None:
            return False
        self._sender.body(stream, body)
        return bool(stream.out)

    def finish(self, stream_id: int, trailers: bytes | None = None) -> None:
        """End an answer, with a block of trailers or without."""
        stream = self._books.open.get(stream_id)
        if stream is not None:
            self._sender.end(stream, trailers)

    def reply(self, stream_id: int, head: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole answer, and release its stream."""
        stream = self._books.open.get(stream_id)
        if stream is not None:
            stream.is_released = True
            self._sender.reply(stream, head, body, trailers)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Cut a stream short from this side."""
        if stream_id in self._books.open:
            self._sender.reset(stream_id, code)

    def release(self, stream_id: int) -> None:
        """Say that nobody works for a stream any more."""
        stream = self._books.open.get(stream_id)
        if stream is not None:
            stream.is_released = True
            self._books.settle(stream)

    def reset_stalled(self, since: float) -> list[int]:
        """Cut the streams short whose peer has taken nothing since then; return them."""
        stalled = [s.id for s in self._books.open.values() if s.out and s.moved_at < since]
        for stream_id in stalled:
            self._sender.reset(stream_id, ErrorCode.CANCEL)
        return stalled

    def credit(self, stream_id: int, count: int) -> None:
        """Say that so many bytes of a body were used up: the peer may send as many more."""
        self._credit_connection(count)
        stream = self._books.open.get(stream_id)
        if stream is None or stream.request_ended or stream.is_dead:
            return
        stream.credit += count
        if 2 * stream.credit >= self._limits.window_bytes:
            self._sender.out.append(frames.window_update(stream_id, stream.credit))
            stream.receive_window += stream.credit
            stream.credit = 0

    def _credit_connection(self, count: int) -> None:
        self._credit += count
        if 2 * self._credit >= self._limits.connection_window_bytes:
            self._sender.out.append(frames.window_update(0, self._credit))
            self._window += self._credit
            self._credit = 0

    def _pay(self, price: float) -> None:
        if not self._purse.pay(price, self._clock()):
            text = "too many frames that bring nothing"
            raise BrokenConnection(ErrorCode.ENHANCE_YOUR_CALM, text)

    def _consume(self, data: bytes) -> None:
        at, size = self._greeted(data), len(data)
        view = memoryview(data)
        self._missing = frames.HEAD_BYTES
        while size - at >= frames.HEAD_BYTES:
            high, low, kind, flags, stream_id = frames.unpack_head(data, at)
            length = high << 16 | low
            if length > self._limits.max_frame_bytes:
                raise BrokenConnection(ErrorCode.FRAME_SIZE_ERROR, "a frame is too long")
            end = at + frames.HEAD_BYTES + length
            if end > size:
                self._missing = end - at
                break
            self._take(kind, flags, stream_id & STREAM_ID, view[at + frames.HEAD_BYTES : end])
            at = end
        if at < size:
            self._rest += view[at:]

    def _greeted(self, data: bytes) -> int:
        """Check the preface, once; return where frames begin."""
        if self._is_greeted:
            return 0
        if not data.startswith(PREFACE):
            raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2")
        self._is_greeted = True
        return len(PREFACE)

    def _take(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        """Use up one frame."""
        if self._block is not None and kind != frames.CONTINUATION:
            raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "a frame stands within a header block")
        if not self._is_settled and kind != frames.SETTINGS:
            raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        try:
            if kind < len(self._takers):
                self._takers[kind](flags, stream_id, payload)
            else:
                self._pay(A_FRAME)
        except BrokenStream as error:
            self._break(error)

    def _break(self, error: BrokenStream) -> None:
        self._pay(A_RESET)
        is_open = error.stream_id in self._books.open
        self._sender.reset(error.stream_id, error.code)
        if is_open:
            self._sender.events.append(GivenUp(error.stream_id))

    def _take_data(self, flags: int, stream_id: int, payload: memoryview) -> None:
        size = len(payload)
        if size > self._window:
            raise BrokenConnection(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window takes")
        stream = self._books.open.get(stream_id)
        if stream is None:
            self._require_not_idle(stream_id)
        self._window -= size
        if stream is None or stream.is_dead or stream.request_ended:
            self._credit_connection(size)
            self._refuse_data(stream, stream_id)
            return
        if size > stream.receive_window:
            self._credit_connection(size)
            text = "more data than the stream's window takes"
            raise BrokenStream(stream_id, ErrorCode.FLOW_CONTROL_ERROR, text)
        stream.receive_window -= size
        body = without_padding(flags, payload)
        if len(body) != size:
            self.credit(stream_id, size - len(body))
        self._grow(stream, body, is_end=bool(flags & frames.END_STREAM))

    def _grow(self, stream: HttpStream, body: memoryview, *, is_end: bool) -> None:
        stream.body_bytes += len(body)
        if is_end:
            self._end_request(stream)
        elif not body:
            self._pay(A_FRAME)
        elif stream.declared is not None and stream.body_bytes > stream.declared:
            raise other_length(stream.id)
        if body:
            self._sender.events.append(PieceCame(stream.id, body, is_end))
        elif is_end:
            self._sender.events.append(RequestEnded(stream.id))

    def _end_request(self, stream: HttpStream) -> None:
        if stream.declared is not None and stream.body_bytes != stream.declared:
            raise other_length(stream.id)
        stream.request_ended = True

    def _refuse_data(self, stream: HttpStream | None, stream_id: int) -> None:
        """Heed data that nobody waits for."""
        self._pay(A_FRAME)
        if stream is not None and stream.is_cut_short:
            return
        if stream is not None or not self._books.was_cut_short(stream_id):
            raise BrokenStream(stream_id, ErrorCode.STREAM_CLOSED, "data behind the end")

    def _take_headers(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if not stream_id & 1:
            raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "a request's stream has an odd number")
        body = without_padding(flags, payload)
        if flags & frames.PRIORITISED:
            if len(body) < PRIORITY_BYTES:
                raise BrokenConnection(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short")
            check_dependency(stream_id, body)
            body = body[PRIORITY_BYTES:]
        is_end = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._take_block(stream_id, bytes(body), is_end=is_end)
        else:
            self._block = _Block(stream_id, is_end, [])
            self._add_fragment(self._block, bytes(body))

    def _take_continuation(self, flags: int, stream_id: int, payload: memoryview) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "CONTINUATION continues nothing")
        self._add_fragment(block, bytes(payload))
        if flags & frames.END_HEADERS:
            self._block = None
            self._take_block(stream_id, b"".join(block.fragments), is_end=block.is_end)

    def _add_fragment(self, block: _Block, fragment: bytes) -> None:
        block.fragments.append(fragment)
        size = sum(map(len, block.fragments))
        limits = self._limits
        if len(block.fragments) > limits.max_fragments or size > 2 * limits.max_header_bytes:
            raise BrokenConnection(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long")

    def _take_block(self, stream_id: int, block: bytes, *, is_end: bool) -> None:
        """Use up a whole header block: a request's head, or its trailers."""
        if len(block) > 2 * self._limits.max_header_bytes:
            raise BrokenConnection(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long")
        stream = self._books.open.get(stream_id)
        if stream is not None or stream_id <= self._books.last_id:
            fields = self._heads.trailers(block)
            self._take_trailers(stream, stream_id, fields, is_end=is_end)
            return
        self._purse.earn(A_REQUEST)
        self._open(stream_id, self._read_head(stream_id, block), is_end=is_end)

    def _take_trailers(
        self, stream: HttpStream | None, stream_id: int, fields: Sequence[Field], *, is_end: bool
    ) -> None:
        if stream is None or stream.is_dead:
            is_late = stream is not None and stream.is_cut_short
            self._refuse_headers(stream_id, is_late=is_late)
            return
        if stream.request_ended:
            raise BrokenStream(stream_id, ErrorCode.STREAM_CLOSED, "fields behind the end")
        if not is_end:
            raise BrokenStream(stream_id, ErrorCode.PROTOCOL_ERROR, "a second head")
        check_trailers(stream_id, fields)
        self._end_request(stream)
        self._sender.events.append(RequestEnded(stream_id))

    def _refuse_headers(self, stream_id: int, *, is_late: bool) -> None:
        self._pay(A_FRAME)
        if is_late or self._books.was_cut_short(stream_id):
            return
        is_gone = stream_id in self._books.open or self._books.is_known_to_be_gone(stream_id)
        code = ErrorCode.STREAM_CLOSED if is_gone else ErrorCode.PROTOCOL_ERROR
        raise BrokenConnection(code, "fields of a stream that is closed")

    def _read_head(self, stream_id: int, block: bytes) -> CheckedHead | None:
        """Return the head of a new stream; None: it is larger than allowed."""
        try:
            return self._heads.head(block)
        except Malformed as err:
            self._books.last_id = stream_id
            self._books.remember(stream_id, is_cut_short=True)
            raise BrokenStream(stream_id, ErrorCode.PROTOCOL_ERROR, str(err)) from err

    def _open(self, stream_id: int, head: CheckedHead | None, *, is_end: bool) -> None:
        """Open a stream for a request, or refuse it."""
        if self._last_taken is not None:
            return  # the peer has been told that it was not taken
        stream = HttpStream(stream_id, self._limits.window_bytes, self._sender.first_window)
        is_full = len(self._books.open) >= self._limits.max_streams
        self._books.add(stream)
        stream.request_ended = is_end
        if is_full:
            stream.is_released = True
            raise BrokenStream(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
        if head is None:
            stream.is_released = True
            self._sender.head(stream, _TOO_LARGE, is_end=True)
            return
        stream.declared = head.length
        if is_end:
            self._end_request(stream)
        self._sender.events.append(RequestCame(stream_id, head, is_end))

    def _take_priority(self, _: int, stream_id: int, payload: memoryview) -> None:
        self._pay(A_FRAME)
        if not stream_id:
            raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "PRIORITY of the connection")
        if len(payload) != PRIORITY_BYTES:
            raise BrokenStream(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five bytes")
        check_dependency(stream_id, payload)

    def _take_rst_stream(self, _: int, stream_id: int, payload: memoryview) -> None:
        self._pay(A_RESET)
        require_size(payload, 4)
        self._require_not_idle(stream_id)
        stream = self._books.open.get(stream_id)
        if stream is not None and not stream.is_dead:
            self._sender.drop(stream)
            self._sender.events.append(GivenUp(stream_id))

    def _take_settings(self, flags: int, stream_id: int, payload: memoryview) -> None:
        require_connection(stream_id)
        if flags & frames.ACK:
            require_size(payload, 0)
            self._pay(A_FRAME)
            return
        if len(payload) % 6:
            raise BrokenConnection(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS ends within a setting")
        found = list(frames.unpack_setting(payload))
        self._pay(A_FRAME + len(found) / SETTINGS_IN_A_FRAME)
        for name, value in found:
            check_setting(name, value)
        self._is_settled = True
        self._sender.out.append(frames.SETTINGS_ACK)  # before what the new settings let out
        self._heed(dict(found))

    def _heed(self, settings: dict[int, int]) -> None:
        size = settings.get(frames.MAX_FRAME_SIZE)
        if size is not None:
            self._sender.set_most_frame(size)
        window = settings.get(frames.INITIAL_WINDOW_SIZE)
        if window is not None:
            self._sender.set_first_window(window)

    def _take_push_promise(self, _: int, __: int, ___: memoryview) -> None:
        raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")

    def _take_ping(self, flags: int, stream_id: int, payload: memoryview) -> None:
        self._pay(A_FRAME)
        require_connection(stream_id)
        require_size(payload, 8)
        if not flags & frames.ACK:
            self._sender.out.append(frames.ping_ack(bytes(payload)))
        elif payload == frames.GOODBYE:
            self._sender.events.append(GoodbyeHeard())

    def _take_goaway(self, _: int, stream_id: int, payload: memoryview) -> None:
        """Heed that the peer asks nothing more; what is under way it still wants."""
        self._pay(A_FRAME)
        require_connection(stream_id)
        if len(payload) < 8:
            raise BrokenConnection(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")

    def _take_window_update(self, _: int, stream_id: int, payload: memoryview) -> None:
        self._pay(A_WINDOW)
        require_size(payload, 4)
        count = frames.unpack_number(payload)[0] & frames.MOST_WINDOW
        if not stream_id:
            if not count:
                raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
            self._sender.widen(count)
            return
        self._require_not_idle(stream_id)
        if not count:
            raise BrokenStream(stream_id, ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
        stream = self._books.open.get(stream_id)
        if stream is not None and not stream.is_dead:
            self._sender.widen_stream(stream, count)

    def _require_not_idle(self, stream_id: int) -> None:
        """Raise BrokenConnection for a stream that no request has opened."""
        if not stream_id or not stream_id & 1 or stream_id > self._books.last_id:
            if self._last_taken is not None and stream_id > self._last_taken:
                return
            raise BrokenConnection(ErrorCode.PROTOCOL_ERROR, "the stream was never opened")
