"""Windows of time: whether one is open, and when that changes. Pure.

The zone's own clocks say when a window begins; what follows is reckoned in UTC, so that neither an
hour that is skipped nor one that comes twice confuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.api.v1alpha1.edgedeployment_windows import Day, TimeWindow

EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""No clock that is right shows an earlier time: a board without one begins at 1970."""

_DAY = timedelta(days=1)
_AHEAD = timedelta(days=16)
"""Windows come again every week: what this does not show does not come."""
_BACK = timedelta(days=120)
"""As far as time is counted back: four times the longest deadline."""


@dataclass(frozen=True)
class WindowOutlook:
    """How it stands with some windows at one moment."""

    is_open: bool
    until: datetime | None = None
    """When that changes, in the zone of the window in question; None: it does not, or nobody
    knows."""
    why: str = ""
    """For people."""


@dataclass(frozen=True)
class _Span:
    """One time that a window is open."""

    start: datetime
    end: datetime
    opens: ZoneInfo
    """Zone of the window that begins it."""
    shuts: ZoneInfo
    """Zone of the window that ends it."""


def outlook(windows: Sequence[TimeWindow], at: datetime) -> WindowOutlook:
    """Return whether a window is open at that time, and until when; no windows are always open."""
    if not windows:
        return WindowOutlook(True, why="there are no windows")
    if at < EARLIEST:
        text = f"nobody knows whether one is open: the operator's clock says {at:%Y-%m-%d}"
        return WindowOutlook(False, why=text)
    horizon = at + _AHEAD
    span = next(iter(_merged(_spans(windows, at, horizon))), None)
    if span is None:
        return WindowOutlook(False, why="none ever opens")
    if span.start > at:
        begins = span.start.astimezone(span.opens)
        return WindowOutlook(False, begins, f"shut until {clock_text(begins)}")
    if span.end >= horizon:
        return WindowOutlook(True, why="always open")
    ends = span.end.astimezone(span.shuts)
    return WindowOutlook(True, ends, f"open until {clock_text(ends)}")


def time_open(windows: Sequence[TimeWindow], since: datetime, until: datetime) -> timedelta:
    """Return how much of the time between the two a window was open.

    Time that a clock showed which cannot have been right was not.
    """
    if not windows:
        return max(timedelta(0), until - since)
    since = max(since, EARLIEST, until - _BACK)
    spans = _merged(_spans(windows, since, until))
    lengths = (min(one.end, until) - max(one.start, since) for one in spans)
    return sum(lengths, timedelta(0))


def clock_text(at: datetime) -> str:
    """Return a moment as the clocks of its zone show it, for example `2026-03-29 01:30 CET`."""
    zone = getattr(at.tzinfo, "key", "UTC")
    short = at.strftime("%Z")
    return f"{at:%Y-%m-%d %H:%M} {short}" + ("" if zone == short else f" ({zone})")


def rollout_problems(rollout: Rollout) -> list[str]:
    """Return what is wrong with the windows of a rollout, with field, value and remedy."""
    fields = {
        "spec.rollout.windows": rollout.windows,
        "spec.rollout.download.windows": rollout.download.windows,
    }
    return [
        f"{field}[{index}].timeZone: {window.time_zone!r} is no time zone: write a name of the "
        "IANA database, for example Europe/Berlin or UTC"
        for field, windows in fields.items()
        for index, window in enumerate(windows)
        if _zone(window) is None
    ]


def _spans(windows: Iterable[TimeWindow], since: datetime, until: datetime) -> list[_Span]:
    """Return every span that lies in the time between the two, at least in part, by its begin."""
    found = [span for window in windows for span in _spans_of(window, since, until)]
    return sorted(found, key=lambda one: one.start)


def _spans_of(window: TimeWindow, since: datetime, until: datetime) -> Iterator[_Span]:
    zone = _zone(window)
    if zone is None:  # a name that nobody knows opens nothing
        return
    length = timedelta(seconds=duration_s(window.duration))
    days, rest = divmod(length, _DAY)
    begins = time.fromisoformat(window.start)
    # a day on either side: the zone's date is another one than UTC's
    date = (since - length - 2 * _DAY).astimezone(zone).date()
    last = (until + _DAY).astimezone(zone).date()
    wanted = set(window.days) or set(Day)
    while date <= last:
        if tuple(Day)[date.weekday()] in wanted:
            local = datetime.combine(date, begins, zone)
            start, end = _utc(local), _utc(local + days * _DAY) + rest
            if start < until and since < end:
                yield _Span(start, end, zone, zone)
        date += _DAY


def _utc(local: datetime) -> datetime:
    """Return a time of a zone's clocks; what is added to it before counts by these clocks."""
    return local.astimezone(UTC)


def _merged(spans: Iterable[_Span]) -> Iterator[_Span]:
    """Yield spans that overlap, or meet, as one."""
    open_one: _Span | None = None
    for span in spans:
        if open_one is None or span.start > open_one.end:
            if open_one is not None:
                yield open_one
            open_one = span
        elif span.end > open_one.end:
            open_one = _Span(open_one.start, span.end, open_one.opens, span.shuts)
    if open_one is not None:
        yield open_one


def _zone(window: TimeWindow) -> ZoneInfo | None:
    try:
        return ZoneInfo(window.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
