"""What the agent says of itself: the assigned revision's progress, one log line a phase."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.pace import SHUT
from skerry_runtime.agent.state import RefusalRecord
from skerry_runtime.clock import unix_now
from skerry_runtime.contract import (
    Agreement,
    FailureReason,
    Progress,
    Served,
    SwapPhase,
    SwapRecord,
    Trial,
    clipped,
)

log = logging.getLogger("skerry_runtime.agent")


class Tracker:
    """Keeps the progress of the goal under way."""

    def __init__(
        self,
        wall: Callable[[], float] = unix_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._key = ""
        self._name = ""
        self._progress: Progress | None = None
        self._began: tuple[float, int] | None = None
        """When the download under way began, and how much was on disk by then."""
        self._most = 0

    def enter(self, goal: Goal, phase: SwapPhase, attempt: int) -> None:
        """Begin a phase and log it."""
        before = self._progress if self._key == goal.key else None
        self._began = None
        self._most = self._most if before else 0
        self._key, self._name = goal.key, goal.name
        self._progress = Progress(
            revision=goal.revision,
            phase=phase,
            retry=goal.retry,
            attempt=attempt,
            fetched_bytes=before.fetched_bytes if before else 0,
            total_bytes=before.total_bytes if before else None,
            trials=before.trials if before else {},
            moved_at=before.moved_at if before else None,
            bytes_per_s=before.bytes_per_s if before else None,
        )
        log.info("%s: %s", goal.revision, phase, extra={"revision": goal.revision, "phase": phase})

    def bytes_arrived(self, fetched: int, total: int | None) -> None:
        """Note how much of the files is on disk.

        A source that sends the same bytes again and again moves nothing.
        """
        now = self._monotonic()
        self._began = self._began or (now, fetched)
        since, held = self._began
        changes: dict[str, object] = {"fetched_bytes": fetched, "total_bytes": total}
        if fetched > self._most and fetched > held:
            changes["moved_at"] = self._wall()
        self._most = max(self._most, fetched)
        if now > since and fetched > held:
            changes["bytes_per_s"] = (fetched - held) / (now - since)
        self._update(**changes)

    def will_retry(self, message: str, reason: FailureReason) -> None:
        """Note why the attempt waits for its next try."""
        self._update(reason=reason, message=clipped(message))
        extra = {"revision": self._progress.revision if self._progress else None}
        log.warning("%s", message, extra={**extra, "reason": reason})

    def compared(self, agreement: Agreement) -> None:
        """Note how far the shadow is."""
        message = f"{agreement.compared} answers compared, {agreement.agreed} agree"
        self._found(agreement=agreement)
        self._update(message=message)

    def tried(self, found: Trial) -> None:
        """Note what the trial in a child found."""
        self._found(memory=found.memory, not_tried=found.not_tried, signed_by=found.signed_by)

    def _found(self, **facts: object) -> None:
        before = self._progress.trials.get(self._name, Trial()) if self._progress else Trial()
        self._update(trials={self._name: before.model_copy(update=facts)})

    def of(self, goal: Goal) -> Progress | None:
        """Return the progress of this goal."""
        return self._progress if self._key == goal.key else None

    def _update(self, **changes: object) -> None:
        if self._progress:
            self._progress = self._progress.model_copy(update=changes)


def progress_of(
    goal: Goal, served: Served | None, refusal: RefusalRecord | None, live: Progress | None
) -> Progress:
    """Return how far the pod is with the assigned revision.

    Args:
        goal: the assigned revision.
        served: who answers, when it is the goal.
        refusal: why the goal is refused, when it is not under way again.
        live: progress of the goal, when it is or was under way.
    """
    if served:
        return Progress(
            revision=goal.revision,
            phase=SwapPhase.SERVING,
            retry=goal.retry,
            trials={
                name: Trial(**{field: getattr(model, field) for field in Trial.model_fields})
                for name, model in served.models.items()
            },
        )
    if refusal:
        return Progress(
            revision=goal.revision,
            phase=SwapPhase.FAILED,
            reason=refusal.failure.reason,
            message=refusal.failure.message,
            retry=goal.retry,
            attempt=live.attempt if live else 1,
            trials=dict(refusal.trials),
        )
    return live or Progress(
        revision=goal.revision,
        phase=SwapPhase.FETCHING,
        retry=goal.retry,
        message="waits until the last good revision serves",
    )


def waiting_for_window(progress: Progress) -> Progress:
    """Return the progress of a revision whose files are not to be fetched now."""
    if progress.phase is not SwapPhase.FETCHING:
        return progress
    return progress.model_copy(update={"message": SHUT, "reason": None})


def log_switch(record: SwapRecord) -> None:
    """Log a completed swap."""
    log.info(
        "%s: Serving after %.0f ms (%s, %.0f ms without a model)",
        record.to_revision,
        record.total_ms,
        record.mode,
        record.outage_ms,
        extra={
            "revision": record.to_revision,
            "from_revision": record.from_revision,
            "phase": SwapPhase.SERVING,
            "total_ms": record.total_ms,
            "outage_ms": record.outage_ms,
        },
    )


def log_refusal(goal: Goal, reason: FailureReason, message: str) -> None:
    """Log a revision that was refused."""
    log.error(
        "%s: Failed: %s: %s",
        goal.revision,
        reason,
        message,
        extra={"revision": goal.revision, "phase": SwapPhase.FAILED, "reason": reason},
    )
