"""A report as a picture: accuracy against bytes and against time, an SVG without any library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from skerry_optimize.errors import BadPlan
from skerry_optimize.report import JobPhase, Report

WIDE, HIGH = 420, 320
"""Of a panel, in pixels."""
LEFT, BELOW, ABOVE = 64, 44, 36
STYLE = (
    "text{font:12px sans-serif;fill:#222}.axis{stroke:#888}.grid{stroke:#ddd}"
    ".kept{fill:#1f6f8b}.refused{fill:none;stroke:#b5442e;stroke-width:2}.origin{fill:#222}"
)


@dataclass(frozen=True)
class Mark:
    """A build in one panel."""

    name: str
    across: float
    accuracy: float
    kind: str
    """origin, kept or refused: a class of the style."""


@dataclass(frozen=True)
class Scale:
    """From a range of numbers to pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Return where a number lies."""
        share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Return five numbers to write at the axis."""
        return [self.low + (self.high - self.low) * n / 4 for n in range(5)]


def picture(report: Report) -> str:
    """Return the SVG: two panels, a mark for each build that was measured.

    Raises:
        BadPlan: the report has no exam, so nothing to draw upwards.
    """
    if report.origin.accuracy is None:
        raise BadPlan("the report has no accuracy: a plan with golden makes one that has")
    panels = (
        ("bytes, of origin's", list(_marks(report, "size_ratio"))),
        (f"time, of origin's, on {report.cpu}", list(_marks(report, "latency_ratio"))),
    )
    body = "".join(
        f'<g transform="translate({n * WIDE},0)">{"".join(_panel(title, marks))}</g>'
        for n, (title, marks) in enumerate(panels)
    )
    title = f"<title>Builds of {escape(report.origin.sha256[:12])}</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDE}" height="{HIGH}" '
        f'viewBox="0 0 {2 * WIDE} {HIGH}" role="img">{title}<style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n'
    )


def _marks(report: Report, field: str) -> Iterator[Mark]:
    yield Mark("origin", 1.0, report.origin.accuracy or 0.0, "origin")
    for job in report.jobs:
        if job.artifact is not None and job.artifact.accuracy is not None:
            kind = "kept" if job.phase is JobPhase.SUCCEEDED else "refused"
            yield Mark(job.name, getattr(job.artifact, field), job.artifact.accuracy, kind)


def _panel(title: str, marks: Sequence[Mark]) -> Iterator[str]:
    across = Scale(0, max(one.across for one in marks) * 1.15, LEFT, WIDE - 16)
    up = _accuracies([one.accuracy for one in marks])
    yield f'<text x="{LEFT}" y="20">accuracy against {escape(title)}</text>'
    for tick in up.ticks():
        y = up(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDE - 16}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
    for tick in across.ticks():
        x = across(tick)
        yield f'<text x="{x:.1f}" y="{HIGH - BELOW + 18}" text-anchor="middle">{tick:.2f}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDE - 16}" y1="{up.first}" y2="{up.first}"/>'
    yield from (_mark(one, across(one.across), up(one.accuracy)) for one in marks)


def _accuracies(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    room = max(high - low, 1e-6) * 0.1
    return Scale(low - room, high + room, HIGH - BELOW, ABOVE)


def _mark(mark: Mark, x: float, y: float) -> str:
    turned = x > WIDE * 0.7
    anchor, beside = ("end", x - 8) if turned else ("start", x + 8)
    return (
        f'<circle class="{mark.kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        f'<text x="{beside:.1f}" y="{y - 5:.1f}" text-anchor="{anchor}">{escape(mark.name)}</text>'
    )
