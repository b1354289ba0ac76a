"""What people are told of downloads: numbers that move, and must not make a write each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from skerry_operator.api.v1alpha1.edgedeployment_status import (
    MOST_BYTES,
    DownloadStatus,
    PrefetchStatus,
)
from skerry_operator.decide.facts import Fetching, UnitFacts
from skerry_operator.decide.rollout.downloads import duration_text, seconds_left
from skerry_operator.decide.rollout.naming import by_text
from skerry_operator.decide.rollout.state import clip
from skerry_runtime.contract import size_text, size_unit

EVERY = timedelta(seconds=10)
"""How often numbers of downloads are written."""
_MOST_S = 2**31 - 1


def next_download(
    before: DownloadStatus | None, units: Iterable[UnitFacts], now: datetime
) -> DownloadStatus | None:
    """Return the downloads under way; the last numbers while they are younger than 10 s."""
    known = [
        unit.fetching
        for unit in units
        if unit.reachable and unit.fetching and unit.fetching.is_under_way
    ]
    if not known:
        return None
    if before is not None and timedelta(0) <= now - before.at < EVERY:
        return before
    return _summed(known, now)


def next_prefetch(
    before: PrefetchStatus | None, units: Iterable[UnitFacts], now: datetime
) -> PrefetchStatus | None:
    """Return how far units are that fetch ahead; the last word while it is younger than 10 s."""
    ahead = [unit for unit in units if unit.reachable and unit.prefetched is not None]
    if not ahead:
        return None
    notes = by_text((unit.name, unit.prefetch_note) for unit in ahead if unit.prefetch_note)
    found = PrefetchStatus(
        units=len(ahead), done=sum(bool(unit.prefetched) for unit in ahead), message=clip(notes)
    )
    is_news = before is None or found != before.model_copy(update={"at": found.at})
    if before is not None and (not is_news or timedelta(0) <= now - before.at < EVERY):
        return before
    return found.model_copy(update={"at": now})


def prefetch_text(prefetch: PrefetchStatus) -> str:
    """Return for example `2 of 3 units have the target's files ahead; node-c: no room`."""
    text = f"{prefetch.done} of {prefetch.units} units have the target's files ahead"
    return f"{text}; {prefetch.message}" if prefetch.message else text


def _summed(known: list[Fetching], now: datetime) -> DownloadStatus:
    fetched = sum(one.fetched for one in known)
    totals = [one.total for one in known if one.total is not None]
    total = sum(totals) if len(totals) == len(known) else None
    left = [seconds for one in known if (seconds := seconds_left(one)) is not None]
    return DownloadStatus(
        units=len(known),
        fetched_bytes=min(fetched, MOST_BYTES),
        total_bytes=None if total is None else min(total, MOST_BYTES),
        percent=None if not total else min(100, 100 * fetched // total),
        seconds_left=min(int(max(left)), _MOST_S) if len(left) == len(known) else None,
        at=now,
    )


def download_text(download: DownloadStatus) -> str:
    """Return for example `1 fetches: 1.0 of 4.0 MiB (25 %), 3 min at this rate`."""
    text = f"{download.units} {'fetches' if download.units == 1 else 'fetch'}: "
    if download.total_bytes is None:
        text += size_text(download.fetched_bytes)
    else:
        factor, unit = size_unit(download.total_bytes)
        total = download.total_bytes / factor
        text += f"{download.fetched_bytes / factor:.1f} of {total:.1f} {unit}"
    if download.percent is not None:
        text += f" ({download.percent} %)"
    if download.seconds_left is not None:
        text += f", {duration_text(download.seconds_left)} at this rate"
    return text
