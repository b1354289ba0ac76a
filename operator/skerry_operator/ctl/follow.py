"""`skerry status -w`: follows a rollout until it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.constants import ANNOTATION_ABORT, ANNOTATION_UPGRADE, ConditionType, Reason
from skerry_operator.ctl.answer import Answer, Exit
from skerry_operator.ctl.status_view import status_line
from skerry_operator.ctl.story import Story

LOOK_EVERY_S = 1.0
"""Time between two looks."""

_OF_THE_SPEC = frozenset({Reason.MODEL_INVALID, Reason.INVALID_SPEC})
"""Reasons to stall that name no revision."""


@dataclass(frozen=True)
class Following:
    """How long and how often to look."""

    monotonic: Callable[[], float]
    pause: Callable[[float], None]
    """Waits that many seconds."""
    timeout_s: float | None = None
    """None: for ever."""


def outcome(story: Story) -> Exit | None:
    """Return how what the specs ask for ended, or None while it is under way.

    A status that speaks of an older spec, or of the model before it was changed, ends nothing.
    """
    if not story.is_current:
        return None
    if _holds(story.condition(ConditionType.READY)):
        is_wanted = story.wanted in {None, story.status.stable_revision}
        return Exit.OK if is_wanted and not _awaits_upgrade(story) else None
    stalled = story.condition(ConditionType.STALLED)
    is_ours = stalled is not None and _holds(stalled) and _is_of_wanted(story, stalled)
    return Exit.NOT_READY if is_ours else None


def _awaits_upgrade(story: Story) -> bool:
    """Tell whether runtime images are asked for that the operator has not begun with yet."""
    offer = story.status.upgrade
    asked = story.deployment.metadata.annotations.get(ANNOTATION_UPGRADE)
    return offer is not None and asked == offer.image_set


def follow(read: Callable[[], Story], say: Callable[[str], None], watch: Following) -> Answer:
    """Say every change in one line until the rollout ends, or the time is over."""
    end = None if watch.timeout_s is None else watch.monotonic() + watch.timeout_s
    said = ""
    while True:
        story = read()
        line = status_line(story)
        if line != said:
            say(line)
            said = line
        if (code := outcome(story)) is not None:
            return Answer(_verdict(story, code), code)
        if end is not None and watch.monotonic() >= end:
            return Answer(f"still under way after {watch.timeout_s:g} s", Exit.TIMED_OUT)
        watch.pause(LOOK_EVERY_S)


def _holds(condition: Condition | None) -> bool:
    return condition is not None and condition.status is ConditionStatus.TRUE


def _is_of_wanted(story: Story, stalled: Condition) -> bool:
    """Tell whether the stall is about what the specs ask for now."""
    failed = {entry.revision for entry in story.status.failed_revisions}
    is_aborted = story.deployment.metadata.annotations.get(ANNOTATION_ABORT) == story.wanted
    is_stable = story.wanted == story.status.stable_revision  # a unit refuses what is stable
    is_known = story.wanted in failed or story.wanted is None or is_aborted or is_stable
    return is_known or stalled.reason in _OF_THE_SPEC


def _verdict(story: Story, code: Exit) -> str:
    told = ConditionType.READY if code is Exit.OK else ConditionType.STALLED
    condition = story.condition(told)
    message = f"{condition.reason}: {condition.message}" if condition else ""
    return f"{told}=True: {message}".rstrip(": ")
