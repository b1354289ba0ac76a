"""Bounds the memory of all messages together that inferences are made of.

gRPC bounds one message and the number of calls; their product is far more than a board has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from skerry_runtime.errors import Overloaded
from skerry_runtime.rpc.generated import oip_pb2 as pb


@dataclass(frozen=True, slots=True)
class Weighed:
    """A request, and how many bytes it came in."""

    message: pb.ModelInferRequest | None
    """None: the bytes are no such message, which is the client's mistake and not an error here."""
    size_bytes: int

    @classmethod
    def FromString(cls, data: bytes) -> Weighed:  # noqa: N802 (as protobuf's own)
        """Read a message."""
        try:
            return cls(pb.ModelInferRequest.FromString(data), len(data))
        except DecodeError:
            return cls(None, len(data))


class Budget:
    """Counts the bytes of all requests that have no answer yet. Lives on one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def holding(self, size_bytes: int) -> Iterator[None]:
        """Count a request until its answer is there.

        Raises:
            Overloaded: too many at once.
        """
        if self._held + size_bytes > self._max_bytes:
            raise Overloaded(f"requests of {self._max_bytes} bytes in all are being answered")
        self._held += size_bytes
        try:
            yield
        finally:
            self._held -= size_bytes
