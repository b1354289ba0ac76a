"""What the agent says of itself: the assigned revision's progress, one log line a phase."""

from __future__ import annotations

import logging

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.state import RefusalRecord
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

    def __init__(self) -> None:
        self._key = ""
        self._name = ""
        self._progress: Progress | None = None

    def enter(self, goal: Goal, phase: SwapPhase, attempt: int) -> None:
        """Begin a phase and log it."""
        before = self._progress if self._key == goal.key else None
        self._key, self._name = goal.key, goal.name
        self._progress = Progress(
            revision=goal.revision,
            phase=phase,
            attempt=attempt,
            fetched_bytes=before.fetched_bytes if before else 0,
            total_bytes=before.total_bytes if before else None,
        )
        log.info("%s: %s", goal.revision, phase, extra={"revision": goal.revision, "phase": phase})

    def bytes_arrived(self, fetched: int, total: int | None) -> None:
        """Note how much of the files is on disk."""
        self._update(fetched_bytes=fetched, total_bytes=total)

    def will_retry(self, message: str, reason: FailureReason) -> None:
        """Note why the attempt waits for its next try."""
        self._update(reason=reason, message=clipped(message))
        extra = {"revision": self._progress.revision if self._progress else None}
        log.warning("%s", message, extra={**extra, "reason": reason})

    def compared(self, agreement: Agreement) -> None:
        """Note how far the shadow is."""
        message = f"{agreement.compared} answers compared, {agreement.agreed} agree"
        self._update(trials={self._name: Trial(agreement=agreement)}, message=message)

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
            trials={
                name: Trial(exam=model.exam, agreement=model.agreement)
                for name, model in served.models.items()
            },
        )
    if refusal:
        return Progress(
            revision=goal.revision,
            phase=SwapPhase.FAILED,
            reason=refusal.failure.reason,
            message=refusal.failure.message,
            attempt=live.attempt if live else 1,
            trials=dict(refusal.trials),
        )
    return live or Progress(
        revision=goal.revision,
        phase=SwapPhase.FETCHING,
        message="waits until the last good revision serves",
    )


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
