"""Words that the table, the schedule and the ways to a pod share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from skerry_operator.decide.observed import Pod

DeploymentKey = tuple[str, str]
"""Namespace and name of an EdgeDeployment."""
PodKey = tuple[str, str, str]
"""Namespace, name and uid: a pod that is replaced under its name is another one."""

BODY_LIMIT = 64 * 1024
"""Longest body that is read. An honest report has some kilobytes."""


class ReadResult(StrEnum):
    """How a question to a pod ended; also the label of the metric."""

    OK = "ok"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # another HTTP status than 200
    TOO_LARGE = "too_large"
    GARBAGE = "garbage"  # not the contract's document, or numbers that cannot be
    STRANGER = "stranger"  # an answer about another unit or deployment: the address was reused


NONSENSE = frozenset({ReadResult.TOO_LARGE, ReadResult.GARBAGE, ReadResult.STRANGER})
"""Results of a pod that answers, and whose answer is refused: people are told why."""


class ReadError(Exception):
    """A pod's report could not be had."""

    def __init__(self, result: ReadResult, message: str) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, slots=True)
class Question:
    """A pod as it is to be asked. What it says counts for this start and this nudge only."""

    deployment: DeploymentKey
    pod: Pod

    @property
    def key(self) -> PodKey:
        """Return which pod it is."""
        return self.deployment[0], self.pod.name, self.pod.uid

    @property
    def node(self) -> str:
        """Return where the pod runs."""
        return self.pod.node or self.pod.unit

    @property
    def state(self) -> tuple[str, int, str]:
        """Return which start of the pod it is, and what the pod has been told by then."""
        return self.pod.ip, self.pod.restarts, self.pod.nudge


class ReportFetch(Protocol):
    """Gets the bytes of one pod's report."""

    async def __call__(self, question: Question) -> bytes:
        """Return the body, cut off one byte after BODY_LIMIT.

        Raises:
            ReadError: there is none, with the reason.
        """
        ...
