"""What the agent needs from the rest of the runtime, and not a word more."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict

from skerry_runtime.agent.addresses import as_networks
from skerry_runtime.contract import FailureReason, RevisionCounters, SwapRecord

MIB = 1024 * 1024
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(as_networks)]
ENV_PREFIX = "SKERRY_"


class AgentSettings(Protocol):
    """Who this pod is, and where its files are."""

    @property
    def unit(self) -> str:
        """The unit this pod is."""
        ...

    @property
    def assignment_dir(self) -> Path:
        """Folder in which the cell's ConfigMap is mounted."""
        ...

    @property
    def slots_dir(self) -> Path:
        """Folder for model files and the agent's memory."""
        ...

    @property
    def threads(self) -> int:
        """Intra-op threads of a session when the revision names none."""
        ...


class SwapLog(Protocol):
    """Counts how swaps ended."""

    def record_success(self, swap: SwapRecord, /) -> None:
        """Count a completed swap."""
        ...

    def record_failure(self, reason: FailureReason, /) -> None:
        """Count a refused revision."""
        ...


class RevisionLog(Protocol):
    """Counters of requests, kept per revision."""

    @property
    def swaps(self) -> SwapLog:
        """Counts of swaps."""
        ...

    def activate(self, revision: str, /) -> object:
        """Count from now on for this revision."""
        ...

    def counters(self) -> tuple[RevisionCounters, ...]:
        """Return the counters of every revision that served in this process."""
        ...


class Tuning(BaseModel):
    """Times and limits of the agent; each is also `SKERRY_<FIELD>` in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    poll_s: float = 0.1
    """How often the assignment is looked at; a look is two system calls."""
    settle_s: float = 10.0
    """A revision is good after it served this long."""
    drain_s: float = 30.0
    """How long a Sequential swap waits for requests on the old model."""
    fetch_allow: Networks = ()
    """Networks to fetch from that are else out of bounds (loopback, link-local, ...), with commas
    between."""
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 30.0
    """A download in which no byte arrives for this long is broken off."""
    trickle_window_s: float = 60.0
    trickle_bytes: int = 64 * 1024
    """A download that brings fewer bytes than this within the window is broken off as well."""
    backoff_min_s: float = 1.0
    backoff_max_s: float = 30.0
    slow_backoff_min_s: float = 30.0
    """Wait after a definitive failure, while nothing serves and so nothing can be lost."""
    slow_backoff_max_s: float = 300.0
    slots_limit_bytes: int = 0
    """Size limit of the slots' emptyDir; 0 means the free space of the disk alone counts."""
    disk_reserve_bytes: int = 16 * MIB
    """Space that a download never takes."""
    memory_reserve_bytes: int = 16 * MIB
    """Memory that neither a model nor a probe may count on."""
    probe_timeout_s: float = 60.0
    probe_cpu_s: int = 0
    """CPU time of the probe, which no neighbour uses up; 0: the timeout, on every thread."""
    probe_memory_bytes: int = 0
    """Memory limit of the probe; 0 means what the pod has left."""
    load_timeout_s: float = 300.0
    """A model that is not open after this long is refused: its driver hangs."""
    leftover_s: float = 10.0
    """How long a call that was given up is waited for before the next model is loaded."""
    exam_timeout_s: float = 300.0
    """A model that has not answered its exam after this long did not pass it."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Tuning:
        """Read the fields that the environment sets.

        Raises:
            pydantic.ValidationError: a value is no number.
        """
        named = {field: environ.get(ENV_PREFIX + field.upper()) for field in cls.model_fields}
        return cls.model_validate({field: text for field, text in named.items() if text})
