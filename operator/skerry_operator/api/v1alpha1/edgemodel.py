"""EdgeModel: what a model is, in every build of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

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
    SecretName,
    Sha256,
)
from skerry_operator.api.bounds import PLAIN, quantity_between
from skerry_operator.api.tolerant import TolerantModel
from skerry_operator.api.v1alpha1.edgemodel_optimize import (
    MAX_JOBS,
    ArtifactOrigin,
    JobStatus,
    OptimizeSpec,
)
from skerry_operator.api.v1alpha1.edgemodel_source import (
    FileUri,
    InputName,
    ModelSource,
    Shape,
    Source,
    Uri,
)
from skerry_runtime.contract import (
    MAX_KEYS,
    EncryptionFormat,
    Format,
    GoldenMetric,
    KeyName,
    Open,
    PublicKeyText,
)

_PATHS = {
    Format.ONNX: "model.onnx",
    Format.ORT: "model.ort",
    Format.TFLITE: "model.tflite",
}
_OTHER_PATH = "model.bin"
"""Of a format that only the vendor's own image reads."""


class Precision(StrEnum):
    """Number format of a model's weights."""

    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"
    MIXED = "Mixed"


class SignatureSpec(KubeModel):
    """Who has to vouch for a build of the model."""

    public_keys: Annotated[tuple[PublicKeyText, ...], Field(min_length=1, max_length=MAX_KEYS)]
    """Keys as PEM, of P-256, P-384, P-521 or Ed25519. One of them has to have signed exactly these
    files. Several keys: one takes the place of another without a gap. In a namespace with a policy
    (chart value `policy.signatures`) those of the policy count instead."""
    uri: FileUri | None = None
    """Where the signature bundle is; default: the source's address with `.sig` after the file's
    name, for oci what refers to the artefact in its registry. The source's secretRef counts here
    too."""
    sha256: Sha256 | None = None
    """sha256 of the bundle. With it the bundle is kept like the model's files, on the nodes' disks
    and in a site's cache, and a pod that is made anew needs no source to be sure of its model."""


class DecryptionKey(KubeModel):
    """Names an entry of a Secret. The pods mount it; the operator never reads it."""

    name: SecretName
    """Name of the Secret, in the namespace of the EdgeDeployment."""
    key: KeyName = "identity"
    """The entry with the key: an identity file, as age-keygen writes it."""


class EncryptionSpec(KubeModel):
    """How the file is encrypted. What it holds is decrypted in the pod's memory alone."""

    format: Open[EncryptionFormat] = EncryptionFormat.AGE
    """Only age is known (age-encryption.org), for X25519 recipients."""
    key_ref: DecryptionKey
    """Where the pods find the key."""


class Variant(KubeModel):
    """One build of the model."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.encryption) || !has(self.source.files) || size(self.source.files) == 0",
            "an encrypted model has one file: pack its weights into it, or leave encryption out",
        ),
        Cel(
            "!has(self.signature) || !has(self.signature.sha256) || has(self.signature.uri) || "
            "!self.source.uri.startsWith('oci://')",
            "signature.sha256 is that of a file: name it with signature.uri as well",
        ),
    )

    name: Name
    """Name of the variant, unique in the model."""
    format: Open[Format]
    """File format."""
    precision: Open[Precision] = Precision.FP32
    """Precision of the weights."""
    runs_on: Annotated[tuple[PlainText, ...], Field(max_length=32)] = ()
    """Profile names or classes (npu, gpu, cpu) it can run on; empty: whatever the format allows."""
    source: ModelSource
    """The file, and those beside it."""
    memory: Annotated[Quantity, quantity_between("1", "64Ti")] | None = None
    """What it needs when loaded; measured in its trial when absent."""
    input_shapes: Annotated[Mapping[InputName, Shape], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """Input -> its shape: fixes dynamic axes, where an accelerator wants static shapes."""
    signature: SignatureSpec | None = None
    """Who has to vouch for the files; absent: nobody, unless the namespace has a policy."""
    encryption: EncryptionSpec | None = None
    """How the file is encrypted; absent: it is not. The source's sha256 is then that of the
    encrypted file, and a signature vouches for what it holds."""

    @property
    def path(self) -> str:
        """Name of the file that the engine opens, in the folder of the model's files."""
        return _PATHS.get(self.format, _OTHER_PATH)


class Golden(KubeModel):
    """The exam that every copy must pass before it serves."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.metric) || !(self.metric in ['MeanIoU', 'SequenceAgreement']) || "
            "(double(self.threshold) >= 0.0 && double(self.threshold) <= 1.0)",
            'MeanIoU and SequenceAgreement are shares: write a threshold of 0 to 1, such as "0.9"',
        ),
    )

    source: Source
    """An .npz file: one array per model input, and `labels` or `expected`; its forms stand in
    docs/exam.md."""
    metric: Open[GoldenMetric] = GoldenMetric.ACCURACY
    """How the answers are scored; docs/exam.md defines each metric. MeanIoU and SequenceAgreement
    need pods with a runtime that knows them; an older one refuses the model as InvalidExam."""
    threshold: Decimal
    """Minimum score, a share from 0 to 1; for MaxAbsError the maximum, 0 or more."""


class EdgeModelSpec(KubeModel):
    """A model: its version, its files and its exam."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.variants.all(v, self.variants.exists_one(w, w.name == v.name))",
            "variants must have different names",
        ),
        Cel(
            "!has(self.optimize) || self.optimize.jobs.all(j, !self.variants.exists(v, "
            "v.name == j.name))",
            "optimize.jobs: each is the name of a new variant: choose one that none has",
        ),
        Cel(
            "!has(self.optimize) || self.optimize.jobs.all(j, self.variants.exists(v, "
            "v.name == j.from && v.format == 'ONNX'))",
            "optimize.jobs: from must name a variant of format ONNX",
        ),
        Cel(
            "!has(self.optimize) || size(self.variants) + size(self.optimize.jobs) <= 16",
            "a model has at most 16 builds: variants and optimize.jobs together",
        ),
        Cel(
            "!has(self.optimize) || !has(self.optimize.guards) || "
            "!has(self.optimize.guards.maxAccuracyDrop) || has(self.golden)",
            "optimize.guards.maxAccuracyDrop needs golden: nothing says what is right",
        ),
        Cel(
            "!has(self.optimize) || !has(self.optimize.data) || !has(self.golden) || "
            "self.optimize.data.source.sha256 != self.golden.source.sha256",
            "optimize.data and golden are one file: an exam that was learnt proves nothing",
        ),
    )

    version: Annotated[str, StringConstraints(min_length=1, max_length=64), PLAIN]
    """Version for people; printed everywhere."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=16)]
    """Builds of the model; within a cell the first that fits is taken."""
    golden: Golden | None = None
    """Exam for every copy; recommended."""
    optimize: OptimizeSpec | None = None
    """Smaller builds that are to be made of the variants; docs/optimise.md. It is no part of a
    revision: what was made is."""


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
    origin: Open[ArtifactOrigin] = ArtifactOrigin.SOURCE
    """Where the file comes from: Source, or Optimized."""
    job: Name | None = None
    """Job that made it."""
    size_bytes: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Size of what a job made."""
    accuracy: Decimal | None = None
    """Its result in the golden exam."""
    accuracy_drop: Decimal | None = None
    """How much worse that is than its origin's."""
    latency_ratio: Decimal | None = None
    """Time of a run, as a multiple of its origin's on the Job's CPU."""
    peak_memory_bytes: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Memory that loading and running it took."""


class EdgeModelStatus(TolerantModel):
    """What the operator found about the model."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Ready: the spec can be used by EdgeDeployments."""
    artifacts: Annotated[tuple[ArtifactStatus, ...], Field(max_length=32)] = ()
    """The files of the model."""
    jobs: Annotated[tuple[JobStatus, ...], Field(max_length=MAX_JOBS)] = ()
    """What became of the jobs of `spec.optimize`."""


class EdgeModel(KubeModel):
    """A model with all its builds."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "size(self.metadata.name) <= 63",
            "metadata.name must have at most 63 characters: clients ask for the model by it",
        ),
    )

    metadata: ObjectMeta
    spec: EdgeModelSpec
    status: EdgeModelStatus = EdgeModelStatus()
