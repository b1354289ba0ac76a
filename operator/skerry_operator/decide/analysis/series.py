"""A metric that is measured again and again: every interval, of what came since.

The counts are in the status, so that a restarted operator goes on with them; what pods had counted
at the last measurement is not, so that it begins that one anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgedeployment_analysis import Metric
from skerry_operator.api.v1alpha1.edgedeployment_status import Measured
from skerry_operator.decide.analysis.evidence import Evidence
from skerry_operator.decide.analysis.window import Window, remembered
from skerry_operator.decide.facts import Assessment, Verdict
from skerry_operator.decide.observed import Marks
from skerry_operator.decide.reported import UnitReport

MESSAGE_LIMIT = 1024
ALMOST = 0.9
"""Share of an interval after which a measurement is due: a look is never quite on time."""


@dataclass(frozen=True)
class Measuring:
    """What became of a metric in a cell at one look."""

    result: Assessment
    measured: Measured | None
    """None: nothing was measured yet."""
    marks: Marks


def take(
    metric: Metric, cell: str, evidence: Evidence, judge: Callable[[Evidence], Assessment]
) -> Measuring:
    """Measure a metric in a cell, empty: by a query, once more if that is due.

    `judge` returns the result of one measurement; one that was taken has values.
    """
    before = _known(metric, cell, evidence)
    window = Window(
        evidence.target,
        evidence.now,
        _marks(metric, cell, evidence, before),
        before.at if before else None,
        _delay_s(metric),
    )
    if _is_too_early(metric, evidence):
        return Measuring(_too_early(metric), before, window.moved(()))
    reports = _reports(cell, evidence)
    asked_at = _asked_at(metric, evidence)
    new = {report.unit: report for report in window.since(reports)}
    found = judge(replace(evidence, reports={**evidence.reports, **new}))
    is_due = before is None or _is_due(before, evidence)
    is_news = asked_at is None or window.marks is None or asked_at != window.marks.asked_at
    if not (is_due and is_news):
        return Measuring(_verdict(metric, evidence, before, found), before, window.moved(reports))
    after = _counted(metric, cell, evidence, before, found)
    is_taken = bool(found.values)
    marks = window.taken(reports, asked_at) if is_taken else window.moved(reports)
    if not is_taken and after is not before:  # an error: the counters stay where they were
        marks = replace(marks, at=evidence.now, asked_at=asked_at, before=window.marks)
    return Measuring(_verdict(metric, evidence, after, found), after, marks)


def _known(metric: Metric, cell: str, evidence: Evidence) -> Measured | None:
    found = evidence.measured or ()
    return next((one for one in found if (one.metric, one.cell) == (metric.label, cell)), None)


def _marks(metric: Metric, cell: str, evidence: Evidence, before: Measured | None) -> Marks | None:
    at = before.at if before else None
    return remembered(evidence.marks, (metric.label, cell), evidence.target, at)


def _delay_s(metric: Metric) -> float:
    return duration_s(metric.initial_delay) if metric.initial_delay else 0.0


def _reports(cell: str, evidence: Evidence) -> list[UnitReport]:
    return [*evidence.of_target(cell), *evidence.of_stable(cell)] if cell else []


def _asked_at(metric: Metric, evidence: Evidence) -> float | None:
    sample = evidence.samples.get(metric.prometheus.query) if metric.prometheus else None
    return sample.asked_at if sample else None


def _is_due(before: Measured, evidence: Evidence) -> bool:
    age_s = (evidence.now - before.at).total_seconds()
    return age_s >= ALMOST * evidence.interval_s or age_s < 0


def _is_too_early(metric: Metric, evidence: Evidence) -> bool:
    """Tell whether a query is not looked at yet; of a pod's numbers, each unit has its own time."""
    if metric.prometheus is None or evidence.step_began is None:
        return False
    return (evidence.now - evidence.step_began).total_seconds() < _delay_s(metric)


def _too_early(metric: Metric) -> Assessment:
    text = f"{metric.name} is looked at {metric.initial_delay} after the step began"
    return Assessment(Verdict.RUNNING, text, metric.name, no_data=True)


def _counted(
    metric: Metric, cell: str, evidence: Evidence, before: Measured | None, found: Assessment
) -> Measured | None:
    """Return the counts after a measurement; the same when there was none."""
    known = before or Measured(metric=metric.label, cell=cell)
    changes: dict[str, object] = {"at": evidence.now, "message": found.message[:MESSAGE_LIMIT]}
    if found.values:
        is_good = found.verdict is Verdict.SUCCESSFUL
        changes |= {"taken": known.taken + 1, "errors": 0, "is_good": is_good}
        changes["failed"] = known.failed + (not is_good)
    elif found.verdict is Verdict.ERROR:
        changes["errors"] = known.errors + 1
    else:
        return before
    return known.model_copy(update=changes)


def _verdict(  # noqa: PLR0911 (a ladder)
    metric: Metric, evidence: Evidence, after: Measured | None, found: Assessment
) -> Assessment:
    """Return what all measurements together say."""
    tolerated, errors = metric.failure_limit or 0, metric.consecutive_error_limit
    if after is None:
        return found
    tally = (
        f"{after.failed} of {after.taken} measurements are beyond the limit, {tolerated} tolerated"
    )
    result = replace(found, metric=metric.name, no_data=False)
    if after.failed > tolerated:
        return replace(result, verdict=Verdict.FAILED, message=f"{after.message}; {tally}")
    if errors is not None and after.errors > errors:
        text = f"{after.errors} measurements in succession could not be taken, {errors} tolerated"
        return replace(result, verdict=Verdict.FAILED, message=f"{after.message}; {text}")
    if found.verdict in {Verdict.ERROR, Verdict.INCONCLUSIVE}:
        return found
    if after.errors:
        return replace(result, verdict=Verdict.RUNNING, message=after.message)
    if not _is_of_this_step(after, evidence):
        return found if not found.values else _not_due(result)
    verdict = Verdict.SUCCESSFUL if after.is_good else Verdict.RUNNING
    return replace(result, verdict=verdict, message=f"{after.message}; {tally}")


def _not_due(result: Assessment) -> Assessment:
    text = f"{result.metric} was not measured in this step yet"
    return replace(result, verdict=Verdict.RUNNING, message=text, no_data=True)


def _is_of_this_step(after: Measured, evidence: Evidence) -> bool:
    """Tell whether there was a measurement since the units of the step were given the target."""
    return after.taken > 0 and (evidence.step_began is None or after.at >= evidence.step_began)
