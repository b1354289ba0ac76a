"""What the agent needs from the rest of the runtime, and not a word more."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict

from skerry_runtime.agent.addresses import as_networks
from skerry_runtime.contract import (
    CLAIMS_DIR,
    SOURCES_DIR,
    FailureReason,
    RevisionCounters,
    SwapRecord,
)

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
    sources_dir: Path = Path(SOURCES_DIR)
    """Where the Secrets of sources are, each in a folder of its name."""
    claims_dir: Path = Path(CLAIMS_DIR)
    """Where the volumes of pvc:// sources are, each in a folder of its claim's name."""
    hf_endpoint: str = "https://huggingface.co"
    """What answers for hf:// addresses."""
    https_proxy: str = ""
    """Proxy by which https addresses are asked; empty: directly."""
    no_proxy: str = ""
    """Names and networks that are asked directly all the same, with commas between."""
    ca_bundle: str = ""
    """Certificates, in PEM form, of authorities to believe besides the system's."""
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 30.0
    """A download in which no byte arrives for this long is broken off."""
    trickle_window_s: float = 60.0
    trickle_bytes: int = 64 * 1024
    """A download that brings fewer bytes than this within the window is broken off as well."""
    receive_buffer_bytes: int = 0
    """Most bytes that a connection takes in ahead of its reader; 0: what the system likes."""
    site_wait_s: float = 1800.0
    """How long the site's cache may let a download wait for others; then the source is asked."""
    site_again_s: float = 0.5
    """Between two questions of one that waits."""
    site_shut_s: float = 30.0
    """How often it is asked for a file that waits for a download window."""
    site_keep_s: float = 3600.0
    """How often the cache is asked to keep what is served."""
    site_retry_s: float = 60.0
    """The same after it did not."""
    backoff_min_s: float = 1.0
    backoff_max_s: float = 30.0
    slow_backoff_min_s: float = 30.0
    """Wait after a definitive failure whose reason may pass: a 404, a full disk."""
    slow_backoff_max_s: float = 300.0
    costly_backoff_max_s: float = 3600.0
    """The same while another model serves, where a try costs a download or that model's end."""
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
    """A model that is not open after this long is refused: its driver hangs. A revision or the
    cell's hardware may say another."""
    leftover_s: float = 10.0
    """How long a call that was given up is waited for before the next model is loaded."""
    beside_hung_s: float = 30.0
    """How long the next load may take while that call goes on; then the process begins anew."""
    stall_s: float = 60.0
    """An agent that has not looked at its assignment for this long, and for `drain_s`, is dead."""
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
