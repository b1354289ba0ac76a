"""The assignment: what the operator writes to the pods of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from skerry_runtime.contract.base import (
    MAX_COUNT,
    ContractModel,
    Line,
    Name,
    Open,
    RetryText,
    RevisionName,
    Sha256,
    Uri,
)
from skerry_runtime.contract.words import (
    BatchingMode,
    EncryptionFormat,
    Format,
    GoldenMetric,
    SwapMode,
)

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
SecretName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)
]
"""Name of a Secret of the pod's namespace."""
ShortText = Annotated[str, StringConstraints(max_length=1024)]
InputName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Axis = Annotated[int, Field(ge=1, le=2**31 - 1)]
MAX_LOAD_TIMEOUT_S = 86_400.0
"""Longest time that a load may be given."""
LoadTimeout = Annotated[float, Field(gt=0, le=MAX_LOAD_TIMEOUT_S, allow_inf_nan=False)]
"""Seconds."""
Shape = Annotated[tuple[Axis, ...], Field(max_length=8)]

SCHEMA_OF_TRUST = 3
"""Version of an assignment in which something has to be signed: a reader that does not know would
run it unsigned, so it must not read it."""
MAX_KEYS = 8
"""Most keys that may vouch for one model, or in one namespace."""
MAX_REVOKED = 64
_BASE64 = r"[A-Za-z0-9+/=\r\n ]+"
_SPACE = r"[\r\n ]*"
PublicKeyText = Annotated[
    str,
    StringConstraints(
        pattern=(f"^{_SPACE}-----BEGIN PUBLIC KEY-----{_BASE64}-----END PUBLIC KEY-----{_SPACE}$"),
        max_length=1024,
    ),
]
"""A public key as PEM."""
KeyName = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
"""Of an entry of a Secret."""


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
    secret: SecretName | None = None
    """The Secret with credentials for its source; its folder in the pod has this name."""


class ModelFile(Artifact):
    """One file of a model."""

    path: FilePath
    """Where it lies in the model's folder, beside the model's other files."""


class GoldenExam(Artifact):
    """The exam: an .npz with one array per model input, and `labels` or `expected`."""

    metric: Open[GoldenMetric]
    threshold: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    """Decimal text: a minimum, or for MaxAbsError a maximum."""


def clashing_paths(paths: Sequence[str]) -> tuple[str, str] | None:
    """Return two paths that cannot lie in one folder: equal ones, or a file and what is in it."""
    ordered = sorted(paths, key=lambda path: path.split("/"))
    return next(((a, b) for a, b in pairwise(ordered) if a == b or b.startswith(f"{a}/")), None)


def _differ(files: tuple[ModelFile, ...]) -> tuple[ModelFile, ...]:
    clash = clashing_paths([file.path for file in files])
    if clash:
        raise ValueError(f"two files have one path: {' and '.join(clash)}")
    return files


class RequiredSignature(ContractModel):
    """Who has to vouch for the files of a model, where no policy says so."""

    public_keys: Annotated[tuple[PublicKeyText, ...], Field(max_length=MAX_KEYS)]
    """One of these has to. Where a policy says which count, these do not."""
    uri: Uri | None = None
    """Where the bundle is; None: beside the file that the engine opens."""
    sha256: Sha256 | None = None
    """Of the bundle, which is then fetched and kept as the files are; None: it is asked for when
    it is needed."""


class Encryption(ContractModel):
    """How the file of a model is encrypted, and where the key is."""

    format: Open[EncryptionFormat] = EncryptionFormat.AGE
    secret: SecretName
    """The Secret with the key; its folder in the pod has this name."""
    key: KeyName = "identity"
    """The entry of the Secret."""


class TrustPolicy(ContractModel):
    """What the operator's administrator says of keys."""

    public_keys: Annotated[tuple[PublicKeyText, ...], Field(max_length=MAX_KEYS)] | None = None
    """Nothing serves here but what one of these vouches for; None: models say it themselves."""
    revoked: Annotated[tuple[Sha256, ...], Field(max_length=MAX_REVOKED)] = ()
    """Fingerprints of keys that vouch for nothing, nor ever did."""


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
    """What it needs when loaded; measured in its trial when absent."""
    input_shapes: Annotated[dict[InputName, Shape], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Input -> the shape that its dynamic axes are fixed to; empty: they stay as they are."""
    golden: GoldenExam | None = None
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Intra-op threads of a session; None lets the runtime choose from its CPU limit."""
    batching: Batching | None = None
    """None: every request has a run of its own."""
    load_timeout_s: LoadTimeout | None = None
    """How long opening it may take, in its trial and after; None: the hardware's, else the
    runtime's."""
    signature: RequiredSignature | None = None
    encryption: Encryption | None = None
    """None: the file is what an engine opens."""


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
    retry: RetryText = ""
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
    load_timeout_s: LoadTimeout | None = None
    """How long this hardware may take to open a model; None: the runtime's limit."""


class DownloadRules(ContractModel):
    """How the pods of a cell may use the line that models come over."""

    bytes_per_s: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = None
    """Most bytes a second of one pod; None: as many as come."""
    shut: Annotated[tuple[RevisionName, ...], Field(max_length=MAX_REVISIONS)] = ()
    """Revisions whose files are not to be fetched now; what is on disk of them is kept."""


CacheUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]{1,253}$", max_length=261)]


class CacheAccess(ContractModel):
    """How pods reach the caches of their sites. A pod that cannot read it goes without."""

    ca: Annotated[str, StringConstraints(max_length=8192)] = ""
    """PEM of whom to believe about a cache."""
    sites: Annotated[dict[Name, CacheUrl], Field(max_length=1024)] = Field(default_factory=dict)
    """Site -> address of its cache."""
    site: Name | None = None
    """Site of every unit without an entry."""
    units: Annotated[dict[Name, Name], Field(max_length=MAX_UNITS)] = Field(default_factory=dict)
    tickets: Annotated[
        dict[Sha256, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=4096)
    ] = Field(default_factory=dict)
    """sha256 of a file -> the word that these pods use it."""

    def url_of(self, unit: str) -> str | None:
        """Return the address of the unit's cache; None: its site has none."""
        return self.sites.get(self.units.get(unit, self.site) or "")


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
    trust: TrustPolicy | None = None
    """None: models say themselves who has to vouch for them."""
    download: DownloadRules | None = None
    """None: fetch whatever is to be fetched, as fast as it comes."""
    prepare: RevisionName | None = None
    """Revision whose files units with another one fetch ahead, and check; None: none."""
    try_prepared: bool | None = None
    """True: units of this cell serve it, so the others may try it in a child ahead as well."""

    def revision_of(self, unit: str) -> str | None:
        """Return the revision that the unit must serve, or None for nothing."""
        return self.units.get(unit, self.default)


class Assignment(_Frame):
    """Unit -> revision for one cell: a default, exceptions, and each revision's content."""

    revisions: Annotated[dict[RevisionName, RevisionContent], Field(max_length=MAX_REVISIONS)] = (
        Field(default_factory=dict)
    )
    cache: CacheAccess | None = None
    """The caches of the units' sites; None: there are none."""


class Envelope(_Frame):
    """An assignment of which no revision is read yet: a unit reads its own and no other."""

    revisions: Annotated[Mapping[str, Any], Field(max_length=MAX_REVISIONS)] = Field(
        default_factory=dict
    )

    cache: Any = None

    def cache_access(self) -> CacheAccess | None:
        """Return how to reach the sites' caches; None also where that cannot be read."""
        try:
            return None if self.cache is None else CacheAccess.model_validate(self.cache)
        except ValidationError:
            return None

    def content_of(self, revision: str) -> RevisionContent:
        """Read one revision.

        Raises:
            KeyError: it is not described.
            pydantic.ValidationError: it cannot be read.
        """
        return RevisionContent.model_validate(self.revisions[revision])
