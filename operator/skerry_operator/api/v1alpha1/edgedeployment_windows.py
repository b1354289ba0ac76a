"""Windows of an EdgeDeployment: when something may happen, in a zone's own time."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from skerry_operator.api.base import Duration, KubeModel
from skerry_operator.api.bounds import duration_between


class Day(StrEnum):
    """A day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


TimeOfDay = Annotated[
    str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", max_length=5)
]
"""Hours and minutes, `00:00` to `23:59`."""
TimeZone = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$", min_length=1, max_length=64
    ),
]
"""Name of the IANA time zone database, such as Europe/Berlin."""


class TimeWindow(KubeModel):
    """A span of time that comes again on some days of every week."""

    days: Annotated[tuple[Day, ...], Field(max_length=7)] = ()
    """Days on which it begins, as the zone counts them. Default: every day."""
    start: TimeOfDay
    """When it begins, by the zone's clocks. A time that they skip is taken as so much later, of
    one that they show twice the first counts."""
    duration: Annotated[Duration, duration_between("1m", "168h")]
    """How long it is open, over midnight too. Whole days are days of the calendar, also those of
    23 and 25 hours; what is beyond them passes by any clock."""
    time_zone: TimeZone = "UTC"
    """IANA time zone, such as Europe/Berlin. Default UTC."""


Windows = Annotated[tuple[TimeWindow, ...], Field(max_length=16)]
