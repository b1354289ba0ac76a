"""The one file in a tar archive, as it streams by; compressed with gzip, or not.

After the ustar and pax formats of POSIX. An archive that would need a choice is refused: two files,
links, devices. Nothing of it is written by a name that is in it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.base import BrokenOff
from skerry_runtime.contract import FailureReason

BLOCK = 512
MAX_ENTRIES = 64
"""Most folders and headers before the file."""
MAX_PAX_BYTES = 64 * 1024
MAX_TAIL_BYTES = 1024 * 1024
"""Most that may follow the file: zeros."""
_PIECE = 1024 * 1024
_FOLDER, _PAX, _PAX_GLOBAL, _GNU_NAME = b"5", b"x", b"g", b"L"
_KINDS = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
_GZIP = 31
"""For zlib: the largest window, in gzip's frame."""


def unfit(text: str) -> Refused:
    """Return the refusal of an archive."""
    return Refused(FailureReason.INVALID_MODEL, f"the layer is a tar archive {text}")


async def inflated(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what a gzip stream holds, in pieces that bound what a small input may become."""
    machine = zlib.decompressobj(_GZIP)
    async for chunk in chunks:
        left = chunk
        while left:
            if machine.eof:
                machine = zlib.decompressobj(_GZIP)
            piece, left = await asyncio.to_thread(_step, machine, left)
            if piece:
                yield piece
    if not machine.eof:
        raise BrokenOff("the compressed layer ended in the middle")


def _step(machine: zlib._Decompress, data: bytes) -> tuple[bytes, bytes]:
    try:
        piece = machine.decompress(data, _PIECE)
    except zlib.error as err:
        raise unfit("that is said to be compressed with gzip, and is not") from err
    return piece, machine.unused_data if machine.eof else machine.unconsumed_tail


@dataclass(frozen=True)
class _Header:
    kind: bytes
    name: str
    size: int


class Tarball:
    """Reads an archive front to back."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()

    async def find(self) -> int:
        """Go to the first file and return its size.

        Raises:
            Refused: there is none, or something else comes first.
        """
        size: int | None = None
        for _ in range(MAX_ENTRIES):
            header = await self._header()
            if header is None:
                raise unfit("without a file in it")
            if header.kind == _PAX:
                size = _pax_size(await self._body(header.size))
            elif header.kind == _PAX_GLOBAL:
                await self._body(header.size)
            elif header.kind == _GNU_NAME:
                name = (await self._body(header.size)).rstrip(b"\0")
                _check_file(_Header(b"0", name.decode(errors="replace"), 0))
            elif header.kind == _FOLDER:
                size = None
            else:
                _check_file(header)
                return header.size if size is None else size
        raise unfit(f"with more than {MAX_ENTRIES} entries before its file")

    async def content(self, size: int) -> AsyncIterator[bytes]:
        """Yield the file, then check that nothing else is in the archive.

        Raises:
            Refused: something is.
            BrokenOff: it ends in the middle.
        """
        left = size
        while left:
            piece = await self._some(left)
            left -= len(piece)
            yield piece
        await self._exactly(-size % BLOCK)
        if await self._header() is not None:
            raise unfit("with more than one file: name one layer for each file, uncompressed")
        await self._check_tail()

    async def _header(self) -> _Header | None:
        """Return the next entry; None: the archive is at its end."""
        if not self._buffer and not await self._more():
            return None
        raw = await self._exactly(BLOCK)
        return _read(raw) if raw.strip(b"\0") else None

    async def _body(self, size: int) -> bytes:
        if size > MAX_PAX_BYTES:
            raise unfit("whose names are too long")
        return (await self._exactly(size + -size % BLOCK))[:size]

    async def _check_tail(self) -> None:
        seen = 0
        while self._buffer or await self._more():
            seen += len(self._buffer)
            if self._buffer.strip(b"\0") or seen > MAX_TAIL_BYTES:
                raise unfit("with something after its end")
            self._buffer.clear()

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not await self._more():
                raise BrokenOff("the archive ended in the middle")
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    async def _some(self, most: int) -> bytes:
        if not self._buffer and not await self._more():
            raise BrokenOff("the archive ended in the middle")
        found = bytes(self._buffer[:most])
        del self._buffer[:most]
        return found

    async def _more(self) -> bool:
        async for chunk in self._chunks:
            self._buffer += chunk
            return True
        return False


def _read(raw: bytes) -> _Header:
    told, real = _octal(raw[148:156]), sum(raw) - sum(raw[148:156]) + 8 * ord(" ")
    if told != real:
        raise unfit("with a damaged header: it may be no tar archive at all")
    prefix, name = raw[345:500].rstrip(b"\0"), raw[:100].rstrip(b"\0")
    is_ustar = raw[257:262] == b"ustar"
    path = b"/".join([prefix, name]) if prefix and is_ustar else name
    return _Header(raw[156:157], path.decode(errors="replace"), _number(raw[124:136]))


def _number(field: bytes) -> int:
    """Return a size: octal digits, or for files of 8 GiB and more binary, as GNU tar writes."""
    if field[0] == 0x80:  # the mark
        return int.from_bytes(field[1:], "big")
    return _octal(field)


def _octal(field: bytes) -> int:
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError as err:
        raise unfit("with a damaged header: it may be no tar archive at all") from err


def _check_file(header: _Header) -> None:
    if header.kind not in (b"0", b"\0"):
        kind = _KINDS.get(header.kind, "what is no file")
        raise unfit(f"with {kind} in it: only one plain file may be there")
    if header.name.startswith("/") or ".." in header.name.split("/"):
        raise unfit("whose file has an absolute name, or one that leads outside")


def _pax_size(body: bytes) -> int | None:
    """Return the size in an extended header, and refuse a name that leads outside."""
    size = None
    while body:
        length, _, _ = body.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(body):
            raise unfit("with a damaged extended header")
        record, body = body[len(length) + 1 : int(length)], body[int(length) :]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        if key == b"size" and value.isdigit():
            size = int(value)
        if key == b"path":
            _check_file(_Header(b"0", value.decode(errors="replace"), 0))
        if key == b"linkpath":
            raise unfit("with a link in it: only one plain file may be there")
    return size
