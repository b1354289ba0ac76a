"""What the terminal shows at one moment, free of how it is drawn."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from digits_demo.kube import Event
from digits_demo.report import is_simulated
from digits_demo.samples import NodeCounts, Tally
from digits_demo.watch import NodeView, Snapshot


@dataclass(frozen=True)
class NodeRow:
    """One line of the node table."""

    name: str
    profile: str
    simulated: bool
    version: str
    revision: str
    swap: str
    total: NodeCounts
    lately: NodeCounts


@dataclass(frozen=True)
class RolloutBox:
    """Where the rollout stands."""

    phase: str = "Pending"
    step: str = ""
    stable: str = ""
    target: str = ""
    message: str = ""


@dataclass(frozen=True)
class Line:
    """One line of the story."""

    seconds: float
    """Since the demo began."""
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything on the screen."""

    chapter: str
    seconds: float
    rows: tuple[NodeRow, ...]
    rollout: RolloutBox
    story: tuple[Line, ...]
    trouble: str = ""


class Story:
    """What happened so far: the driver's chapters and Kubernetes' events."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._known: set[str] = set()
        self._lines: list[Line] = []
        self.chapter = ""

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._begin

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines, oldest first."""
        return tuple(self._lines)

    def open_chapter(self, text: str) -> None:
        """Begin a part of the story."""
        self.chapter = text
        self.say(text)

    def say(self, text: str, *, warning: bool = False) -> None:
        """Add a line."""
        self._lines.append(Line(self.seconds, text, warning))

    def note_events(self, events: Sequence[Event], versions: Mapping[str, str]) -> None:
        """Add the events that are new."""
        for event in events:
            if event.uid not in self._known:
                self._known.add(event.uid)
                text = f"{event.object} {event.reason}: {event.message}"
                self.say(named(text, versions), warning=event.warning)


def named(text: str, versions: Mapping[str, str]) -> str:
    """Put the model's version behind each revision in a text.

    >>> named("ab12 replaces cd34", {"ab12": "2.0.0", "cd34": "1.0.0"})
    'ab12 (2.0.0) replaces cd34 (1.0.0)'
    """
    if not versions:
        return text
    pattern = "|".join(re.escape(revision) for revision in sorted(versions, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda m: f"{m[0]} ({versions[m[0]]})", text)


def compose(snapshot: Snapshot, tally: Tally, story: Story, versions: Mapping[str, str]) -> Scene:
    """Make a scene of what is known now."""
    now = time.time()
    return Scene(
        chapter=story.chapter,
        seconds=story.seconds,
        rows=tuple(_row(node, tally, now) for node in snapshot.nodes),
        rollout=_rollout(snapshot, versions),
        story=story.lines,
        trouble=snapshot.trouble,
    )


def _row(node: NodeView, tally: Tally, now: float) -> NodeRow:
    return NodeRow(
        name=node.name,
        profile=node.profile,
        simulated=is_simulated(node.profile),
        version=node.version or "-",
        revision=node.serves or "-",
        swap=node.swap,
        total=tally.of(node.name),
        lately=tally.lately(node.name, now),
    )


def _rollout(snapshot: Snapshot, versions: Mapping[str, str]) -> RolloutBox:
    if snapshot.deployment is None:
        return RolloutBox()
    status = snapshot.deployment.status
    return RolloutBox(
        phase=str(status.phase or "Pending"),
        step=status.step or "",
        stable=named(status.stable_revision or "none yet", versions),
        target=named(status.target_revision or "", versions),
        message=named(status.rollout.message or "", versions),
    )
