"""EdgeModel: what a model is, in every build of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from skerry_operator.api.addresses import ADDRESS, ASCII_ADDRESS, SOURCE_URI
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
from skerry_runtime.contract import (
    MAX_FILES,
    MAX_KEYS,
    EncryptionFormat,
    FilePath,
    Format,
    GoldenMetric,
    KeyName,
    Open,
    PublicKeyText,
)

Uri = Annotated[
    str, StringConstraints(pattern=f"^{ADDRESS}$", min_length=8, max_length=2048), PLAIN, SOURCE_URI
]
"""Address of a file; credentials in it are refused, they would end up in logs and status."""


FileUri = Annotated[
    str, StringConstraints(pattern=f"^{ASCII_ADDRESS}$", min_length=8, max_length=2048)
]
"""The same in the characters that RFC 3986 has: a pattern costs the API server nothing, and the
rule for plain text would, in a list within a list."""

InputName = Annotated[str, StringConstraints(min_length=1, max_length=256), PLAIN]
Axis = Annotated[int, Field(ge=1, le=2**31 - 1)]
Shape = Annotated[tuple[Axis, ...], Field(max_length=8)]


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


class SourceSecret(KubeModel):
    """Names a Secret with credentials. The pods mount it; the operator never reads it."""

    name: SecretName
    """Name of the Secret, in the namespace of the EdgeDeployment."""


class Source(KubeModel):
    """Where a file is and what its bytes must hash to."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!self.uri.startsWith('s3://') || has(self.secretRef)",
            "an s3:// source needs secretRef: the Secret says which endpoint and keys to use",
        ),
    )

    uri: Uri
    """Address: https (or http), s3, oci, hf or pvc (docs/models.md). Pods fetch it; the
    operator never opens it."""
    sha256: Sha256
    """sha256 of the file in lower-case hex (`sha256sum FILE`)."""
    secret_ref: SourceSecret | None = None
    """Secret with what the source wants to see. It is shown only to hosts that the Secret itself
    names; docs/models.md lists its keys."""


class SourceFile(KubeModel):
    """A file that lies beside the one that the engine opens."""

    path: FilePath
    """Its place beside that file, as it names it: relative, no part begins with a dot."""
    uri: FileUri
    """Address, as that of the source, whose secretRef counts here too; any other character than
    RFC 3986 has is written as %XX."""
    sha256: Sha256
    """sha256 of the file in lower-case hex."""


class ModelSource(Source):
    """The file that an engine opens, and those that it needs beside it."""

    files: Annotated[tuple[SourceFile, ...], Field(max_length=MAX_FILES - 1)] = ()
    """The model's other files: external data of an ONNX model, for example. All lie in one folder,
    and nothing outside of it is opened."""


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
            "size(self.metadata.name) <= 63",
            "metadata.name must have at most 63 characters: clients ask for the model by it",
        ),
    )

    metadata: ObjectMeta
    spec: EdgeModelSpec
    status: EdgeModelStatus = EdgeModelStatus()
