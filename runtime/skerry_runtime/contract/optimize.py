"""What the operator asks of a build's Job, and what the Job says of it in its last words.

The order comes as a file; the verdict goes as the pod's termination message, of which Kubernetes
keeps 4096 bytes. Whoever reads a verdict takes it for something that any pod may have written.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from skerry_runtime.contract.base import (
    ContractModel,
    Count,
    Name,
    Open,
    Sha256,
    Span,
    Text,
    Uri,
)
from skerry_runtime.contract.words import Format, GoldenMetric

MAX_VERDICT_BYTES = 4096
"""As much as the kubelet keeps of a termination message."""
BUILD_TRANSIENT = 75
"""Exit status (EX_TEMPFAIL of sysexits.h) of a try whose cause may pass: it is tried again."""
BUILD_ORDER_DIR = "/etc/skerry-optimize"
BUILD_ORDER_FILE = "order.json"
BUILD_WORK_DIR = "/work"

ShortWord = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Difference = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
StepContent = Annotated[dict[ShortWord, Any], Field(max_length=4)]


class BuildPhase(StrEnum):
    """How a job ended."""

    SUCCEEDED = "Succeeded"
    REFUSED = "Refused"  # the build breaks a guard, or a step cannot be done with this model
    FAILED = "Failed"  # it could not be tried: a file, the store or the time was missing


class OrderedFile(ContractModel):
    """A file that the job fetches."""

    uri: Uri
    sha256: Sha256
    secret: Name | None = None
    """The Secret of its source, mounted as pods have it."""


class OrderedExam(OrderedFile):
    """The golden file."""

    metric: Open[GoldenMetric] = GoldenMetric.ACCURACY


class OrderedStore(ContractModel):
    """Where the result goes."""

    uri: Uri
    """Of the model's own place in the store: oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX."""
    secret: Name | None = None


class BuildOrder(ContractModel):
    """One job of an EdgeModel."""

    job: ShortWord
    key: Sha256
    """Digest of all that decides the build: by it the store knows what was made already."""
    origin: OrderedFile
    """The ONNX file that the build is made of; of a distillation the teacher."""
    student: OrderedFile | None = None
    data: OrderedFile | None = None
    golden: OrderedExam | None = None
    steps: Annotated[tuple[StepContent, ...], Field(min_length=1, max_length=8)]
    """As a plan has them (docs/optimise.md)."""
    guards: Annotated[dict[ShortWord, ShortWord], Field(max_length=8)] = Field(default_factory=dict)
    store: OrderedStore


class BuildWorth(ContractModel):
    """What the build is worth beside its origin."""

    size_bytes: Count
    size_ratio: Span
    accuracy: Difference | None = None
    """Result in the golden exam; None: there is none."""
    accuracy_drop: Difference | None = None
    latency_us: Span | None = None
    latency_ratio: Span | None = None
    peak_memory_bytes: Count | None = None
    cpu: ShortWord | None = None
    """Name of the CPU that the times are of."""


class StoredBuild(ContractModel):
    """A build in the store."""

    uri: Uri
    """Names these bytes for ever."""
    sha256: Sha256
    format: Open[Format]


class BuildVerdict(ContractModel):
    """What became of an order."""

    key: Sha256
    """Of the order."""
    phase: Open[BuildPhase]
    message: Text = ""
    seconds: Span = 0.0
    build: StoredBuild | None = None
    """Only of one that succeeded."""
    worth: BuildWorth | None = None
    was_stored: bool = False
    """It was made before, and taken from the store."""
