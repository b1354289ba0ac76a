"""State of the rollout engine: what the status keeps of it, and how it is put right."""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry_operator.api.v1alpha1.edgedeployment_status import (
    EdgeDeploymentStatus,
    FailedRevision,
    HistoryEntry,
    RolloutStatus,
)


@dataclass(frozen=True)
class EngineState:
    """Exactly what is kept in the status between two steps."""

    stable: str | None = None
    """Revision that is known good."""
    target: str | None = None
    """Revision that is being rolled out; equal to stable when there is nothing to do."""
    failed: tuple[FailedRevision, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    rollout: RolloutStatus = field(default_factory=RolloutStatus)

    @classmethod
    def from_status(cls, status: EdgeDeploymentStatus) -> EngineState:
        """Return the state that a status keeps."""
        return cls(
            stable=status.stable_revision,
            target=status.target_revision,
            failed=status.failed_revisions,
            history=status.history,
            rollout=status.rollout,
        )

    def for_status(self, status: EdgeDeploymentStatus) -> EdgeDeploymentStatus:
        """Return the status with this state in it, all else as it was."""
        return status.model_copy(
            update={
                "stable_revision": self.stable,
                "target_revision": self.target,
                "failed_revisions": self.failed,
                "history": self.history,
                "rollout": self.rollout,
            }
        )
