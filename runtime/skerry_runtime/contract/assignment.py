"""The assignment: what the operator writes to the pods of a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from skerry_runtime.contract.base import (
    MAX_COUNT,
    ContractModel,
    Line,
    Name,
    Open,
    RevisionName,
    Sha256,
    Uri,
)
from skerry_runtime.contract.words import BatchingMode, Format, GoldenMetric, SwapMode

SCHEMA = 2
"""Version of both documents; raised only when an old reader would misread a new one."""

MAX_ASSIGNMENT_BYTES = 1024 * 1024
"""Largest assignment file: a ConfigMap holds no more."""

MAX_UNITS = 10_000
MAX_REVISIONS = 64
MAX_MODELS = 8
"""Most models that one revision serves in a pod."""
MAX_FILES = 64
"""Most files of one model."""

ModelName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=63)
]
"""Name under which clients ask for a model."""
_PART = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
FilePath = Annotated[str, StringConstraints(pattern=f"^{_PART}(/{_PART})*$", max_length=255)]
"""Place of a file in its model's folder: relative, no part begins with a dot."""
ShortText = Annotated[str, StringConstraints(max_length=1024)]
InputName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Axis = Annotated[int, Field(ge=1, le=2**31 - 1)]
Shape = Annotated[tuple[Axis, ...], Field(max_length=8)]


class Batching(ContractModel):
    """How requests share a run."""

    max_size: int = Field(ge=2, le=1024)
    """Most rows of one run, all its requests together."""
    max_delay_s: float = Field(default=0.0, ge=0.0, le=1.0)
    """How long a request may wait for company while a thread is free to run it."""
    mode: Open[BatchingMode] = BatchingMode.AUTO


class Artifact(ContractModel):
    """One file that a pod fetches."""

    uri: Uri
    sha256: Sha256


class ModelFile(Artifact):
    """One file of a model."""

    path: FilePath
    """Where it lies in the model's folder, beside the model's other files."""


class GoldenExam(Artifact):
    """The exam: an .npz with one array per model input, and `labels` or `expected`."""

    metric: Open[GoldenMetric]
    threshold: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    """Decimal text: a minimum, or for MaxAbsError a maximum."""


def _differ(files: tuple[ModelFile, ...]) -> tuple[ModelFile, ...]:
    if len({file.path for file in files}) != len(files):
        raise ValueError("two files have one path")
    return files


class ModelContent(ContractModel):
    """One model of a revision, in the variant that the cell was given."""

    version: Line
    variant: Name
    format: Open[Format]
    files: Annotated[
        tuple[ModelFile, ...], Field(min_length=1, max_length=MAX_FILES), AfterValidator(_differ)
    ]
    """The first is the one that an engine opens; the others lie beside it."""
    memory_bytes: Annotated[int, Field(ge=0, le=MAX_COUNT)] | None = None
    """What it needs when loaded; estimated from the files when absent."""
    input_shapes: Annotated[dict[InputName, Shape], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Input -> the shape that its dynamic axes are fixed to; empty: they stay as they are."""
    golden: GoldenExam | None = None
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Intra-op threads of a session; None lets the runtime choose from its CPU limit."""
    batching: Batching | None = None
    """None: every request has a run of its own."""


class Shadow(ContractModel):
    """How a prepared model is compared with the serving one before it takes over."""

    samples: int = Field(ge=1, le=MAX_COUNT)
    """Answers to compare."""
    timeout_s: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    """Longest time to wait for them; without traffic there are none."""
    threshold: float = Field(ge=0, le=1)
    """Smallest share of equal answers; below it, with all samples there, the model is refused."""


class RevisionContent(ContractModel):
    """Everything a pod must know to serve one revision."""

    models: Annotated[dict[ModelName, ModelContent], Field(min_length=1, max_length=MAX_MODELS)]
    """Name under which clients ask for a model -> the model. They change together."""
    swap: Open[SwapMode] = SwapMode.AUTO
    retry: Annotated[str, StringConstraints(max_length=256)] = ""
    """Opaque text; a revision that failed here is tried again when it changes."""
    shadow: Shadow | None = None
    """Set while the revision is on trial beside another: it answers in the shadow first."""

    @property
    def name(self) -> str:
        """Name of the only model there is today, or of the first."""
        return next(iter(self.models))

    @property
    def model(self) -> ModelContent:
        """The only model there is today, or the first."""
        return self.models[self.name]

    @property
    def version(self) -> str:
        """Version of `model`."""
        return self.model.version


class Execution(ContractModel):
    """Where the cell's sessions run."""

    profile: Name
    providers: Annotated[tuple[Name, ...], Field(max_length=16)] = ("CPUExecutionProvider",)
    """ONNX Runtime execution providers, in order of preference."""
    provider_options: Annotated[
        dict[Name, Annotated[dict[Name, ShortText], Field(max_length=64)]], Field(max_length=16)
    ] = Field(default_factory=dict)
    """Provider -> its options."""
    static_shapes: bool = False
    """True: a model with an axis that is still dynamic is refused: the hardware cannot run it."""
    fallback: bool = True
    """False: a session that leaves a node to the CPU is refused, unless the CPU comes first."""


class _Frame(ContractModel):
    """Which unit has which revision."""

    schema_: int = Field(default=SCHEMA, alias="schema", ge=0, le=MAX_COUNT)
    deployment: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    """namespace/name of the EdgeDeployment."""
    cell: Name
    execution: Execution
    default: RevisionName | None = None
    """Revision of every unit without an entry; None: such units serve nothing."""
    units: Annotated[dict[Name, RevisionName], Field(max_length=MAX_UNITS)] = Field(
        default_factory=dict
    )

    def revision_of(self, unit: str) -> str | None:
        """Return the revision that the unit must serve, or None for nothing."""
        return self.units.get(unit, self.default)


class Assignment(_Frame):
    """Unit -> revision for one cell: a default, exceptions, and each revision's content."""

    revisions: Annotated[dict[RevisionName, RevisionContent], Field(max_length=MAX_REVISIONS)] = (
        Field(default_factory=dict)
    )


class Envelope(_Frame):
    """An assignment of which no revision is read yet: a unit reads its own and no other."""

    revisions: Annotated[Mapping[str, Any], Field(max_length=MAX_REVISIONS)] = Field(
        default_factory=dict
    )

    def content_of(self, revision: str) -> RevisionContent:
        """Read one revision.

        Raises:
            KeyError: it is not described.
            pydantic.ValidationError: it cannot be read.
        """
        return RevisionContent.model_validate(self.revisions[revision])
