"""Draws what happened: who served what when, what was decided, and what the clients felt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits_demo.samples import Sample, percentile
from digits_demo.watch import Band

TIMELINE_FILE = "timeline.png"
WINDOW_S = 1.0
COLOURS = ("#7a8fa6", "#2a9d5c", "#c0392b", "#e08e0b", "#8e5bb5", "#3b6fd4")
"""One per version, in the order in which they were applied; readable beside each other."""
LETTERS_PER_WIDTH = 165
"""How many letters of a mark's name fit side by side."""
LEVEL_POINTS = 12
NODE_STYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Mark:
    """A moment with a name."""

    at: float
    text: str
    colour: str = "#333333"


@dataclass(frozen=True)
class Story:
    """All that is drawn."""

    bands: tuple[Band, ...]
    marks: tuple[Mark, ...]
    samples: tuple[Sample, ...]
    nodes: Mapping[str, str]
    """Profile of each node."""
    versions: tuple[str, ...]
    """In the order in which they were applied."""
    latency_limit_ms: float | None = None

    @property
    def start(self) -> float:
        """Where the time axis begins."""
        return min([m.at for m in self.marks] + [b.start for b in self.bands], default=0.0)

    @property
    def end(self) -> float:
        """Where the time axis ends."""
        return max([m.at for m in self.marks] + [b.end for b in self.bands], default=1.0)

    def colour(self, version: str) -> str:
        """Return the colour of a version."""
        place = self.versions.index(version) if version in self.versions else -1
        return COLOURS[place % len(COLOURS)]


def windows(samples: Sequence[Sample], start: float) -> dict[int, list[Sample]]:
    """Group samples by the second in which they were sent."""
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(int((sample.at - start) // WINDOW_S), []).append(sample)
    return dict(sorted(groups.items()))


def draw(story: Story, folder: Path) -> Path:
    """Write the picture."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second; only the end of the demo needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TIMELINE_FILE
    figure, axes = plt.subplots(
        3, 1, sharex=True, figsize=(14, 8.5), height_ratios=[3, 3, 2], layout="constrained"
    )
    figure.suptitle("Skerry: four versions of a model on three nodes, under traffic", fontsize=14)
    _draw_bands(axes[0], story)
    _draw_latency(axes[1], story)
    _draw_requests(axes[2], story)
    for axis in axes:
        _draw_marks(axis, story)
    _name_marks(axes[0], story)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _draw_bands(axis: Any, story: Story) -> None:
    names = sorted(story.nodes)
    for band in story.bands:
        begin, length = band.start - story.start, band.end - band.start
        row = names.index(band.node)
        axis.barh(row, length, left=begin, height=0.6, color=story.colour(band.version))
    axis.set_yticks(range(len(names)), [f"{name}\n{story.nodes[name]}" for name in names])
    axis.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axis.set_title("version that serves on each node", loc="left", fontsize=10, pad=60)
    axis.legend(handles=_version_patches(story), loc="upper left", bbox_to_anchor=(1, 1))


def _version_patches(story: Story) -> list[Any]:
    from matplotlib.patches import Patch  # noqa: PLC0415

    served = {band.version for band in story.bands}
    return [
        Patch(
            color=story.colour(version),
            label=version if version in served else f"{version} (never served)",
        )
        for version in story.versions
    ]


def _draw_latency(axis: Any, story: Story) -> None:
    for index, name in enumerate(sorted(story.nodes)):
        groups = windows([s for s in story.samples if s.node == name], story.start)
        values = [percentile([s.latency_ms for s in group], 0.95) for group in groups.values()]
        style = NODE_STYLES[index % len(NODE_STYLES)]
        axis.plot(list(groups), values, style, drawstyle="steps-post", label=name, linewidth=1.4)
    if story.latency_limit_ms:
        axis.axhline(story.latency_limit_ms, color="#c0392b", linewidth=0.8)
        axis.annotate(
            f"limit {story.latency_limit_ms:.0f} ms",
            (0, story.latency_limit_ms),
            xytext=(4, 3),
            textcoords="offset points",
            color="#c0392b",
            fontsize=8,
        )
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(visible=True, axis="y", alpha=0.3)
    axis.set_ylabel("p95 of each second, ms")
    axis.set_title("latency at the clients", loc="left", fontsize=10)
    if story.nodes:
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _draw_requests(axis: Any, story: Story) -> None:
    groups = windows(story.samples, story.start)
    good = [sum(s.error is None for s in group) for group in groups.values()]
    failed = [sum(s.error is not None for s in group) for group in groups.values()]
    wrong = [sum(s.error is None and not s.right for s in group) for group in groups.values()]
    seconds = list(groups)
    axis.bar(seconds, good, width=1, align="edge", color="#b8c4d0", label="answered")
    axis.bar(seconds, wrong, width=1, align="edge", color="#e08e0b", label="wrong digit")
    axis.bar(seconds, failed, width=1, align="edge", color="#c0392b", label="failed", bottom=good)
    axis.set_ylabel("requests per second")
    axis.set_xlabel("seconds")
    axis.set_xlim(0, story.end - story.start)
    total = sum(failed)
    title = f"requests, all nodes: {sum(good) + total}, of which {total} failed"
    axis.set_title(title, loc="left", fontsize=10)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _draw_marks(axis: Any, story: Story) -> None:
    for mark in story.marks:
        axis.axvline(mark.at - story.start, color=mark.colour, linewidth=1, linestyle=(0, (4, 2)))


def _name_marks(axis: Any, story: Story) -> None:
    """Write the marks' names above the bands, as many levels high as neighbours need."""
    marks = sorted(story.marks, key=lambda mark: mark.at)
    seconds_per_letter = (story.end - story.start) / LETTERS_PER_WIDTH
    levels = stack([mark.at for mark in marks], [len(m.text) * seconds_per_letter for m in marks])
    for mark, level in zip(marks, levels, strict=True):
        axis.annotate(
            mark.text,
            (mark.at - story.start, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 5 + LEVEL_POINTS * level),
            textcoords="offset points",
            color=mark.colour,
            fontsize=8,
            annotation_clip=False,
        )


def stack(starts: Sequence[float], widths: Sequence[float]) -> list[int]:
    """Give each text the lowest level on which it overlaps no text before it.

    >>> stack([0, 1, 2, 10], [5, 5, 5, 5])
    [0, 1, 2, 0]
    """
    ends: list[float] = []
    levels = []
    for start, width in zip(starts, widths, strict=True):
        free = [level for level, end in enumerate(ends) if end <= start]
        level = free[0] if free else len(ends)
        ends[level : level + 1] = [start + width]
        levels.append(level)
    return levels
