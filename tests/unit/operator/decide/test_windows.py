"""Windows of time: both changes of the clocks, midnight, overlaps, clocks that are wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.api.v1alpha1.edgedeployment_windows import Day, TimeWindow
from skerry_operator.decide.windows import outlook, rollout_problems, time_open

BERLIN = "Europe/Berlin"


def window(start: str, duration: str, *days: str, zone: str = "UTC") -> TimeWindow:
    return TimeWindow.model_validate(
        {"start": start, "duration": duration, "days": days, "timeZone": zone}
    )


def at(text: str) -> datetime:
    """Return a time of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def is_open(windows: list[TimeWindow], text: str) -> bool:
    return outlook(windows, at(text)).is_open


def test_without_windows_it_is_always_open() -> None:
    assert outlook([], at("2026-11-28T12:00")).is_open
    assert outlook([], at("1970-01-01T00:00")).is_open


def test_a_window_is_open_from_its_start_to_its_end_and_not_at_its_end() -> None:
    night = [window("02:00", "2h")]
    assert not is_open(night, "2026-11-28T01:59:59")
    assert is_open(night, "2026-11-28T02:00")
    assert is_open(night, "2026-11-28T03:59:59")
    assert not is_open(night, "2026-11-28T04:00")


def test_a_shut_window_says_when_it_opens_by_its_own_clocks() -> None:
    found = outlook([window("02:00", "2h", "Sun", zone=BERLIN)], at("2026-11-25T12:00"))
    assert not found.is_open
    assert found.until == at("2026-11-29T01:00")
    assert found.why == "shut until 2026-11-29 02:00 CET (Europe/Berlin)"


def test_an_open_window_says_when_it_shuts() -> None:
    assert outlook([window("02:00", "2h")], at("2026-11-28T03:00")).why == (
        "open until 2026-11-28 04:00 UTC"
    )


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday = [window("22:00", "4h", "Fri")]
    assert is_open(friday, "2026-11-27T23:00")
    assert is_open(friday, "2026-11-28T01:59")
    assert not is_open(friday, "2026-11-28T22:30")


def test_days_are_those_of_the_zone() -> None:
    monday = [window("01:00", "1h", "Mon", zone="Asia/Tokyo")]  # still Sunday in UTC
    assert is_open(monday, "2026-11-29T16:30")
    assert not is_open(monday, "2026-11-30T16:30")


def test_a_start_that_the_clocks_skip_is_taken_as_so_much_later() -> None:
    """On 2026-03-29 Berlin goes from 02:00 CET to 03:00 CEST at 01:00 UTC."""
    skipped = [window("02:30", "1h", zone=BERLIN)]
    assert not is_open(skipped, "2026-03-29T01:29")
    assert is_open(skipped, "2026-03-29T01:30")
    assert is_open(skipped, "2026-03-29T02:29")
    assert not is_open(skipped, "2026-03-29T02:30")
    assert is_open(skipped, "2026-03-30T00:30"), "the day after is summer time"


def test_a_start_that_the_clocks_show_twice_counts_once() -> None:
    """On 2026-10-25 Berlin goes from 03:00 CEST to 02:00 CET at 01:00 UTC."""
    twice = [window("02:30", "20m", zone=BERLIN)]
    assert is_open(twice, "2026-10-25T00:30")
    assert not is_open(twice, "2026-10-25T00:50")
    assert not is_open(twice, "2026-10-25T01:35"), "02:35 for the second time"


def test_hours_pass_by_any_clock_where_the_zone_changes_in_a_window() -> None:
    for begin, end in (
        ("2026-03-28T23:00", "2026-03-29T03:00"),
        ("2026-10-24T22:00", "2026-10-25T02:00"),
    ):
        four_hours = [window("00:00", "4h", zone=BERLIN)]
        assert not is_open(four_hours, _before(begin))
        assert is_open(four_hours, begin)
        assert is_open(four_hours, _before(end))
        assert not is_open(four_hours, end)


def _before(text: str) -> str:
    return (at(text) - timedelta(seconds=1)).replace(tzinfo=None).isoformat()


@pytest.mark.parametrize(
    "window_", [window("00:00", "24h", zone=BERLIN), window("06:00", "168h", "Mon", zone=BERLIN)]
)
def test_a_whole_week_is_open_over_both_changes_of_the_clocks(window_: TimeWindow) -> None:
    for day in ("2026-03-28T12:00", "2026-03-29T22:30", "2026-10-25T22:30", "2026-11-28T12:00"):
        assert outlook([window_], at(day)) == outlook([window_], at("2026-06-01T12:00"))
        assert outlook([window_], at(day)).why == "always open"


def test_windows_that_overlap_or_meet_are_one() -> None:
    several = [
        window("01:00", "2h"),
        window("02:00", "3h"),
        window("05:00", "1h"),
        window("08:00", "1h"),
    ]
    assert outlook(several, at("2026-11-28T01:30")).until == at("2026-11-28T06:00")
    assert outlook(several, at("2026-11-28T07:00")).until == at("2026-11-28T08:00")


def test_a_window_within_another_does_not_shorten_it() -> None:
    assert outlook(
        [window("01:00", "6h"), window("02:00", "1h")], at("2026-11-28T02:30")
    ).until == at("2026-11-28T07:00")


def test_a_clock_that_cannot_be_right_opens_nothing_and_says_so() -> None:
    found = outlook([window("00:00", "24h")], at("1970-01-01T00:10"))
    assert not found.is_open
    assert "clock says 1970-01-01" in found.why


def test_a_zone_that_nobody_knows_is_named_and_opens_nothing() -> None:
    wrong = window("00:00", "24h", zone="Europe/Berln")
    assert not is_open([wrong], "2026-11-28T12:00")
    problems = rollout_problems(Rollout(windows=(window("02:00", "1h"), wrong)))
    assert len(problems) == 1
    assert problems[0].startswith(
        "spec.rollout.windows[1].timeZone: 'Europe/Berln' is no time zone"
    )


@pytest.mark.parametrize("name", ["../etc/passwd", "Europe", "/etc/localtime", "UTC\x00", "a" * 65])
def test_a_name_that_is_no_zone_is_refused_or_opens_nothing(name: str) -> None:
    try:
        found = window("00:00", "24h", zone=name)
    except ValueError:
        return
    assert not is_open([found], "2026-11-28T12:00")


def test_time_that_counts_is_the_time_in_windows() -> None:
    night = [window("02:00", "2h")]
    assert time_open(night, at("2026-11-27T03:30"), at("2026-11-29T03:00")) == timedelta(hours=3.5)
    assert time_open(night, at("2026-11-28T05:00"), at("2026-11-28T20:00")) == timedelta(0)
    assert time_open(night, at("2026-11-28T20:00"), at("2026-11-28T05:00")) == timedelta(0)
    assert time_open([], at("2026-11-28T05:00"), at("2026-11-28T06:00")) == timedelta(hours=1)


zones = st.sampled_from(
    ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]
)
windows = st.builds(
    lambda hour, minute, length, days, zone: window(
        f"{hour:02}:{minute:02}", f"{length}m", *days, zone=zone
    ),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(1, 10_080),
    st.lists(st.sampled_from([str(day) for day in Day]), unique=True),
    zones,
)
moments = st.integers(0, 6 * 365 * 86_400).map(
    lambda seconds: datetime(2025, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(st.lists(windows, min_size=1, max_size=4), moments)
@settings(max_examples=150, deadline=None)
def test_what_it_says_of_the_next_change_is_what_comes(
    found: list[TimeWindow], moment: datetime
) -> None:
    now = outlook(found, moment)
    if now.until is None:
        assert now.is_open
        return
    change = now.until.astimezone(UTC)
    assert change > moment
    assert outlook(found, change).is_open is not now.is_open
    assert outlook(found, change - timedelta(seconds=1)).is_open is now.is_open
    between = time_open(found, moment, change)
    assert between == (change - moment if now.is_open else timedelta(0))


@given(windows, moments)
@settings(max_examples=150, deadline=None)
def test_at_its_start_by_the_clocks_of_its_zone_it_is_open(
    one: TimeWindow, moment: datetime
) -> None:
    zone = ZoneInfo(one.time_zone)
    local = moment.astimezone(zone)
    hours, minutes = (int(part) for part in one.start.split(":"))
    start = local.replace(hour=hours, minute=minutes, second=0, fold=0)
    if not one.days or str(tuple(Day)[start.weekday()]) in one.days:
        assert outlook([one], start.astimezone(UTC)).is_open
