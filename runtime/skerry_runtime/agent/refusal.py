"""Why an action of the agent did not succeed.

AgentError
├── Refused     definitive: the revision is not tried again until something changes
│   ├── Hung    its load has no end, and goes on in this process
│   └── OutOfRoom  its trial ran out of memory
├── Wedged      failed beside a load that hangs, which may be the only reason
├── Transient   what is asked, the source or an engine, may answer later
└── Corrupt     a file on disk is not what it was: fetch it again
"""

from __future__ import annotations

from skerry_runtime.contract import Agreement, ExamResult, FailureReason, clipped


class AgentError(Exception):
    """Base of what an action may raise; the text is fit for /status."""


class Refused(AgentError):  # noqa: N818 (reads as the outcome it is)
    """The revision cannot serve here."""

    def __init__(
        self,
        reason: FailureReason,
        message: str,
        exam: ExamResult | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        super().__init__(clipped(message))
        self.reason = reason
        self.exam = exam
        self.agreement = agreement


class Hung(Refused):
    """A call into the engine had no end; what it holds is held until this process ends."""


class OutOfRoom(Refused):
    """The trial needed more memory than it was given."""

    def __init__(self, message: str, *, is_near: bool) -> None:
        super().__init__(FailureReason.INSUFFICIENT_MEMORY, message)
        self.is_near = is_near
        """It might have had enough with somewhat more."""


class Wedged(AgentError):  # noqa: N818 (reads as the outcome it is)
    """The revision failed beside a call that hangs: no verdict on it, but on the process."""


class Transient(AgentError):  # noqa: N818 (reads as the outcome it is)
    """An action that may succeed later."""

    def __init__(self, message: str, reason: FailureReason = FailureReason.FETCH_FAILED) -> None:
        super().__init__(clipped(message))
        self.reason = reason


class Corrupt(AgentError):  # noqa: N818 (reads as the outcome it is)
    """A file in the slots has other bytes than when it was verified."""
