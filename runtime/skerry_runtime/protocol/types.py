"""What both transports hand to the data plane and get back from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skerry_runtime.protocol.tensors import Array

NO_LOADING = "clients load no models here: change the EdgeDeployment or its EdgeModel"
NO_SHARED_MEMORY = "the shared memory extension is not offered; send tensors as binary data"


@dataclass(slots=True)  # not frozen: that would triple the cost of making one
class Tensor:
    """A named tensor. BYTES are object arrays of bytes, BF16 are 16-bit words."""

    name: str
    datatype: str
    array: Array


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """Which sequence a request belongs to, and whether it is its first or last."""

    id: int | str
    starts: bool
    ends: bool


@dataclass(slots=True)  # not frozen: that would triple the cost of making one
class InferRequest:
    """One inference."""

    model: str
    version: str | None
    """The version (or revision) that the client insists on; None takes what serves."""
    inputs: Sequence[Tensor]
    outputs: tuple[str, ...] | None
    """Names in the order wanted; None means all in the model's order."""
    id: str
    received: float
    """Monotonic seconds at which the request had arrived; latency counts from here."""
    sequence: SequenceStep | None = None
    """For models that keep a state; others pay it no heed."""


@dataclass(slots=True)  # not frozen: that would triple the cost of making one
class InferResponse:
    """The answer of one revision."""

    model: str
    version: str
    revision: str
    id: str
    outputs: list[Tensor]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model; -1 is a dynamic axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    any_shape: bool = False
    """The model declares no shape; `shape` is only one that it takes."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a client may know of the serving model."""

    name: str
    version: str
    revision: str
    platform: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """Runs with so many rows, since the model was loaded."""

    rows: int
    runs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BatchingInfo:
    """Whether requests share runs, why, and the run times per input that were measured."""

    is_on: bool
    mode: str
    reason: str
    alone_us: float | None = None
    batched_us: float | None = None


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """Requests of the serving revision since it was activated."""

    name: str
    version: str
    """What was asked for, else a number: tools that were made for Triton know no other."""
    served_version: str
    last_inference_s: int
    """Unix time of the last request; 0: none yet."""
    successes: int
    success_ns: int
    failures: int
    runs: int
    """Of the engine: fewer than requests when they are batched."""
    waits: int
    wait_ns: int
    """Requests that waited for a thread, and how long together."""
    batches: tuple[BatchInfo, ...]
    batching: BatchingInfo


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One model of the repository."""

    name: str
    version: str
    state: str
    reason: str
