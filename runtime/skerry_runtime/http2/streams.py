"""The streams of a connection: what their peer may still send, and what waits to go out."""

from __future__ import annotations

from collections import deque

KEPT_GONE = 1024
"""How many streams are remembered after their end: frames for them may be under way."""


class HttpStream:
    """The state of a request and its answer on a connection."""

    __slots__ = (
        "answer_ended",
        "body_bytes",
        "credit",
        "declared",
        "end",
        "id",
        "is_cut_short",
        "is_dead",
        "is_released",
        "moved_at",
        "out",
        "receive_window",
        "request_ended",
        "send_window",
    )

    def __init__(self, stream_id: int, receive_window: int, send_window: int) -> None:
        self.id = stream_id
        self.receive_window = receive_window
        """Bytes that the peer may still send."""
        self.send_window = send_window
        """Bytes that it takes; below zero after it changed its mind."""
        self.credit = 0
        """Bytes that were used up, and not yet given back to the peer's window."""
        self.declared: int | None = None
        """Bytes that the request's body has by its head."""
        self.body_bytes = 0
        self.request_ended = False
        self.answer_ended = False
        self.is_dead = False
        """Reset by either side: nothing more is sent on it."""
        self.is_cut_short = False
        """Reset by this side: the peer may still send what it sent before it hears."""
        self.is_released = False
        """Nobody works for it any more."""
        self.out: deque[memoryview] = deque()
        self.moved_at = 0.0
        """When some of it went out last, or began to wait."""
        self.end: bytes | None = None
        """Frame that ends the answer, when all that waits has gone out."""

    @property
    def is_over(self) -> bool:
        """Whether it may leave the books."""
        return self.is_released and (self.answer_ended or self.is_dead)

    def cut(self, most: int) -> memoryview:
        """Take the next piece to send."""
        piece = self.out[0]
        if len(piece) <= most:
            return self.out.popleft()
        self.out[0] = piece[most:]
        return piece[:most]


class Books:
    """The streams that are open, and the last that were.

    A stream counts until its work has ended, not until its peer gives it up: resets are free for
    the peer, and work is not.
    """

    def __init__(self) -> None:
        self.open: dict[int, HttpStream] = {}
        self.last_id = 0
        self._gone: deque[int] = deque(maxlen=KEPT_GONE)
        self._cut_short: set[int] = set()

    def add(self, stream: HttpStream) -> None:
        """Open a stream."""
        self.open[stream.id] = stream
        self.last_id = stream.id

    def settle(self, stream: HttpStream) -> None:
        """Take a stream out when it is over."""
        if stream.is_over and stream.id in self.open:
            del self.open[stream.id]
            self.remember(stream.id, is_cut_short=stream.is_cut_short)

    def remember(self, stream_id: int, *, is_cut_short: bool) -> None:
        """Remember a stream that is gone; of one that was cut short more frames may come."""
        if len(self._gone) == KEPT_GONE:
            self._cut_short.discard(self._gone[0])
        self._gone.append(stream_id)
        if is_cut_short:
            self._cut_short.add(stream_id)

    def was_cut_short(self, stream_id: int) -> bool:
        """Tell whether frames of a stream may still come from a peer that has not heard."""
        return stream_id in self._cut_short

    def is_known_to_be_gone(self, stream_id: int) -> bool:
        """Tell whether a stream was open once, as far as is remembered."""
        return stream_id in self._gone
