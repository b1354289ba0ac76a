"""What reconcile.py needs of a source of pods' reports; tests put their own in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from skerry_operator.decide.observed import Pod
from skerry_runtime.contract import StatusReport


class ReadResult(StrEnum):
    """How a read of a pod's /status ended; also the label of the metric."""

    OK = "ok"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # another HTTP status than 200
    TOO_LARGE = "too_large"
    GARBAGE = "garbage"  # not the contract's document
    STRANGER = "stranger"  # an answer about another unit or deployment: the address was reused


class ReadError(Exception):
    """A pod's /status could not be had."""

    def __init__(self, result: ReadResult, message: str) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class PodAddress:
    """One pod to ask."""

    namespace: str
    deployment: str
    pod: Pod


class StatusSource(Protocol):
    """Reads pods' reports. Idempotent: asking changes nothing in the pod."""

    async def read(self, pods: Sequence[PodAddress]) -> Mapping[str, StatusReport]:
        """Return unit -> report of every pod that answered in time; never raises for a pod."""
        ...


class Fetch(Protocol):
    """Gets the bytes of one pod's /status."""

    async def __call__(self, address: PodAddress) -> bytes:
        """Return the body.

        Raises:
            ReadError: there is none, with the reason.
        """
        ...
