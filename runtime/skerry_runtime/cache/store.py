"""The cache as its clients know it, without the network: files, claims, tickets.

Runs in the event loop; what blocks goes to a few threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from skerry_runtime.cache.claims import ClaimDesk, Ruling
from skerry_runtime.cache.disk import Disk, Growing, digest_of
from skerry_runtime.cache.ledger import Key, Ledger, NoRoom
from skerry_runtime.cache.settings import CacheSettings
from skerry_runtime.cache.wire import CacheReply

THREADS = 4
BOOK_EVERY_S = 30.0
DOUBT_EVERY_S = 60.0
"""A file that was found right is not read again for this long."""
T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass
class Spring:
    """A file that comes in, as those see it who read it meanwhile."""

    total: int
    size: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    is_whole: bool = False
    is_over: bool = False
    """Nothing more comes: it is whole, or was broken off."""

    def move(self) -> None:
        """Wake who reads."""
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


def _nothing(_: object) -> None:
    """Leave what a call returned."""


class Store:
    """All files of the site."""

    def __init__(
        self, settings: CacheSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._disk = Disk(settings.data_dir)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        self._ledger = Ledger(settings.limits)
        self._desk = ClaimDesk(settings.pace, partial(secrets.token_urlsafe, 18))
        self._springs: dict[Key, Spring] = {}
        self._takers: dict[Key, asyncio.Task[Any]] = {}
        self._proved: dict[str, float] = {}
        self._doubting = asyncio.Lock()
        self._changed = asyncio.Event()
        self._ticked_at = monotonic()
        self._written_at = monotonic()
        self._is_book_old = False

    @property
    def ledger(self) -> Ledger:
        """Return the book."""
        return self._ledger

    @property
    def claims(self) -> int:
        """Return how many downloads are under way."""
        return len(self._desk.busy)

    async def open(self) -> None:
        """Take over what is on the volume. Whole files were right when they landed.

        Raises:
            OSError: the volume cannot be used.
        """
        whole, begun = await self.run(self._disk.open)
        known = await self.run(self._disk.read_book)
        self._ledger.restore(whole, known)
        totals = known.get("begun", {})
        for key, size in begun.items():
            await self._take_begun(key, size, int(totals.get("/".join(key), 0)))
        excess = self._ledger.used_bytes - self._ledger.limits.capacity_bytes
        if excess > 0:
            _log.warning("%d bytes more than the size are here: no file comes in", excess)
        _log.info("%d files and %d begun ones are here", len(whole), len(begun))

    async def _take_begun(self, key: Key, size: int, total: int) -> None:
        leaving: list[str | Key] = [key]
        if size < total:  # else nobody knows how much is missing
            with contextlib.suppress(NoRoom):
                leaving = self._ledger.admit(key, size, total, self._ledger.begun)
        await self._remove(leaving)

    async def close(self) -> None:
        """Write the book, and end the threads."""
        self.tick()
        await self._write_book()
        self._threads.shutdown(wait=True)

    async def run(self, call: Callable[..., T], *of: Any) -> T:
        """Run something that blocks. A thread cannot be called back: it ends before we do."""
        return await self.opened(call, _nothing, *of)

    async def opened(self, call: Callable[..., T], close: Callable[[T], object], *of: Any) -> T:
        """The same; what nobody waits for any more is closed again."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, call, *of)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            if running.exception() is None:
                close(running.result())
            raise

    # time

    def tick(self) -> None:
        """Let time pass: pins grow older, slow claims end."""
        now = self._monotonic()
        self._ledger.uptime_s += now - self._ticked_at
        self._ticked_at = now
        for claim in self._desk.lapse(now):
            _log.warning("the claim of %s to %s was too slow, and ended", *claim.key)
            self._dry_up(claim.key)
        self._wake()

    async def keep_time(self) -> None:
        """Tick for ever, and write the book now and then."""
        while True:
            await asyncio.sleep(1.0)
            self.tick()
            if self._is_book_old or self._monotonic() - self._written_at >= BOOK_EVERY_S:
                await self._write_book()

    async def _write_book(self) -> None:
        self._written_at, self._is_book_old = self._monotonic(), False
        try:
            await self.run(self._disk.write_book, self._ledger.dump())
        except OSError as err:
            _log.error("the book was not written: %s", err.strerror)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # claims

    async def claim(self, key: Key, at: int, patience_s: float) -> tuple[Ruling, str, int]:
        """Tell somebody who has `at` bytes of a file what to do; with a token and a place to FETCH.

        Who has to wait is answered when there is news, or after a while.
        """
        ends = self._monotonic() + patience_s
        while True:
            changed = self._changed
            found = self._ruling(key, at)
            left_s = ends - self._monotonic()
            if found[0] is not Ruling.WAIT or left_s <= 0:
                return found
            try:
                async with asyncio.timeout(left_s):
                    await changed.wait()
            except TimeoutError:
                continue

    def _ruling(self, key: Key, at: int) -> tuple[Ruling, str, int]:
        if self._ledger.use(key[1]):
            return Ruling.HERE, "", 0
        if self._desk.of(key):
            return Ruling.FOLLOW, "", 0
        begun = self._ledger.begun.get(key)
        if begun and begun.size >= begun.total:  # nobody has come to check it
            self._ledger.forget(key)
            begun = None
        have = begun.size if begun else 0
        if have > at:
            return Ruling.FOLLOW, "", 0
        if self._ledger.limits.quota_bytes <= self._fixed_bytes(key):
            return Ruling.ALONE, "", 0
        claim = self._desk.ask(key, self._monotonic())
        return (Ruling.FETCH, claim.token, have) if claim else (Ruling.WAIT, "", 0)

    def _fixed_bytes(self, key: Key) -> int:
        """Return what of a namespace's quota its own pins leave to nothing else."""
        entries = self._ledger.entries.items()
        return sum(
            one.size
            for name, one in entries
            if key[0] in one.owners and self._ledger.is_pinned(name)
        )

    def release(self, key: Key, token: str) -> bool:
        """Take a claim back that its holder has no use for; false: it was not theirs."""
        is_theirs = self._desk.end(key, token)
        if is_theirs:
            self._dry_up(key)
            self._wake()
        return is_theirs

    def _dry_up(self, key: Key) -> None:
        if taker := self._takers.get(key):
            taker.cancel()
        if spring := self._springs.pop(key, None):
            spring.is_over = True
            spring.move()

    # files that come in

    async def put(
        self, key: Key, token: str, place: tuple[int, int], chunks: AsyncIterator[bytes]
    ) -> None:
        """Take a file in, from a place in it up to its end.

        Args:
            key: the file.
            token: of the claim.
            place: where the chunks begin, and how large the file is.
            chunks: its bytes.

        Raises:
            CacheReply: it is not taken.
        """
        while taker := self._takers.get(key):
            await asyncio.wait([taker])  # one that has lost its claim, and is about to end
        if not self._desk.begin(key, token, self._monotonic()):
            raise CacheReply(409, "the claim is another one's, or has ended")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (this is a coroutine)
        spring = Spring(place[1], place[0])
        self._takers[key] = task
        try:
            await self._take(key, place, chunks, spring)
        except OSError as err:
            raise await self._full(key, err) from err
        finally:
            del self._takers[key]
            if self._springs.get(key) is spring:
                del self._springs[key]
            spring.is_over = True
            spring.move()
            self._desk.end(key, token)
            self._wake()

    async def _take(
        self, key: Key, place: tuple[int, int], chunks: AsyncIterator[bytes], spring: Spring
    ) -> None:
        offset, total = place
        await self._make_room(key, offset, total)
        growing = await self.opened(Growing, Growing.close, self._disk, key, offset)
        self._springs[key] = spring  # there is a file to read now
        self._wake()
        try:
            async for chunk in chunks:
                await self.run(growing.append, chunk)
                spring.size += len(chunk)
                self._ledger.grow(key, spring.size)
                self._desk.note(key, len(chunk))
                spring.move()
            if spring.size == total:
                await self._land(key, growing, spring)
        finally:
            await asyncio.shield(self.run(growing.close))
        if spring.size < total:
            raise CacheReply(400, "the body ended early; what came is kept")

    async def _make_room(self, key: Key, offset: int, total: int) -> None:
        begun = self._ledger.begun.get(key)
        if offset > (begun.size if begun else 0):
            raise CacheReply(409, "the file has a gap: begin where it ends here")
        try:
            leaving = self._ledger.admit(key, offset, total, self._desk.busy)
        except NoRoom as err:
            raise CacheReply(507, str(err)) from err
        await self._remove(leaving)
        self._is_book_old = True
        free = await self.run(self._disk.free_bytes)
        if free < total - offset + self._settings.reserve_bytes:
            await self._remove([key])
            raise CacheReply(507, f"the volume has {free} bytes left")

    async def _land(self, key: Key, growing: Growing, spring: Spring) -> None:
        if growing.hexdigest() != key[1]:
            await self._remove([key])
            _log.warning("%s put something else as %s", *key)
            raise CacheReply(422, "the bytes have another sha256: they are dropped")
        await self.run(growing.land)
        self._ledger.land(key)
        self._proved[key[1]] = self._monotonic()
        spring.is_whole, self._is_book_old = True, True
        _log.info("%s is here, brought by %s", key[1], key[0])

    async def _full(self, key: Key, err: OSError) -> CacheReply:
        _log.error("the volume does not take %s: %s", key[1], err.strerror)
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            await self._remove([key])
        return CacheReply(507, f"the volume does not take it: {err.strerror}")

    async def _remove(self, gone: list[str | Key]) -> None:
        for one in gone:
            self._ledger.forget(one)
            await self.run(self._disk.remove, one)

    # files that are read

    def size_of(self, sha256: str) -> int | None:
        """Return the size of a whole file."""
        entry = self._ledger.use(sha256)
        return entry.size if entry else None

    def spring_of(self, key: Key) -> Spring | None:
        """Return a file that comes in, or what is left of one, for its own namespace."""
        if spring := self._springs.get(key):
            return spring
        begun = self._ledger.begun.get(key)
        if begun is None or not begun.size or self._desk.of(key):
            return None
        return Spring(max(begun.total, begun.size), begun.size, is_over=True)

    async def wait_for_spring(self, key: Key, patience_s: float) -> Spring | None:
        """Return a file that comes in; wait for its first byte while it is claimed."""
        ends = self._monotonic() + patience_s
        while not (spring := self.spring_of(key)):
            left_s = ends - self._monotonic()
            if self._desk.of(key) is None or left_s <= 0:
                return None
            changed = self._changed
            try:
                async with asyncio.timeout(min(left_s, 1.0)):
                    await changed.wait()
            except TimeoutError:
                continue
        return spring

    # pins and doubts

    def pin(self, key: Key) -> None:
        """Keep a whole file for a namespace.

        Raises:
            CacheReply: it is not here, or the namespace has pinned as much as it may.
        """
        try:
            self._ledger.pin(*key)
        except KeyError as err:
            raise CacheReply(404, "no such file here") from err
        except NoRoom as err:
            raise CacheReply(507, str(err)) from err
        self._is_book_old = True

    async def doubt(self, sha256: str) -> bool:
        """Read a file again that somebody found wrong; drop it if it is. Tell whether it stays."""
        async with self._doubting:
            proved = self._proved.get(sha256)
            if proved is not None and self._monotonic() - proved < DOUBT_EVERY_S:
                return sha256 in self._ledger.entries
            if sha256 not in self._ledger.entries:
                return False
            try:
                found = await self.run(digest_of, self._disk.whole(sha256))
            except OSError as err:
                found = f"unreadable: {err.strerror}"
            if found == sha256:
                self._proved[sha256] = self._monotonic()
                return True
            _log.error("%s is damaged (%s): it is dropped", sha256, found)
            self._proved.pop(sha256, None)
            await self._remove([sha256])
            return False

    def path_of(self, key: Key, *, is_whole: bool) -> str:
        """Return where a file lies that is read."""
        return str(self._disk.whole(key[1]) if is_whole else self._disk.begun(key))
