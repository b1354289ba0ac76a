"""Decides whether a model fits, and beside what; no IO."""

from __future__ import annotations

from dataclasses import dataclass

from skerry_runtime.contract import SwapMode


@dataclass(frozen=True)
class Room:
    """Memory in bytes as it is before a load."""

    needed: int
    available: int
    freed: int
    """What unloading the serving model would give back."""


def choose_mode(asked: SwapMode, room: Room) -> SwapMode | None:
    """Return how the new model takes the old one's place; None when it does not fit at all.

    Auto overlaps when both fit. Nothing to unload means that there is nothing to swap with:
    the same question then is whether the model fits alone.
    """
    fits_beside = room.needed <= room.available
    fits_alone = room.needed <= room.available + room.freed
    match asked:
        case SwapMode.OVERLAP:
            return SwapMode.OVERLAP if fits_beside else None
        case SwapMode.SEQUENTIAL:
            return SwapMode.SEQUENTIAL if fits_alone else None
        case SwapMode.AUTO if fits_beside:
            return SwapMode.OVERLAP
        case SwapMode.AUTO:
            return SwapMode.SEQUENTIAL if fits_alone else None
