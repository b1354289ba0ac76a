"""What one connection may cost, and the purse that its idle frames are paid from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Http2Limits:
    """What a connection bears. Bytes, unless said."""

    max_header_bytes: int = 16 * 1024
    """Of a block, and of the fields it stands for."""
    max_fields: int = 100
    max_fragments: int = 32
    """Frames that one block may come in, empty ones counted."""
    max_streams: int = 1024
    """Open at one time; a stream counts until its work has ended, whatever the peer says."""
    window_bytes: int = 1024 * 1024
    """That one stream may send ahead."""
    connection_window_bytes: int = 4 * 1024 * 1024
    max_frame_bytes: int = 16 * 1024
    purse: int = 512
    """Frames in a row that bring nothing: pings, settings, priorities, empty data, resets."""
    purse_per_s: float = 50.0


class Purse:
    """Pays for frames that bring nothing; work that was asked for fills it, and so does time.

    One purse for all kinds: whoever knows ten ways to be idle has no more than who knows one.
    """

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, most: int, per_s: float) -> None:
        self._most = float(most)
        self._per_s = per_s
        self._left = self._most
        self._at = 0.0

    def pay(self, price: float, now: float) -> bool:
        """Take a price, in frames; False: the purse is empty."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        self._left -= price
        return self._left >= 0

    def earn(self, gain: float) -> None:
        """Put in what a request or its bytes are worth."""
        self._left = min(self._most, self._left + gain)
