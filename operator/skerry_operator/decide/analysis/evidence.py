"""What an analysis looks at: the units of both revisions, their reports, and what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from skerry_operator.api.tolerant import EPOCH
from skerry_operator.api.v1alpha1.edgedeployment_status import Baseline, Measured
from skerry_operator.decide.observed import Marks, Sample
from skerry_operator.decide.reported import UnitReport


@dataclass(frozen=True)
class Evidence:
    """All numbers of one look, and whom they speak of."""

    target: str
    """The revision that is judged."""
    reports: Mapping[str, UnitReport]
    """Unit -> what its pod reported; a unit that did not answer is absent."""
    cell_of: Mapping[str, str]
    """Unit -> its cell."""
    units: frozenset[str]
    """Reachable units that were given the target; each of their cells is judged."""
    stable: str | None = None
    """The revision it is compared with; None on a first deployment."""
    stable_units: frozenset[str] = frozenset()
    """Reachable units that still have stable."""
    baseline: tuple[Baseline, ...] = ()
    """What was recorded of stable before its units were taken."""
    samples: Mapping[str, Sample] = field(default_factory=dict)
    """Prometheus query, as it is written in the spec -> its latest answer."""
    measured: tuple[Measured, ...] | None = None
    """Measurements of the rollout so far; None: none is under way, so that none are counted."""
    marks: Mapping[tuple[str, str], Marks] = field(default_factory=dict)
    """(metric with its limit, cell) -> what was counted at its last measurement."""
    now: datetime = EPOCH
    interval_s: float = 10.0
    """Time from one measurement to the next."""
    step_began: datetime | None = None

    def of_target(self, cell: str) -> list[UnitReport]:
        """Return what the cell's units with the target reported, in order of their names."""
        return self._of(cell, self.units)

    def of_stable(self, cell: str) -> list[UnitReport]:
        """Return what the cell's units with stable reported, in order of their names."""
        return self._of(cell, self.stable_units)

    def _of(self, cell: str, units: frozenset[str]) -> list[UnitReport]:
        reports, cell_of = self.reports, self.cell_of
        return [
            reports[unit] for unit in sorted(units) if cell_of[unit] == cell and unit in reports
        ]
