"""What the operator writes to a pod and what a pod reports back.

The only module that both sides import. Pure data: pydantic models, enums, constants.
Readers ignore unknown fields, so an older pod survives a newer operator and the reverse.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

SCHEMA = 1
"""Version of both documents; raised only when an old reader would misread a new one."""

ASSIGNMENT_FILE = "assignment.json"
"""Key of the cell's ConfigMap, and so the file's name in the mounted folder."""

ASSIGNMENT_DIR = "/etc/skerry"
"""Where the cell's ConfigMap is mounted."""

SLOTS_DIR = "/var/lib/skerry"
"""Where the pod keeps model files (an emptyDir: it outlives containers, not the pod)."""

ADMIN_PORT = 8082
"""Port of /status, /metrics, /healthz and /readyz."""

ENV_UNIT = "SKERRY_UNIT"
"""Environment variable that names the unit this pod is (the node's name in PerNode)."""

ENV_MODEL_NAME = "SKERRY_MODEL_NAME"
"""Environment variable with the name under which clients ask for the model."""

ENV_HTTP_PORT = "SKERRY_HTTP_PORT"
"""Environment variable with the REST port."""

ENV_GRPC_PORT = "SKERRY_GRPC_PORT"
"""Environment variable with the gRPC port."""

ENV_SLOTS_LIMIT_BYTES = "SKERRY_SLOTS_LIMIT_BYTES"
"""Environment variable with the size limit of the slots; absent: the disk's free space counts."""

ENV_TLS_DIR, TLS_DIR = "SKERRY_TLS_DIR", "/etc/skerry-tls"
"""Environment variable with the folder of the certificate, and where it is mounted."""

ENV_TOKEN_DIR, TOKEN_DIR = "SKERRY_TOKEN_DIR", "/etc/skerry-tokens"
"""Environment variable with the folder of the bearer tokens, and where it is mounted."""

ENV_ENGINE = "SKERRY_ENGINE"
"""Environment variable with the engine; absent: the file's format decides."""

ENV_TRITON_URL = "SKERRY_TRITON_URL"
"""Environment variable with the address of the Triton server that is beside the runtime."""

TRITON_REPOSITORY = f"{SLOTS_DIR}/triton"
"""Where both find the server's models: on the volume of the slots, which holds the files."""

LATENCY_BOUNDS_MS: tuple[float, ...] = tuple(round(0.05 * 1.25**step, 4) for step in range(64))
"""Upper bounds of the latency histogram in milliseconds, 0.05 ms to about 64 s, 25 % apart;
a last bucket beyond them is implied, so a histogram has one count more than there are bounds."""


class ContractModel(BaseModel):
    """Base of both documents: camelCase on the wire, frozen in memory, tolerant of news."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Format(StrEnum):
    """File format of a model."""

    ONNX = "ONNX"
    ORT = "ORT"
    TFLITE = "TFLite"
    CUSTOM = "Custom"  # of the accelerator's vendor; needs the profile's own runtime image


class Engine(StrEnum):
    """What runs a model."""

    ONNX_RUNTIME = "ONNXRuntime"
    LITE_RT = "LiteRT"
    TRITON = "Triton"  # NVIDIA's server, in a container of its own beside the runtime


class GoldenMetric(StrEnum):
    """How the golden exam scores a copy of a model."""

    ACCURACY = "Accuracy"  # share of labels met, higher is better
    MAX_ABS_ERROR = "MaxAbsError"  # largest |output - expected|, lower is better
    AGREEMENT = "Agreement"  # share of equal argmax against expected outputs, higher is better

    @property
    def higher_is_better(self) -> bool:
        """Tell whether a threshold of this metric is a minimum."""
        return self is not GoldenMetric.MAX_ABS_ERROR


class SwapMode(StrEnum):
    """How a new model takes the old one's place inside a pod."""

    AUTO = "Auto"  # Overlap when both fit, else Sequential
    OVERLAP = "Overlap"  # load beside the old one, then switch
    SEQUENTIAL = "Sequential"  # unload, load, verify; load the old one again on failure


class BatchingMode(StrEnum):
    """Whether requests that wait at one time share a run of the model."""

    AUTO = "Auto"  # where a measurement on the loaded model shows that it pays
    ON = "On"
    OFF = "Off"


class Batching(ContractModel):
    """How requests share a run."""

    max_size: int = Field(ge=2, le=1024)
    """Most rows of one run, all its requests together."""
    max_delay_s: float = Field(default=0.0, ge=0.0, le=1.0)
    """How long a request may wait for company while a thread is free to run it."""
    mode: BatchingMode = BatchingMode.AUTO


class Artifact(ContractModel):
    """One file that a pod fetches."""

    uri: str
    sha256: Sha256


class ModelArtifact(Artifact):
    """The model file of the variant that a cell was given."""

    variant: str
    format: Format
    memory_bytes: int | None = None
    """What it needs when loaded; estimated from the file when absent."""
    input_shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Input -> the shape that its dynamic axes are fixed to; empty: they stay as they are."""


class GoldenExam(Artifact):
    """The exam: an .npz with one array per model input, and `labels` or `expected`."""

    metric: GoldenMetric
    threshold: str
    """Decimal text: a minimum, or for MaxAbsError a maximum."""


class Shadow(ContractModel):
    """How a prepared model is compared with the serving one before it takes over."""

    samples: int = Field(ge=1)
    """Answers to compare."""
    timeout_s: float = Field(gt=0)
    """Longest time to wait for them; without traffic there are none."""
    threshold: float = Field(ge=0, le=1)
    """Smallest share of equal answers; below it, with all samples there, the model is refused."""


class RevisionContent(ContractModel):
    """Everything a pod must know to serve one revision."""

    version: str
    artifact: ModelArtifact
    golden: GoldenExam | None = None
    threads: int | None = None
    """Intra-op threads of a session; None lets the runtime choose from its CPU limit."""
    swap: SwapMode = SwapMode.AUTO
    batching: Batching | None = None
    """None: every request has a run of its own."""
    retry: str = ""
    """Opaque text; a revision that failed here is tried again when it changes."""
    shadow: Shadow | None = None
    """Set while the revision is on trial beside another: it answers in the shadow first."""


class Execution(ContractModel):
    """Where the cell's sessions run."""

    profile: str
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """ONNX Runtime execution providers, in order of preference."""
    provider_options: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Provider -> its options."""
    static_shapes: bool = False
    """True: a model with an axis that is still dynamic is refused: the hardware cannot run it."""
    fallback: bool = True
    """False: a session that leaves a node to the CPU is refused, unless the CPU comes first."""


class Assignment(ContractModel):
    """Unit -> revision for one cell: a default, exceptions, and each revision's content."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    deployment: str
    """namespace/name of the EdgeDeployment."""
    cell: str
    execution: Execution
    default: str | None = None
    """Revision of every unit without an entry; None: such units serve nothing."""
    units: dict[str, str] = Field(default_factory=dict)
    revisions: dict[str, RevisionContent] = Field(default_factory=dict)

    def revision_of(self, unit: str) -> str | None:
        """Return the revision that the unit must serve, or None for nothing."""
        return self.units.get(unit, self.default)


class SwapPhase(StrEnum):
    """Where a pod stands with the revision it was given."""

    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    PROBING = "Probing"
    LOADING = "Loading"
    EXAMINING = "Examining"
    SHADOWING = "Shadowing"
    SERVING = "Serving"
    FAILED = "Failed"


class FailureReason(StrEnum):
    """Why a pod refuses a revision."""

    FETCH_FAILED = "FetchFailed"  # the source answered with a refusal, or not at all
    DIGEST_MISMATCH = "DigestMismatch"  # the bytes are not the ones the spec names
    INSUFFICIENT_DISK = "InsufficientDisk"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INVALID_MODEL = "InvalidModel"  # not a model, truncated, external data outside the artifact
    PROBE_FAILED = "ProbeFailed"  # crashed or ran out of its limits in the child process
    LOAD_FAILED = "LoadFailed"
    PROVIDER_MISSING = "ProviderMissing"  # fallback forbidden, and the accelerator was not got
    ENGINE_AWAY = "EngineAway"  # the engine's own process does not answer; tried again
    EXAM_FAILED = "ExamFailed"
    INVALID_EXAM = "InvalidExam"  # the golden file cannot be used with this model
    OUTPUT_DISAGREES = "OutputDisagrees"  # too many answers differ from the serving model's
    SELF_REVERTED = "SelfReverted"  # crashed twice while activating: refused on this unit


class Failure(ContractModel):
    """A revision that this pod refused."""

    revision: str
    reason: FailureReason
    message: str = Field(max_length=1024)
    at: float
    """Unix seconds."""


class ExamResult(ContractModel):
    """Outcome of a golden exam."""

    metric: GoldenMetric
    value: float
    threshold: float
    passed: bool
    samples: int


class Agreement(ContractModel):
    """How the answers of a prepared model compare with those that clients got."""

    compared: int = 0
    """Answers that both models gave to the same input: items of a batch count one by one."""
    agreed: int = 0
    errors: int = 0
    """Of the compared: inputs on which the prepared model failed."""
    max_abs_error: float = 0.0
    """Largest difference of two finite values."""
    mean_ms: float = 0.0
    """Mean run time of the prepared model on these inputs."""
    message: str = Field(default="", max_length=256)
    """Why there is less than was asked for, or how the prepared model failed last."""


class Acceleration(ContractModel):
    """Which execution provider really took the graph."""

    requested: tuple[str, ...]
    effective: str
    """Provider that runs most nodes."""
    delegated_percent: float
    """Share of graph nodes on the requested providers before the CPU's, 0 to 100; where the CPU's
    comes first, on that."""
    nodes: dict[str, int] = Field(default_factory=dict)
    """Provider -> how many graph nodes it took; empty where the engine keeps no record."""
    reason: str = Field(default="", max_length=1024)
    """Why a requested provider was not got; empty when all were."""


class Served(ContractModel):
    """The revision that answers requests."""

    revision: str
    version: str
    variant: str
    sha256: Sha256
    since: float
    """Unix seconds of the switch."""
    exam: ExamResult | None = None
    acceleration: Acceleration | None = None
    agreement: Agreement | None = None


class Progress(ContractModel):
    """How far the pod is with the revision it was given."""

    revision: str
    phase: SwapPhase
    reason: FailureReason | None = None
    """Set when phase is Failed, and while a failed fetch waits for its next try."""
    message: str = Field(default="", max_length=1024)
    attempt: int = 1
    fetched_bytes: int = 0
    total_bytes: int | None = None
    exam: ExamResult | None = None
    """Also kept for an exam that was not passed."""
    agreement: Agreement | None = None
    """Also kept for a shadow that disagreed."""


class Latency(ContractModel):
    """Histogram of request latency over LATENCY_BOUNDS_MS."""

    counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_MS) + 1)
    sum_ms: float = 0.0


class Counters(ContractModel):
    """Requests of one revision."""

    requests: int = 0
    """All inference requests that ended, failed ones included."""
    failures: dict[str, int] = Field(default_factory=dict)
    """Server-side failures by kind; a client's bad request is not the model's failure."""
    rejected: int = 0
    """Requests refused for the client's mistakes; in neither count above."""
    latency: Latency = Field(default_factory=Latency)
    """Of successful requests: from the request read to the answer ready."""


class RevisionCounters(ContractModel):
    """Counters of one revision in this process."""

    revision: str
    since: float
    """Unix seconds of its activation."""
    total: Counters
    last_minute: Counters


class SwapRecord(ContractModel):
    """The last completed swap."""

    from_revision: str | None
    to_revision: str
    mode: SwapMode
    total_ms: float
    """From the assignment read to the switch."""
    switch_ms: float
    """Of the total: load, exam, warm-up and switch, when the file was on disk."""
    outage_ms: float
    """Time without a serving model; 0 with Overlap."""
    fetched: bool
    """False when the file was already on disk."""
    at: float


class StatusReport(ContractModel):
    """Answer of GET /status on the admin port."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    unit: str
    deployment: str | None = None
    cell: str | None = None
    runtime_version: str
    boot_id: str
    """New with every start of the process, so that counters that begin again are seen."""
    started_at: float
    now: float
    """The pod's own clock, Unix seconds."""
    assignment: str | None = None
    """sha256 of the assignment file's bytes that was last read."""
    assignment_error: str | None = None
    assigned: str | None = None
    """Revision that the file gives to this unit."""
    serving: Served | None = None
    progress: Progress | None = None
    failures: tuple[Failure, ...] = ()
    """Latest first, at most 10."""
    on_disk: tuple[str, ...] = ()
    """Revisions whose files are in the slots."""
    counters: tuple[RevisionCounters, ...] = ()
    restarts: dict[str, int] | None = None
    """Revision -> how often this pod's process began again while it had or was activating it,
    since it was last given it; kept on the disk. None: this runtime does not count."""
    last_swap: SwapRecord | None = None
    rss_bytes: int | None = None
