"""What a peer has done, for whoever answers."""

from __future__ import annotations

from dataclasses import dataclass

from skerry_runtime.http2.heads import CheckedHead


@dataclass(slots=True)
class RequestCame:
    """A request's head has come; `is_whole`: nothing follows."""

    stream_id: int
    head: CheckedHead
    is_whole: bool


@dataclass(slots=True)
class PieceCame:
    """A piece of a request's body has come; it must be credited when it is used up."""

    stream_id: int
    piece: memoryview
    is_last: bool


@dataclass(slots=True)
class RequestEnded:
    """The request is whole, and its end brought no bytes."""

    stream_id: int


@dataclass(slots=True)
class GivenUp:
    """The peer wants no answer any more, or broke the stream."""

    stream_id: int


@dataclass(slots=True)
class AnswerTaken:
    """All that was sent on a stream has gone out; only told where something had to wait."""

    stream_id: int


@dataclass(slots=True)
class GoodbyeHeard:
    """The peer has heard of the retirement: it has begun no stream since that is not here."""


Event = RequestCame | PieceCame | RequestEnded | GivenUp | AnswerTaken | GoodbyeHeard
