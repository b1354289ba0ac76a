"""How long the units of a rollout were without a serving model.

In a pod that stays, the runtime measures it. From pod to pod the operator does, by its own clock:
from the decision that ends the old pod to the moment that the new one began to serve, so that
no clock of a node is compared with another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from skerry_operator.api.v1alpha1.edgedeployment_status import Replacement
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.seating import Seat, gives_up_its_pod
from skerry_operator.decide.reported import UnitReport

REPLACING_LIMIT = 100
"""Replacements that are timed at once; the bound of the status field."""
LONGEST_MS = 2**31 - 1
"""Larger numbers are a pod's nonsense; the bound of the status field."""

LONGEST_AGE_S = 1e9
"""A pod that says it has served for longer, 30 years, talks nonsense."""


@dataclass(frozen=True)
class Outages:
    """What was measured in one look."""

    replacing: tuple[Replacement, ...]
    """Units whose old pod was ended, and whose new one does not serve yet."""
    ended_ms: Mapping[str, int]
    """Unit -> its longest outage that is known now, in milliseconds."""


def measure(fleet: Fleet, seats: Iterable[Seat], started_at: datetime | None) -> Outages:
    """Return the outages of the rollout that began at `started_at`."""
    status = fleet.observed.deployment.status
    begun = {one.unit: one.since for one in status.replacing}
    replacing: dict[str, datetime] = {}
    ended: dict[str, int] = {}
    for seat in seats:
        known = list(_in_place_ms(fleet, seat.unit, started_at))
        if gives_up_its_pod(fleet, seat):  # the first time counts: the same look writes the same
            replacing[seat.unit] = begun.get(seat.unit, fleet.observed.now)
        elif seat.unit in begun and fleet.row(seat.unit).reachable:
            back_at = _serving_since(fleet, seat)
            if back_at is None:
                replacing[seat.unit] = begun[seat.unit]
            else:
                known.append(_ms(back_at - begun[seat.unit]))
        if known:
            ended[seat.unit] = max(known)
    oldest = sorted(replacing.items(), key=lambda item: (item[1], item[0]))[:REPLACING_LIMIT]
    return Outages(tuple(Replacement(unit=unit, since=at) for unit, at in oldest), ended)


def _in_place_ms(fleet: Fleet, unit: str, started_at: datetime | None) -> Iterator[int]:
    """Yield the outage of the unit's last swap, if that was in this rollout."""
    report = fleet.row(unit).report
    swap = report.last_swap if report else None
    if report is None or swap is None or started_at is None:
        return
    if not all(map(math.isfinite, (swap.at, swap.outage_ms))):
        return
    now = fleet.observed.now
    if (now - started_at).total_seconds() >= report.pod_now(now) - swap.at:
        yield max(0, min(LONGEST_MS, math.ceil(swap.outage_ms)))


def _serving_since(fleet: Fleet, seat: Seat) -> datetime | None:
    """Return when the unit's new pod began to serve, by the operator's clock; None: not yet."""
    row = fleet.row(seat.unit)
    report = row.report
    if report is None or not row.serves_from((seat.berth,)):
        return None
    return fleet.observed.now - timedelta(seconds=_age_s(report, fleet.observed.now))


def _age_s(report: UnitReport, now: datetime) -> float:
    """Return how long the pod has served what it serves, both ends by its own clock."""
    age = report.pod_now(now) - report.serving.since if report.serving else 0.0
    return max(0.0, min(LONGEST_AGE_S, age)) if math.isfinite(age) else 0.0


def _ms(length: timedelta) -> int:
    return max(0, min(LONGEST_MS, math.ceil(length.total_seconds() * 1000)))
