"""What goes out on a connection: frames in order, as far as the peer's windows allow."""

from __future__ import annotations

from collections.abc import Callable

from skerry_runtime.http2 import frames
from skerry_runtime.http2.errors import BrokenConnection, BrokenStream, ErrorCode
from skerry_runtime.http2.events import AnswerTaken, Event
from skerry_runtime.http2.limits import Http2Limits, Purse
from skerry_runtime.http2.streams import Books, HttpStream

BYTES_WORTH_A_FRAME = 4096
"""So many bytes that a peer takes pay for one of its frames that bring nothing."""


class Sender:
    """The sending half; `out` is what the socket gets next."""

    def __init__(
        self, limits: Http2Limits, books: Books, purse: Purse, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._books = books
        self._purse = purse
        self._window = frames.DEFAULT_WINDOW
        self._first_window = frames.DEFAULT_WINDOW
        self._most_frame = frames.LEAST_FRAME_SIZE
        self._waiting: dict[int, HttpStream] = {}  # for the connection's window
        self.out: list[bytes | memoryview] = []
        self.events: list[Event] = []

    @property
    def first_window(self) -> int:
        """Window of a stream that begins now."""
        return self._first_window

    def head(self, stream: HttpStream, block: bytes, *, is_end: bool = False) -> None:
        """Send the fields of an answer's head."""
        if not stream.is_dead:
            self.out.append(self._fields(stream.id, block, is_end=is_end))
            if is_end:
                self._ended(stream)

    def body(self, stream: HttpStream, body: bytes) -> None:
        """Send bytes, or let them wait for the peer's window."""
        if stream.is_dead or not body:
            return
        size = len(body)
        if not stream.out and size <= self._room(stream):
            self._data(stream, body, size)
        else:
            stream.out.append(memoryview(body))
            stream.moved_at = self._clock()
            self._pump(stream)

    def end(self, stream: HttpStream, block: bytes | None = None) -> None:
        """End the answer behind all that waits: with trailers, or without any."""
        if stream.is_dead:
            return
        if block is None:
            frame = frames.head(0, frames.DATA, frames.END_STREAM, stream.id)
        else:
            frame = self._fields(stream.id, block, is_end=True)
        if stream.out:
            stream.end = frame
        else:
            self.out.append(frame)
            self._ended(stream)

    def reply(self, stream: HttpStream, head: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole answer: one piece where it fits the windows and one frame."""
        size = len(body)
        if stream.is_dead or size > self._room(stream):
            self.head(stream, head)
            self.body(stream, body)
            self.end(stream, trailers)
            return
        stream_id, pack = stream.id, frames.head
        self.out += (
            pack(len(head), frames.HEADERS, frames.END_HEADERS, stream_id),
            head,
            pack(size, frames.DATA, 0, stream_id),
            body,
            pack(len(trailers), frames.HEADERS, _LAST_FIELDS, stream_id),
            trailers,
        )
        self._spend(stream, size)
        self._ended(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Cut a stream short."""
        self.out.append(frames.rst_stream(stream_id, code))
        stream = self._books.open.get(stream_id)
        if stream is not None:
            stream.is_cut_short = True
            self.drop(stream)

    def drop(self, stream: HttpStream) -> None:
        """Send nothing more on a stream."""
        stream.is_dead = True
        stream.out.clear()
        self._waiting.pop(stream.id, None)
        self._books.settle(stream)

    def set_first_window(self, size: int) -> None:
        """Heed the peer's window for streams, those that are open as well.

        Raises:
            BrokenConnection: one grows beyond what a window may be.
        """
        change, self._first_window = size - self._first_window, size
        for stream in tuple(self._books.open.values()):
            stream.send_window += change
            if stream.send_window > frames.MOST_WINDOW:
                raise BrokenConnection(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
            if change > 0:
                self._pump(stream)

    def set_most_frame(self, size: int) -> None:
        """Heed the longest frame that the peer takes."""
        self._most_frame = min(size, self._limits.max_frame_bytes)

    def widen(self, count: int) -> None:
        """Heed that the peer takes more on the connection.

        Raises:
            BrokenConnection: more than a window may be.
        """
        self._window += count
        if self._window > frames.MOST_WINDOW:
            raise BrokenConnection(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        while self._waiting and self._window > 0:
            self._pump(self._waiting.pop(next(iter(self._waiting))))  # first come, first served

    def widen_stream(self, stream: HttpStream, count: int) -> None:
        """Heed that the peer takes more on a stream.

        Raises:
            BrokenStream: more than a window may be.
        """
        stream.send_window += count
        if stream.send_window > frames.MOST_WINDOW:
            text = "the stream's window is too large"
            raise BrokenStream(stream.id, ErrorCode.FLOW_CONTROL_ERROR, text)
        self._pump(stream)

    def _room(self, stream: HttpStream) -> int:
        return min(self._window, stream.send_window, self._most_frame)

    def _pump(self, stream: HttpStream) -> None:
        """Send of what waits as much as the windows take."""
        if not stream.out:
            return
        if self._room(stream) > 0:
            stream.moved_at = self._clock()
        while stream.out and (room := self._room(stream)) > 0:
            piece = stream.cut(room)
            self._data(stream, piece, len(piece))
        if stream.out:
            if stream.send_window > 0:
                self._waiting[stream.id] = stream
            return
        self.events.append(AnswerTaken(stream.id))
        if stream.end is not None:
            self.out.append(stream.end)
            self._ended(stream)

    def _data(self, stream: HttpStream, body: bytes | memoryview, size: int) -> None:
        self.out += (frames.head(size, frames.DATA, 0, stream.id), body)
        self._spend(stream, size)

    def _spend(self, stream: HttpStream, size: int) -> None:
        self._window -= size
        stream.send_window -= size
        self._purse.earn(size / BYTES_WORTH_A_FRAME)

    def _ended(self, stream: HttpStream) -> None:
        """Note the end of an answer; a peer that still sends its request may stop."""
        stream.answer_ended = True
        if not stream.request_ended:
            self.reset(stream.id, ErrorCode.NO_ERROR)
        else:
            self._books.settle(stream)

    def _fields(self, stream_id: int, block: bytes, *, is_end: bool) -> bytes:
        """Return the frame, or frames, of a block."""
        end = frames.END_STREAM if is_end else 0
        first, rest = block[: self._most_frame], block[self._most_frame :]
        flags = end if rest else end | frames.END_HEADERS
        out = [frames.head(len(first), frames.HEADERS, flags, stream_id), first]
        while rest:
            piece, rest = rest[: self._most_frame], rest[self._most_frame :]
            flags = 0 if rest else frames.END_HEADERS
            out += (frames.head(len(piece), frames.CONTINUATION, flags, stream_id), piece)
        return b"".join(out)


_LAST_FIELDS = frames.END_HEADERS | frames.END_STREAM
