"""The cache of this pod's site, as the assignment names it, and which files are not asked of it.

A cache can make nothing worse: every fault of it means that the source is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.contract import CacheAccess

if TYPE_CHECKING:
    from skerry_runtime.agent.sources.base import ByteSource
    from skerry_runtime.agent.windowed import WindowedSource

MAX_ASIDE = 1024


@dataclass(frozen=True)
class SiteFile:
    """One file that the cache may be asked for."""

    url: str
    ca: str
    ticket: str
    sha256: str


class SiteLink:
    """Whom to ask before the source."""

    def __init__(self, unit: str = "") -> None:
        self._unit = unit
        self._access: CacheAccess | None = None
        self._url: str | None = None
        self._aside: set[str] = set()

    def obey(self, access: CacheAccess | None) -> None:
        """Take the word of the assignment; None: there is no cache."""
        self._access = access
        self._url = access.url_of(self._unit) if access else None

    def file(self, sha256: str) -> SiteFile | None:
        """Return how the cache is asked for a file; None: it is not to be asked."""
        access, url = self._access, self._url
        if access is None or url is None or sha256 in self._aside:
            return None
        ticket = access.tickets.get(sha256)
        return SiteFile(url, access.ca, ticket, sha256) if ticket else None

    def set_aside(self, sha256: str) -> None:
        """Ask the cache no more for a file: what it gave was wrong."""
        if len(self._aside) >= MAX_ASIDE:
            self._aside.clear()
        self._aside.add(sha256)

    def before(self, source: WindowedSource, sha256: str, part: Path, tuning: Tuning) -> ByteSource:
        """Return a source that asks the cache first, if there is one for this file."""
        file = self.file(sha256)
        if file is None:
            return source
        from skerry_runtime.agent.siteclient import SiteClient  # noqa: PLC0415 (few pods need it)
        from skerry_runtime.agent.sitesource import SiteFirst  # noqa: PLC0415

        return SiteFirst(source, SiteClient(file, tuning), part)

    async def blame(self, source: ByteSource, sha256: str) -> bool:
        """Leave the cache out for a file that came out wrong; tell whether it gave any of it."""
        if self.file(sha256) is None or not getattr(source, "has_given", False):
            return False
        from skerry_runtime.agent.sitesource import SiteFirst  # noqa: PLC0415 (as above)

        assert isinstance(source, SiteFirst)  # noqa: S101 (nothing else has given)
        self.set_aside(sha256)
        await source.give_up()
        return True
