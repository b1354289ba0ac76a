"""Decides whether a model fits, and beside what; no IO."""

from __future__ import annotations

from dataclasses import dataclass

from skerry_runtime.contract import MemoryNeed, SwapMode


@dataclass(frozen=True)
class Room:
    """Memory in bytes as it is before a load."""

    needed: int
    available: int
    freed: int
    """What unloading the serving model would give back."""
    how: str = ""
    """How the need is known."""


@dataclass(frozen=True)
class Need:
    """What a model takes at most, and how that is known."""

    bytes: int
    how: str


def need(known: MemoryNeed) -> Need:
    """Return what a model needs to be loaded and run."""
    if known.declared_bytes is not None:
        return Need(known.declared_bytes, "declared")
    if known.peak_bytes is not None:
        at = f" with {known.at}" if known.at else ""
        return Need(known.peak_bytes, f"measured in its trial{at}")
    return Need(known.estimated_bytes or 0, "estimated from the size of its files")


def resting_bytes(known: MemoryNeed) -> int:
    """Return what unloading it gives back."""
    if known.declared_bytes is None and known.resting_bytes is not None:
        return known.resting_bytes
    return need(known).bytes


def choose_mode(asked: SwapMode, room: Room) -> SwapMode | None:
    """Return how the new model takes the old one's place; None when it does not fit at all.

    Auto, and a mode that only a newer version knows, overlaps when both fit. Nothing to unload
    means that there is nothing to swap with: the same question then is whether the model fits
    alone.
    """
    fits_beside = room.needed <= room.available
    fits_alone = room.needed <= room.available + room.freed
    if asked is SwapMode.OVERLAP:
        return SwapMode.OVERLAP if fits_beside else None
    if fits_beside and asked is not SwapMode.SEQUENTIAL:
        return SwapMode.OVERLAP
    return SwapMode.SEQUENTIAL if fits_alone else None
