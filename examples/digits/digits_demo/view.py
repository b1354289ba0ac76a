"""Draws scenes: a live picture on a terminal, a line per change elsewhere."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from digits_demo.report import Report
from digits_demo.scene import Line, NodeRow, RolloutBox, Scene

STORY_LINES = 9
REDRAW_S = 0.25
WHY_LETTERS = 160


class View(Protocol):
    """Shows scenes."""

    def show(self, scene: Scene) -> None:
        """Show what is new."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class LiveView:
    """A picture that is drawn again several times a second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._live.start()
        self._due = 0.0

    def show(self, scene: Scene) -> None:
        """Draw, but not more often than an eye can follow."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + REDRAW_S
            self._live.update(draw(scene), refresh=True)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()


class LineView:
    """One line for each change: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._nodes: dict[str, str] = {}
        self._rollout = ""

    def show(self, scene: Scene) -> None:
        """Print what changed since the last scene."""
        for line in scene.story[self._told :]:
            self._print(line.seconds, line.text)
        self._told = len(scene.story)
        self._show_rollout(scene)
        for row in scene.rows:
            self._show_node(scene.seconds, row)

    def close(self) -> None:
        """Nothing to leave."""

    def _show_rollout(self, scene: Scene) -> None:
        box = scene.rollout
        text = f"rollout {box.phase} {box.step} stable={box.stable} target={box.target}"
        if text != self._rollout:
            self._rollout = text
            self._print(scene.seconds, text)

    def _show_node(self, seconds: float, row: NodeRow) -> None:
        text = f"{row.name} ({profile_name(row)}) serves {row.version}, {row.swap or 'idle'}"
        if self._nodes.get(row.name) != text:
            self._nodes[row.name] = text
            self._print(
                seconds, f"{text}; {row.total.requests} requests, {row.total.failed} failed"
            )

    def _print(self, seconds: float, text: str) -> None:
        self._console.print(
            f"{seconds:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True
        )


def profile_name(row: NodeRow) -> str:
    """Return the profile; simulated ones have the word in their name."""
    return row.profile or "-"


def draw(scene: Scene) -> RenderableType:
    """Return the whole picture."""
    title = Text.assemble((f" {scene.seconds:5.1f} s  ", "dim"), (scene.chapter, "bold"))
    parts: list[RenderableType] = [title, _node_table(scene), _rollout_panel(scene.rollout)]
    if scene.trouble:
        parts.append(Text(scene.trouble, "bold red"))
    return Group(*parts, _story_panel(scene.story))


def _node_table(scene: Scene) -> Table:
    table = Table(expand=True)
    for name in ("NODE", "PROFILE", "SERVES", "REVISION", "SWAP"):
        table.add_column(name, no_wrap=True)
    for name in ("REQ/S", "P95 MS", "REQUESTS", "WRONG", "FAILED"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in scene.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: NodeRow) -> list[RenderableType]:
    return [
        row.name,
        Text(profile_name(row), "yellow" if row.simulated else ""),
        Text(row.version, "bold cyan"),
        row.revision,
        Text(row.swap, "red" if "Failed" in row.swap else "green" if row.swap == "Serving" else ""),
        f"{row.lately.rate:.0f}",
        milliseconds(row.lately.p95_ms),
        str(row.total.requests),
        str(row.total.wrong),
        Text(str(row.total.failed), "bold red" if row.total.failed else "green"),
    ]


def _rollout_panel(box: RolloutBox) -> Panel:
    head = (
        f"[bold]{box.phase}[/]  step {box.step or '-'}   stable {box.stable}   target {box.target}"
    )
    return Panel(Group(head, Text(box.message, "dim")), title="rollout", title_align="left")


def _story_panel(story: tuple[Line, ...]) -> Panel:
    lines = [
        Text(
            f"{line.seconds:6.1f} s  {line.text}",
            "red" if line.warning else "",
            no_wrap=True,
            overflow="ellipsis",
        )
        for line in story[-STORY_LINES:]
    ]
    return Panel(Group(*lines), title="the story so far", title_align="left")


def shorten(text: str) -> str:
    """Cut a long text; the report has all of it."""
    return text if len(text) <= WHY_LETTERS else f"{text[:WHY_LETTERS]}..."


def milliseconds(value: float | None) -> str:
    """Write a latency."""
    return "-" if value is None else f"{value:.1f}"


def summary(report: Report) -> RenderableType:
    """Return the tables at the end."""
    return Group(_summary_nodes(report), _summary_rollouts(report), _summary_numbers(report))


def _summary_nodes(report: Report) -> Table:
    table = Table(title="nodes", title_justify="left")
    for name in ("NODE", "PROFILE", "SERVES", "REQUESTS", "FAILED", "P50 MS", "P95 MS"):
        table.add_column(name)
    for node in report.nodes:
        numbers = (str(node.requests), str(node.failed_requests))
        times = (milliseconds(node.p50_ms), milliseconds(node.p95_ms))
        table.add_row(node.name, node.profile, node.version or "-", *numbers, *times)
    return table


def _summary_rollouts(report: Report) -> Table:
    table = Table(title="rollouts", title_justify="left")
    for name in ("FROM", "TO", "OUTCOME", "SECONDS", "BACK AFTER", "WHY"):
        table.add_column(name)
    for rollout in report.rollouts:
        back = "" if rollout.rollback_seconds is None else f"{rollout.rollback_seconds:.2f} s"
        why = shorten(f"{rollout.reason}: {rollout.message}") if back else rollout.reason
        versions = (rollout.from_version or "-", rollout.to_version)
        table.add_row(*versions, rollout.outcome, f"{rollout.seconds:.1f}", back, why)
    return table


def _summary_numbers(report: Report) -> Text:
    swaps = ", ".join(f"{seconds:.2f}" for seconds in report.swap_seconds) or "none"
    text = Text(
        f"{report.requests} requests, {report.failed_requests} failed, "
        f"{report.wrong_answers} answered with the wrong digit; "
        f"{report.restarts} restarts, {report.replaced_pods} pods replaced; "
        f"swaps took {swaps} s; {report.seconds:.0f} s in all\n"
    )
    for sentence in report.unmet:
        text.append(f"NOT MET: {sentence}\n", "bold red")
    if report.met:
        text.append("Everything that was promised happened.", "bold green")
    return text


def open_view(console: Console) -> View:
    """Return the view that fits where the output goes."""
    return LiveView(console) if console.is_terminal else LineView(console)
