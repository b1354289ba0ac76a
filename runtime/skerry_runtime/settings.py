"""What a runtime process is told at its start: environment, then flags, then never again."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from skerry_runtime.contract import (
    ADMIN_PORT,
    ASSIGNMENT_DIR,
    SLOTS_DIR,
    BatchingMode,
    Engine,
    ModelName,
)

ENV_PREFIX = "SKERRY_"
"""A field `http_port` is read from `SKERRY_HTTP_PORT`: the contract's names fit this rule."""

MIB = 1024 * 1024

Port = Annotated[int, Field(ge=0, le=65535)]  # 0 lets the system choose: tests


_ORIGIN = re.compile(
    r"https?://[a-z0-9.\-]{1,253}(:[0-9]{1,5})?|https?://\[[0-9a-f:.]{2,45}\](:[0-9]{1,5})?"
)


def _origins(text: str) -> str:
    for origin in text.split(",") if text else ():
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin[:64]!r} is no origin: write for example https://shop.example, or *"
            )
    return text


CorsOrigins = Annotated[str, Field(max_length=4096), AfterValidator(_origins)]


def usable_cpus() -> int:
    """Return the whole CPUs this process may use: affinity cut by the container's quota."""
    cpus = len(os.sched_getaffinity(0))
    quota = cgroup_cpu_quota(Path("/sys/fs/cgroup"))
    return max(1, cpus if quota is None else min(cpus, round(quota)))


def cgroup_cpu_quota(root: Path) -> float | None:
    """Return the CPU limit of the cgroup mounted at `root` (version 2 or 1), None without one."""
    try:
        words = (root / "cpu.max").read_text().split()
    except OSError:
        words = _quota_of_version_1(root / "cpu")
    if len(words) != 2 or not words[0].isdecimal() or not words[1].isdecimal():
        return None  # "max", -1, or something unknown
    return int(words[0]) / int(words[1]) if int(words[1]) else None


def _quota_of_version_1(folder: Path) -> list[str]:
    """Return quota and period of a version 1 controller as words."""
    try:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        return [(folder / name).read_text().strip() for name in names]
    except OSError:
        return []


class GrpcServer(StrEnum):
    """Whose HTTP/2 the gRPC port speaks."""

    GRPCIO = "grpcio"
    HTTP2 = "http2"


class RuntimeSettings(BaseModel):
    """Frozen settings of one process."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )

    unit: str = Field(default_factory=socket.gethostname)
    """Unit of the assignment file that this pod is."""
    model_name: ModelName = "model"
    """With --model: name under which clients ask for it; else the assignment says it."""
    host: str = "0.0.0.0"
    """Address that all three servers bind."""
    http_port: Port = 8080
    """Port of the REST protocol."""
    grpc_port: Port = 8081
    """Port of the gRPC protocol."""
    admin_port: Port = ADMIN_PORT
    """Port of /status, /metrics, /healthz and /readyz."""
    assignment_dir: Path = Path(ASSIGNMENT_DIR)
    """Folder with the mounted assignment file."""
    slots_dir: Path = Path(SLOTS_DIR)
    """Folder for model files."""
    engine: Engine | None = None
    """What runs the models: ONNXRuntime, LiteRT or Triton; default: the file's format decides
    between the first two."""
    threads: int = Field(default=1, ge=1, le=256)
    """Intra-op threads of a session when the revision names none: one, because requests side by
    side use several cores better than one request does."""
    workers: int = Field(default_factory=usable_cpus, ge=1, le=256)
    """Models too slow for the event loop run in this many threads; the CPU limit by default."""
    batch_max_size: int = Field(default=1, ge=1, le=1024)
    """With --model: most rows that share a run; 1 means none. A revision brings its own."""
    batch_mode: BatchingMode = BatchingMode.AUTO
    """With --model: whether they do (Auto, On, Off)."""
    queue_limit: int = Field(default=128, ge=1, le=100_000)
    """Inferences that may run or wait in threads; more are answered with Overloaded."""
    max_sequences: int = Field(default=64, ge=1, le=100_000)
    """Sequences that may be open at one time, of a model that keeps a state."""
    sequence_idle_s: float = Field(default=60.0, gt=0)
    """A sequence without a request for so long is forgotten."""
    max_body_bytes: int = Field(default=64 * MIB, ge=1024)
    """Largest request: a REST body (also after decompression) or a gRPC message."""
    max_buffered_bytes: int = Field(default=256 * MIB, ge=1024)
    """REST bodies that may be in memory at one time, all connections together; and apart from
    them gRPC messages that have no answer yet."""
    max_header_bytes: int = Field(default=16 * 1024, ge=1024)
    """Largest request line and headers together."""
    max_connections: int = Field(default=1024, ge=1)
    """REST connections and, apart from them, gRPC connections and concurrent gRPC calls; whoever
    comes when there are so many takes the place of an idle one."""
    max_admin_connections: int = Field(default=128, ge=4)
    """Connections of the admin port; beyond, the longest idle one of who has most is ended."""
    max_admin_connections_each: int = Field(default=16, ge=2)
    """Of them from one address; beyond, its own longest idle one is ended."""
    admin_timeout_s: float = Field(default=5.0, gt=0)
    """Time for a client of the admin port to send its request, and to take the answer."""
    admin_keep_alive_s: float = Field(default=20.0, gt=0)
    """A connection of the admin port without requests is ended after this time."""
    keep_alive_s: float = Field(default=75.0, gt=0)
    """A REST or gRPC connection without requests is ended after this time."""
    max_dimensions: int = Field(default=16, ge=1, le=32)
    """Most axes of a tensor."""
    max_tensors: int = Field(default=64, ge=1)
    """Most inputs, and most requested outputs, of one request, where the model has no more."""
    read_timeout_s: float = Field(default=30.0, gt=0)
    """Time for a client to send its headers, again for its body, and again to take its answer;
    body and answer have as long again while they move at min_rate_bytes."""
    min_rate_bytes: int = Field(default=64 * 1024, ge=1)
    """Bytes per second that a body or an answer must keep up beyond read_timeout_s."""
    handshake_timeout_s: float = Field(default=10.0, gt=0)
    """Time for a client to agree on TLS, REST and gRPC."""
    max_handshakes: int = Field(default=128, ge=1)
    """TLS handshakes under way on the REST port; beyond, the oldest is ended."""
    token_dir: Path | None = None
    """Folder with bearer tokens; with it no request but a health check is answered without one."""
    tls_dir: Path | None = None
    """Folder with tls.crt and tls.key; with it REST and gRPC speak TLS only."""
    secrets_poll_s: float = Field(default=5.0, gt=0)
    """How often both folders are read again."""
    grpc_server: GrpcServer = GrpcServer.GRPCIO
    """What speaks gRPC: grpcio, or http2, our own HTTP/2, which costs a fraction of the time a
    call and is on trial."""
    reflection: bool = False
    """Whether gRPC reflection tells tools such as grpcurl what there is to call."""
    cors_origins: CorsOrigins = ""
    """Origins whose pages may ask over REST, with commas between them, or *; none by default."""
    grace_s: float = Field(default=20.0, ge=0)
    """Time after SIGTERM in which requests in flight may end."""
    linger_s: float = Field(default=2.0, ge=0)
    """Of the grace: time in which new requests are still taken, because the cluster hears of
    the lost readiness later than the process does."""
    access_log: bool = False
    """Whether each request is a line in the log, with its trace."""
    log_level: str = "INFO"
    """Least severity that is logged."""


def settings_from(environ: Mapping[str, str], flags: Mapping[str, object]) -> RuntimeSettings:
    """Build settings; a flag that is not None wins over the environment.

    Raises:
        pydantic.ValidationError: a value is out of its range or not of its type.
    """
    named = {
        field: environ.get(ENV_PREFIX + field.upper()) for field in RuntimeSettings.model_fields
    }
    given = {field: text for field, text in named.items() if text}
    given_flags = {field: value for field, value in flags.items() if value is not None}
    return RuntimeSettings.model_validate({**given, **given_flags})
