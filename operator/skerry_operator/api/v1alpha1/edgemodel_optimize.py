"""`spec.optimize` of an EdgeModel: the builds that are to be made of its variants."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from skerry_operator.api.base import (
    Cel,
    Decimal,
    Duration,
    KubeModel,
    LabelKey,
    LabelValue,
    LongText,
    Name,
    PlainText,
    Quantity,
    Sha256,
)
from skerry_operator.api.bounds import PLAIN, Bound, duration_between, quantity_between
from skerry_operator.api.tolerant import Time, TolerantModel
from skerry_operator.api.v1alpha1.edgemodel_source import (
    InputName,
    Shape,
    Source,
    SourceSecret,
    Uri,
)
from skerry_runtime.contract import BuildPhase, Format, Open

MAX_JOBS = 8
MAX_STEPS = 8

_REPOSITORY = "[a-z0-9]+([._-]+[a-z0-9]+)*"
_STORE = (
    f"^(oci://[A-Za-z0-9.-]+(:[0-9]{{1,5}})?(/{_REPOSITORY})*|"
    "s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*)$"
)
_STORE_RULE = f"self.matches('{_STORE}')"
STORE_URI = Bound(
    _STORE_RULE,
    "write oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX",
    lambda _: True,  # the type's pattern says the same to all readers
    form=_STORE_RULE,
    form_message="no store: write oci://REGISTRY/REPOSITORY, without tag and digest, or "
    "s3://BUCKET/PREFIX",
)
StoreUri = Annotated[
    str, StringConstraints(pattern=_STORE, min_length=8, max_length=1024), STORE_URI
]
"""Where builds are put, each under the namespace and name of its model."""

_SHARE_RULE = "self.matches('^[1-9][0-9]?%$')"
_SHARE = Bound(
    _SHARE_RULE,
    "write 1% to 99%",
    lambda _: True,  # the type's pattern says the same to all readers
    form=_SHARE_RULE,
    form_message='no share of a layer: write "1%" to "99%"',
)
Share = Annotated[str, StringConstraints(pattern="^[1-9][0-9]?%$", max_length=8), _SHARE]
_LIMIT_RULE = "self.matches('^[0-9]{1,9}([.][0-9]{1,18})?$')"
_LIMIT = Bound(
    _LIMIT_RULE,
    'write a number that is not negative, such as "0.01"',
    lambda _: True,  # the type's pattern says the same to all readers
    form=_LIMIT_RULE,
    form_message='no limit: write a number that is not negative, such as "0.01"',
)
Limit = Annotated[
    str, StringConstraints(pattern="^[0-9]{1,9}([.][0-9]{1,18})?$", max_length=32), _LIMIT
]


class Quantization(StrEnum):
    """How numbers are made smaller."""

    STATIC = "Static"
    DYNAMIC = "Dynamic"
    FLOAT16 = "Float16"


class Pruning(StrEnum):
    """What is taken out."""

    MAGNITUDE = "Magnitude"
    STRUCTURED = "Structured"


class ConvertFormat(StrEnum):
    """What a build is written as."""

    ORT = "ORT"
    TFLITE = "TFLite"


class OnBuildFailure(StrEnum):
    """What becomes of the model when a job is Refused or Failed."""

    LEAVE_OUT = "LeaveOut"
    BLOCK = "Block"


class QuantizeStep(KubeModel):
    """8-bit or 16-bit numbers for 32-bit ones."""

    mode: Open[Quantization]
    """Static: 8-bit weights and activations, measured on `data`. Dynamic: 8-bit weights of matrix
    products and recurrent layers. Float16: 16-bit floats inside."""


class PruneStep(KubeModel):
    """Takes weights out."""

    mode: Open[Pruning]
    """Structured: whole channels, with all that belongs to them. Magnitude: single weights become
    zero; the file keeps its size."""
    amount: Share
    """Share of each layer, such as 50%."""


class RecoverStep(KubeModel):
    """Trains what was pruned to answer as its origin does; labels are not needed."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 15
    """Times that all of `data` is gone through."""


class DistilStep(KubeModel):
    """Trains another, smaller model to answer as `from` does (Hinton et al. 2015)."""

    student: Source
    """An ONNX file with the same inputs and outputs; what its weights are does not matter."""
    temperature: Annotated[int, Field(ge=1, le=100)] = 4
    """Softens the answers of classes."""
    alpha: Limit = "1"
    """Weight of the teacher's answers, 0 to 1; the rest is that of labels, which `data` then
    needs."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 60
    """Times that all of `data` is gone through."""


class ConvertStep(KubeModel):
    """Writes the build in another format."""

    format: Open[ConvertFormat]
    """ORT or TFLite."""


class FixShapesStep(KubeModel):
    """Gives dynamic axes a size."""

    inputs: Annotated[Mapping[InputName, Shape], Field(max_length=32)]
    """Input -> its shape."""


class OptimizeStep(KubeModel):
    """One step: exactly one of its fields is set."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "[has(self.quantize), has(self.prune), has(self.recover), has(self.distil), "
            "has(self.convert), has(self.fixShapes)].filter(one, one).size() == 1",
            "a step is exactly one of quantize, prune, recover, distil, convert and fixShapes",
        ),
    )

    quantize: QuantizeStep | None = None
    """8-bit or 16-bit numbers."""
    prune: PruneStep | None = None
    """Takes weights out."""
    recover: RecoverStep | None = None
    """Trains what was pruned to answer as its origin does."""
    distil: DistilStep | None = None
    """Trains a smaller model; only as the first step."""
    convert: ConvertStep | None = None
    """Writes the build in another format."""
    fix_shapes: FixShapesStep | None = None
    """Gives dynamic axes a size."""


class OptimizeJob(KubeModel):
    """One build that is wanted."""

    name: Name
    """Name of the job, and of the variant that it makes."""
    from_: Annotated[Name, Field(alias="from")]
    """Variant that the build is made of; of a distillation the teacher."""
    steps: Annotated[tuple[OptimizeStep, ...], Field(min_length=1, max_length=MAX_STEPS)]
    """What is done to it, in order."""
    on_failure: Open[OnBuildFailure] = OnBuildFailure.LEAVE_OUT
    """What happens when the job is Refused or Failed. LeaveOut: the model goes without this build.
    Block: EdgeDeployments keep what they have."""
    runs_on: Annotated[tuple[PlainText, ...], Field(max_length=32)] = ()
    """Profile names or classes (npu, gpu, cpu) that the build can run on; empty: whatever its
    format allows. Where several builds fit, the first job's is taken, before all variants."""


class OptimizeGuards(KubeModel):
    """Limits against what a build was made from; what is absent is measured and judges nothing."""

    max_accuracy_drop: Limit | None = None
    """How much worse a build may be in the golden exam: of Accuracy 0.01 is one in a hundred."""
    max_size_ratio: Limit | None = None
    """Largest share of the origin's bytes."""
    max_latency_ratio: Limit | None = None
    """Longest time, as a multiple of the origin's on the Job's CPU; it speaks of no other hardware.
    Refused when it is above in every round."""


class OptimizeStore(KubeModel):
    """Where builds are put, and how they are got at."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!self.uri.startsWith('s3://') || (has(self.pushSecretRef) && has(self.pullSecretRef))",
            "an s3:// store needs pushSecretRef and pullSecretRef: the Secrets say which endpoint "
            "and keys to use",
        ),
    )

    uri: StoreUri
    """oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX; results lie below it, under
    NAMESPACE/MODEL. Skerry deletes nothing there."""
    push_secret_ref: SourceSecret | None = None
    """Secret by which a Job may write there; model pods never mount it."""
    pull_secret_ref: SourceSecret | None = None
    """Secret by which model pods may read there."""


class OptimizeData(KubeModel):
    """What a model sees: for calibration and training."""

    source: Source
    """An .npz file: one array per model input, a row for each sample, and `labels` if there are
    any. Never the golden file."""


_CPU = quantity_between("1m", "1024")
_MEMORY = quantity_between("64Mi", "64Ti")


class OptimizeResources(KubeModel):
    """CPU, memory and disk of a Job."""

    cpu_request: Annotated[Quantity, _CPU] | None = None
    """Requested CPU; default: 1."""
    cpu_limit: Annotated[Quantity, _CPU] | None = None
    """CPU limit; default: none."""
    memory_request: Annotated[Quantity, _MEMORY] | None = None
    """Requested memory; default: 512Mi."""
    memory_limit: Annotated[Quantity, _MEMORY] | None = None
    """Memory limit; default: 2Gi."""
    disk_limit: Annotated[Quantity, quantity_between("16Mi", "64Ti")] | None = None
    """Limit of the files that it works on; default: 4Gi."""


class OptimizeSpec(KubeModel):
    """Builds that are to be made, and what they must keep."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.jobs.all(j, self.jobs.exists_one(k, k.name == j.name))",
            "jobs must have different names: each is the name of a variant",
        ),
        Cel(
            "has(self.data) || self.jobs.all(j, j.steps.all(s, !has(s.recover) && !has(s.distil) "
            "&& !(has(s.quantize) && s.quantize.mode == 'Static')))",
            "Static, recover and distil need data: an .npz of inputs, and not the golden file",
        ),
    )

    store: OptimizeStore | None = None
    """Where builds are put; default: the chart value `optimize.store`."""
    data: OptimizeData | None = None
    """What the model sees; needed for Static, recover and distil."""
    jobs: Annotated[tuple[OptimizeJob, ...], Field(min_length=1, max_length=MAX_JOBS)]
    """The builds."""
    guards: OptimizeGuards = OptimizeGuards()
    """What a build must keep; the exam is that of `golden`."""
    retry: Annotated[str, StringConstraints(max_length=64), PLAIN] = ""
    """Any new text makes all builds again."""
    node_selector: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """Labels that the nodes of the Jobs must have, beside those of the chart value
    `optimize.nodeSelector`."""
    resources: OptimizeResources = OptimizeResources()
    """CPU, memory and disk of each Job."""
    active_deadline: Annotated[Duration, duration_between("1m", "168h")] = "2h"
    """Longest time of a job, all tries together."""


class ArtifactOrigin(StrEnum):
    """Where a file of a model comes from."""

    SOURCE = "Source"
    OPTIMIZED = "Optimized"


class BuildJobPhase(StrEnum):
    """Where a job stands."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    REFUSED = "Refused"
    FAILED = "Failed"


class JobStatus(TolerantModel):
    """What became of a job of `spec.optimize`."""

    name: Name
    """Name of the job."""
    phase: Open[BuildJobPhase]
    """Pending, Running, Succeeded, Refused or Failed."""
    message: LongText = ""
    """What a person should know, with the numbers."""
    started_at: Time | None = None
    """When it began."""
    seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long it took."""


class Built(TolerantModel):
    """A job's result, as it is kept in a ControllerRevision."""

    key: Sha256
    """Digest of all that it was made from and judged by."""
    job: Name
    """Name of the job."""
    phase: Open[BuildPhase]
    """Succeeded, Refused or Failed."""
    message: LongText = ""
    """What a person should know, with the numbers."""
    started_at: Time | None = None
    """When the Job began."""
    seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long it took."""
    uri: Uri | None = None
    """Where the build is."""
    sha256: Sha256 | None = None
    """sha256 of the file."""
    format: Open[Format] | None = None
    """File format."""
    pull_secret: SourceSecret | None = None
    """The Secret to fetch it with, as it was named on that day."""
    size_bytes: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Size of the file."""
    accuracy: Decimal | None = None
    """Result in the golden exam."""
    accuracy_drop: Decimal | None = None
    """How much worse that is than its origin's."""
    latency_ratio: Decimal | None = None
    """Time of a run, as a multiple of its origin's on the Job's CPU."""
    peak_memory_bytes: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """Memory that loading and running it took."""
