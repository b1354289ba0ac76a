"""What the cache is told by its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from skerry_runtime.cache.claims import ClaimPace
from skerry_runtime.cache.ledger import Allowance

PREFIX = "SKERRY_CACHE_"
MIB = 1024 * 1024
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_UNITS |= {"Ki": 1024, "Mi": MIB, "Gi": 1024**3, "Ti": 1024**4}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(|[KMGT]i?)")


class BadCacheSetting(ValueError):  # noqa: N818 (says what is bad)
    """A setting is wrong; the text names the variable and the remedy."""


@dataclass(frozen=True)
class CacheSettings:
    """All that can be set; each is also `SKERRY_CACHE_<FIELD>`."""

    data_dir: Path = Path("/var/lib/skerry-cache")
    """The volume."""
    keys_dir: Path = Path("/etc/skerry-cache")
    """Folder with ticket.pub, tls.crt and tls.key."""
    host: str = ""
    """Address to listen at; empty: all of them."""
    port: int = 8443
    size: str = "10Gi"
    """What the files may take in all."""
    quota: str = ""
    """What one namespace may bring, and pin; empty: half of the size."""
    reserve: str = "64Mi"
    """What stays free on the volume."""
    claims: int = 1
    """Downloads of the site at one time."""
    turn_s: float = 60.0
    """A namespace that waited so long for downloads of others gets one beside them."""
    begin_s: float = 60.0
    """Time from a claim to its first byte."""
    window_s: float = 60.0
    """A claim that brings fewer than window_bytes in this time passes to the next."""
    window_bytes: int = 64 * 1024
    pin_s: float = 7 * 86_400.0
    """A pin ends when nobody has renewed it for so much time in which the cache ran."""
    max_connections: int = 256
    max_connections_each: int = 32
    """Of them from one address."""
    head_s: float = 10.0
    """Time for a request's head, TLS included."""
    stall_s: float = 30.0
    """A connection that moves nothing for so long is ended; one that is read, below 16 KiB."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> CacheSettings:
        """Read what the environment sets.

        Raises:
            BadCacheSetting: a value is none of its kind, or out of its range.
        """
        given = {one.name: environ.get(PREFIX + one.name.upper(), "") for one in fields(cls)}
        kinds = {one.name: type(one.default) for one in fields(cls)}
        values = {name: _read(name, kinds[name], text) for name, text in given.items() if text}
        found = cls(**values)  # type: ignore[arg-type] # each was read as its field's type
        found.check()
        return found

    def check(self) -> None:
        """Check what belongs together.

        Raises:
            BadCacheSetting: a value is out of its range.
        """
        for name in ("size", "quota", "reserve"):
            text = getattr(self, name)
            if text or name == "size":
                _bytes(name, text)
        _require("size", _bytes("size", self.size) >= MIB, "at least 1Mi")
        _require("port", 0 <= self.port <= 65535, "a port")
        _require("claims", 1 <= self.claims <= 64, "between 1 and 64")
        _require("max_connections", self.max_connections >= 4, "at least 4")

    @property
    def limits(self) -> Allowance:
        """Return how much there may be."""
        size = _bytes("size", self.size)
        quota = _bytes("quota", self.quota) if self.quota else size // 2
        return Allowance(size, min(quota, size), self.pin_s)

    @property
    def reserve_bytes(self) -> int:
        """Return what stays free on the volume."""
        return _bytes("reserve", self.reserve) if self.reserve else 0

    @property
    def pace(self) -> ClaimPace:
        """Return how claims are held and lost."""
        return ClaimPace(self.claims, self.turn_s, self.begin_s, self.window_s, self.window_bytes)


def _read(name: str, kind: type, text: str) -> object:
    try:
        value: Any = kind(text)
    except ValueError as err:
        raise BadCacheSetting(f"{PREFIX}{name.upper()}={text!r:.40}: write a number") from err
    if kind in (int, float):
        _require(name, 0 <= value < 1e12, "a number that is not negative")
    return value


def _require(name: str, is_right: bool, remedy: str) -> None:
    if not is_right:
        raise BadCacheSetting(f"{PREFIX}{name.upper()}: write {remedy}")


def _bytes(name: str, text: str) -> int:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise BadCacheSetting(f"{PREFIX}{name.upper()}={text!r:.40}: write a size such as 10Gi")
    return int(float(found[1]) * _UNITS[found[2]])
