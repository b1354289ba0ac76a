"""EdgeModel: what a model is, in every build of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from skerry_operator.api.base import (
    Cel,
    Condition,
    Decimal,
    KubeModel,
    Name,
    ObjectMeta,
    PlainText,
    Quantity,
    Sha256,
)
from skerry_operator.api.bounds import PLAIN, quantity_between
from skerry_operator.api.tolerant import TolerantModel
from skerry_runtime.contract import Format, GoldenMetric, Open

Uri = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s@]+$", min_length=8, max_length=2048), PLAIN
]
"""Address of a file; credentials in it are refused, they would end up in logs and status."""


InputName = Annotated[str, StringConstraints(min_length=1, max_length=256), PLAIN]
Axis = Annotated[int, Field(ge=1, le=2**31 - 1)]
Shape = Annotated[tuple[Axis, ...], Field(max_length=8)]


class Precision(StrEnum):
    """Number format of a model's weights."""

    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"
    MIXED = "Mixed"


class Source(KubeModel):
    """Where a file is and what its bytes must hash to."""

    uri: Uri
    """Address, http or https. Pods fetch it; the operator never opens it."""
    sha256: Sha256
    """sha256 of the file in lower-case hex (`sha256sum FILE`)."""


class Variant(KubeModel):
    """One file of the model."""

    name: Name
    """Name of the variant, unique in the model."""
    format: Open[Format]
    """File format."""
    precision: Open[Precision] = Precision.FP32
    """Precision of the weights."""
    runs_on: Annotated[tuple[PlainText, ...], Field(max_length=32)] = ()
    """Profile names or classes (npu, gpu, cpu) it can run on; empty: whatever the format allows."""
    source: Source
    """The file."""
    memory: Annotated[Quantity, quantity_between("1", "64Ti")] | None = None
    """What it needs when loaded; estimated from the file when absent."""
    input_shapes: Annotated[Mapping[InputName, Shape], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """Input -> its shape: fixes dynamic axes, where an accelerator wants static shapes."""


class Golden(KubeModel):
    """The exam that every copy must pass before it serves."""

    source: Source
    """An .npz file: one array per model input, and `labels` or `expected`."""
    metric: Open[GoldenMetric] = GoldenMetric.ACCURACY
    """How the answers are scored."""
    threshold: Decimal
    """Minimum score; for MaxAbsError the maximum."""


class EdgeModelSpec(KubeModel):
    """A model: its version, its files and its exam."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.variants.all(v, self.variants.exists_one(w, w.name == v.name))",
            "variants must have different names",
        ),
    )

    version: Annotated[str, StringConstraints(min_length=1, max_length=64), PLAIN]
    """Version for people; printed everywhere."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=16)]
    """Builds of the model; within a cell the first that fits is taken."""
    golden: Golden | None = None
    """Exam for every copy; recommended."""


class ArtifactStatus(TolerantModel):
    """A file that the model offers."""

    variant: Name
    """Variant it belongs to."""
    format: Format
    """File format."""
    precision: Precision
    """Precision of the weights."""
    sha256: Sha256
    """sha256 of the file."""
    uri: Uri
    """Address of the file."""
    origin: Literal["Source"] = "Source"
    """Where the file comes from."""


class EdgeModelStatus(TolerantModel):
    """What the operator found about the model."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Ready: the spec can be used by EdgeDeployments."""
    artifacts: Annotated[tuple[ArtifactStatus, ...], Field(max_length=32)] = ()
    """The files of the model."""


class EdgeModel(KubeModel):
    """A model with all its builds."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && "
            "size(self.metadata.name) <= 63",
            "metadata.name must be at most 63 lower-case letters, digits and '-', as in modelRef",
        ),
    )

    metadata: ObjectMeta
    spec: EdgeModelSpec
    status: EdgeModelStatus = EdgeModelStatus()
