"""Reads the heads of one connection. Clients repeat theirs, so the last few are kept."""

from __future__ import annotations

from collections.abc import Sequence

from skerry_runtime.http2.fields import Field, FieldReader
from skerry_runtime.http2.heads import CheckedHead, head_of
from skerry_runtime.http2.limits import Http2Limits

KEPT, KEPT_BYTES = 64, 1024
"""How many heads a connection keeps by their block, and of what length."""


class HeadReader:
    """Every block must come by here, in order: what one says depends on those before it."""

    def __init__(self, limits: Http2Limits) -> None:
        self._fields = FieldReader(limits.max_header_bytes, limits.max_fields)
        self._kept: dict[bytes, CheckedHead] = {}
        self._kept_until = 0  # changes of the fields' table: then blocks say something else

    def head(self, block: bytes) -> CheckedHead | None:
        """Return the head that a block says; None: it is larger than allowed.

        Raises:
            Malformed: it is no head of a request.
            BrokenConnection: it is no block.
        """
        before = self._fields.changes
        if self._kept_until == before and (known := self._kept.get(block)) is not None:
            return known
        fields, is_all = self._fields.read(block)
        if not is_all:
            return None
        head = head_of(fields)
        if self._fields.changes == before and len(block) <= KEPT_BYTES:
            self._keep(block, head)
        return head

    def trailers(self, block: bytes) -> Sequence[Field]:
        """Return the fields behind a body, unchecked.

        Raises:
            BrokenConnection: it is no block.
        """
        return self._fields.read(block)[0]

    def _keep(self, block: bytes, head: CheckedHead) -> None:
        if self._kept_until != self._fields.changes or len(self._kept) >= KEPT:
            self._kept.clear()
            self._kept_until = self._fields.changes
        self._kept[block] = head
