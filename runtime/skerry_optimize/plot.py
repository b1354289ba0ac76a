"""A report as a picture: accuracy against bytes and against time, an SVG without any library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from skerry_optimize.errors import BadPlan
from skerry_optimize.report import JobPhase, Report

WIDE, HIGH = 420, 320
"""Of a panel, in pixels."""
LEGEND = 240
LEFT, BELOW, ABOVE = 64, 44, 96
STYLE = (
    "text{font:12px sans-serif;fill:#222}.axis{stroke:#888}.grid{stroke:#ddd}"
    ".kept{fill:#1f6f8b}.refused{fill:none;stroke:#b5442e;stroke-width:2}.origin{fill:#222}"
)


@dataclass(frozen=True)
class Dot:
    """A build in one panel."""

    number: int
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
    """Return the SVG: two panels with a number for each build that was measured, and its name.

    Raises:
        BadPlan: the report has no exam, so nothing to draw upwards.
    """
    if report.origin.accuracy is None:
        raise BadPlan("the report has no accuracy: a plan with golden makes one that has")
    names = ["origin", *(job.name for job in report.jobs)]
    panels = [
        _moved(0, _panel("bytes, as a share of the origin's", _marks(report, "size_ratio"))),
        _moved(WIDE, _panel("time, as a share of the origin's", _marks(report, "latency_ratio"))),
        _moved(2 * WIDE, _legend(names, report.cpu)),
    ]
    wide, high = 2 * WIDE + LEGEND, max(HIGH, 20 * len(names) + 56)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" '
        f'viewBox="0 0 {wide} {high}" role="img"><title>Builds of '
        f"{escape(report.origin.sha256[:12])}</title><style>{STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _moved(right: int, parts: Iterable[str]) -> str:
    return f'<g transform="translate({right},0)">{"".join(parts)}</g>'


def _marks(report: Report, field: str) -> list[Dot]:
    found = [Dot(0, 1.0, report.origin.accuracy or 0.0, "origin")]
    for number, job in enumerate(report.jobs, 1):
        if job.artifact is not None and job.artifact.accuracy is not None:
            kind = "kept" if job.phase is JobPhase.SUCCEEDED else "refused"
            found.append(Dot(number, getattr(job.artifact, field), job.artifact.accuracy, kind))
    return found


def _panel(title: str, marks: Sequence[Dot]) -> Iterator[str]:
    across = Scale(0, max(one.across for one in marks) * 1.1, LEFT, WIDE - 16)
    up = _accuracies([one.accuracy for one in marks])
    yield f'<text x="{LEFT}" y="20">accuracy against {escape(title)}</text>'
    for tick in up.ticks():
        y = up(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDE - 16}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
    for tick in across.ticks():
        x = across(tick)
        yield f'<text x="{x:.1f}" y="{HIGH - BELOW + 18}" text-anchor="middle">{tick:.2f}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDE - 16}" y1="{up.first}" y2="{up.first}"/>'
    taken: list[tuple[float, float]] = []
    for one in marks:
        x, y = across(one.across), up(one.accuracy)
        taken.append(_free_place(x, y - 8, taken))
        yield f'<circle class="{one.kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        yield (
            f'<text x="{taken[-1][0]:.1f}" y="{taken[-1][1]:.1f}" text-anchor="middle">'
            f"{one.number}</text>"
        )


def _accuracies(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    room = max(high - low, 1e-4) * 0.1
    return Scale(low - room, high + room, HIGH - BELOW, ABOVE)


def _free_place(x: float, y: float, taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return where a number can be read: higher, while another one is in its place."""
    while any(abs(x - other) < 16 and abs(y - up) < 11 for other, up in taken):
        y -= 11
    return x, y


def _legend(names: Sequence[str], cpu: str) -> Iterator[str]:
    for number, name in enumerate(names):
        y = 36 + 20 * number
        yield f'<text x="24" y="{y}" text-anchor="end">{number}</text>'
        yield f'<text x="34" y="{y}">{escape(name)}</text>'
    yield f'<text x="10" y="{36 + 20 * len(names)}">{escape(cpu)}</text>'
