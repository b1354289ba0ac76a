"""Bounds the memory of all messages together that inferences are made of.

gRPC bounds one message and the number of calls; their product is far more than a board has.
"""

from __future__ import annotations

from skerry_runtime.errors import Overloaded


class Budget:
    """Counts the bytes of all requests that have no answer yet. Lives on one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    def take(self, size_bytes: int) -> None:
        """Count a request, until `give` says that its answer is there.

        Raises:
            Overloaded: too many at once; it is not counted.
        """
        if self._held + size_bytes > self._max_bytes:
            raise Overloaded(f"requests of {self._max_bytes} bytes in all are being answered")
        self._held += size_bytes

    def give(self, size_bytes: int) -> None:
        """Count a request no more."""
        self._held -= size_bytes
