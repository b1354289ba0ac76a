"""EdgeDeployment: where a model runs, how it serves and how it changes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from skerry_operator.api.base import (
    Cel,
    CountOrPercent,
    Duration,
    KubeModel,
    LabelKey,
    LabelValue,
    ModelName,
    ObjectMeta,
    PlainText,
    Port,
    Quantity,
    SecretName,
)
from skerry_operator.api.bounds import PLAIN, duration_between, quantity_between
from skerry_operator.api.v1alpha1.edgedeployment_analysis import Analysis
from skerry_operator.api.v1alpha1.edgedeployment_network import NetworkAccess
from skerry_operator.api.v1alpha1.edgedeployment_pods import PodExtras
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.api.v1alpha1.edgedeployment_windows import Windows
from skerry_runtime.contract import BatchingMode, Engine, Open, SwapMode


class ModelRef(KubeModel):
    """Names an EdgeModel in the same namespace."""

    name: ModelName
    """Name of the EdgeModel."""


class PlacementMode(StrEnum):
    """What a unit is."""

    PER_NODE = "PerNode"  # one on every matching node
    REPLICAS = "Replicas"  # a number of pods, on the best hardware first


class Fallback(StrEnum):
    """Whether a node may use a later accelerator entry when an earlier one is missing."""

    ALLOW = "Allow"
    FORBID = "Forbid"


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(KubeModel):
    """A pod toleration."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without key needs operator: Exists",
        ),
        Cel(
            "!has(self.value) || size(self.value) == 0 || "
            "!(has(self.operator) && self.operator == 'Exists')",
            "a toleration with operator: Exists has no value",
        ),
    )

    key: LabelKey | None = None
    """Taint key; absent with Exists: every taint."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Exists or Equal."""
    value: LabelValue | None = None
    """Taint value, for Equal."""
    effect: TaintEffect | None = None
    """Taint effect; absent: every effect."""


class Placement(KubeModel):
    """Which nodes get the model, and on which hardware."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.accelerators) || self.accelerators.all(a, "
            "self.accelerators.exists_one(b, b == a))",
            "accelerators must not repeat an entry",
        ),
        Cel(
            "!has(self.replicas) || (has(self.mode) && self.mode == 'Replicas')",
            "replicas belongs to mode: Replicas; PerNode has one unit on every matching node",
        ),
    )

    mode: PlacementMode = PlacementMode.PER_NODE
    """PerNode: one unit on every matching node. Replicas: `replicas` pods, best hardware first."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Number of pods, for Replicas. Default 1."""
    node_selector: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """Labels that a node must have; empty: all nodes."""
    accelerators: Annotated[tuple[PlainText, ...], Field(max_length=16)] = ()
    """Preference, best first: classes (npu, gpu, cpu) or profile names. Default: npu, gpu, cpu."""
    fallback: Fallback = Fallback.ALLOW
    """Whether a node may use a later entry when an earlier one is missing."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """Taints that the pods tolerate."""
    site_label: LabelKey = "topology.kubernetes.io/zone"
    """Node label that names the site."""


CpuQuantity = Annotated[Quantity, quantity_between("1m", "1024")]
MemoryQuantity = Annotated[Quantity, quantity_between("1Mi", "64Ti")]
DiskQuantity = Annotated[Quantity, quantity_between("1Mi", "1024Ti")]


class Resources(KubeModel):
    """CPU and memory of the runtime container."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.cpuRequest) || !has(self.cpuLimit) || "
            "!isQuantity(self.cpuRequest) || !isQuantity(self.cpuLimit) || "
            "quantity(self.cpuRequest).compareTo(quantity(self.cpuLimit)) <= 0",
            "cpuRequest must not exceed cpuLimit",
        ),
        Cel(
            "!has(self.memoryRequest) || !has(self.memoryLimit) || "
            "!isQuantity(self.memoryRequest) || !isQuantity(self.memoryLimit) || "
            "quantity(self.memoryRequest).compareTo(quantity(self.memoryLimit)) <= 0",
            "memoryRequest must not exceed memoryLimit",
        ),
    )

    cpu_request: CpuQuantity | None = None
    """Requested CPU."""
    memory_request: MemoryQuantity | None = None
    """Requested memory."""
    cpu_limit: CpuQuantity | None = None
    """CPU limit."""
    memory_limit: MemoryQuantity | None = None
    """Memory limit."""
    disk_limit: DiskQuantity | None = None
    """Limit of the model files on the node's disk."""


class BatchingSpec(KubeModel):
    """How requests that wait at one time share a run of the model."""

    max_size: Annotated[int, Field(ge=2, le=1024)]
    """Most rows of one run, all its requests together."""
    max_delay: Annotated[Duration, duration_between("0s", "1s", ": clients wait for it")] | None = (
        None
    )
    """How long a request may wait for company while the model is free, at most 1s; default: not
    at all, so that only what came while the model was busy goes together."""
    mode: Open[BatchingMode] = BatchingMode.AUTO
    """Auto: on where a measurement on the loaded model shows that it pays. Needs a model whose
    first axes are dynamic."""


ImageName = Annotated[str, StringConstraints(min_length=1, max_length=512), PLAIN]


class Runtime(KubeModel):
    """How a pod runs the model."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.tritonImage) || (has(self.engine) && self.engine == 'Triton')",
            "tritonImage is of use with engine: Triton only",
        ),
    )

    engine: Open[Engine] | None = None
    """What runs the model: ONNXRuntime, LiteRT or Triton, NVIDIA's server in a container beside the
    runtime. Default: the variant's format decides between the first two."""
    image: ImageName | None = None
    """Runtime image; default: the profile's, else the operator's."""
    triton_image: ImageName | None = None
    """Image of the Triton server; default: the operator's, which is unset unless somebody set
    it."""
    resources: Resources = Resources()
    """CPU and memory of the runtime container; with engine Triton, of the server's."""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Intra-op threads; default: chosen from the CPU limit."""
    swap: Open[SwapMode] = SwapMode.AUTO
    """How a new model takes the old one's place in a pod."""
    batching: BatchingSpec | None = None
    """Requests that share runs; default: every request has a run of its own."""
    load_timeout: Annotated[Duration, duration_between("1s", "24h")] | None = None
    """How long a pod may take to open the model, in its trial and again after it; then the
    revision is refused. TensorRT builds take minutes. Default: the hardware's, else 5m for the
    load and 60s for the trial."""


class TrafficPolicy(StrEnum):
    """Where in-cluster clients of the Service are sent."""

    LOCAL = "Local"
    CLUSTER = "Cluster"


class ServiceSpec(KubeModel):
    """The Service in front of the pods."""

    internal_traffic_policy: Open[TrafficPolicy] | None = None
    """Local: a client gets the pod of its own node. Default: Local with PerNode, where every node
    has one; Cluster with Replicas."""


class TlsSpec(KubeModel):
    """TLS for REST and gRPC. The pods mount the secret; the operator never reads it."""

    secret_name: SecretName
    """Secret of type kubernetes.io/tls. A new certificate in it counts without a new pod."""


class AuthSpec(KubeModel):
    """Bearer tokens for REST and gRPC. The pods mount the secret; the operator never reads it."""

    token_secret_name: SecretName
    """Secret whose values hold tokens of at least 16 characters, one a line. Any of them is
    admitted, so that they can rotate; health checks need none."""


class Serving(KubeModel):
    """Ports and Service; the protocol is Open Inference v2."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "(has(self.port) ? self.port : 8080) != (has(self.grpcPort) ? self.grpcPort : 8081)",
            "port and grpcPort must differ",
        ),
        Cel(
            "(has(self.port) ? self.port : 8080) != 8082 && "
            "(has(self.grpcPort) ? self.grpcPort : 8081) != 8082",
            "8082 is the admin port: choose another for port and grpcPort",
        ),
        Cel(
            "(has(self.port) ? self.port : 8080) >= 1024 && "
            "(has(self.grpcPort) ? self.grpcPort : 8081) >= 1024",
            "ports below 1024 need privileges that the pods do not have",
        ),
    )

    port: Port = 8080
    """REST port."""
    grpc_port: Port = 8081
    """gRPC port."""
    service: ServiceSpec = ServiceSpec()
    """The Service in front of the pods."""
    tls: TlsSpec | None = None
    """Default: both ports speak plain text."""
    auth: AuthSpec | None = None
    """Default: whoever reaches the ports may ask."""
    network_policy: NetworkAccess = NetworkAccess()
    """Who reaches the ports. A change of it rolls nothing out."""


class Step(KubeModel):
    """One stage of a rollout."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.units) != (has(self.pause) && self.pause)",
            "a step has either units or pause: true",
        ),
        Cel("!has(self.soak) || has(self.units)", "soak belongs to a step with units"),
    )

    units: CountOrPercent | None = None
    """Units on the target after this step. A count is that many over all cells; a percentage is
    at least one per cell, so that every kind of hardware is tried."""
    soak: Annotated[Duration, duration_between("0s", "720h")] | None = None
    """How long the step is watched once all its units serve. Default 60s."""
    pause: bool | None = None
    """True: wait for a person to promote."""


class UpdateMode(StrEnum):
    """How a unit comes to a new revision."""

    AUTO = "Auto"  # in its running pod when only the model changed, else in a new pod
    RECREATE = "Recreate"  # always in a new pod


class OnUncovered(StrEnum):
    """What happens to units that serve, and that the new revision has no build for."""

    HOLD = "Hold"  # nothing begins while there are any
    EXCLUDE = "Exclude"  # they keep what they have, and the others go on
    ALLOW = "Allow"  # they lose their model when the new revision becomes stable


class RuntimeUpgrade(StrEnum):
    """What becomes of pods that run when the operator has other runtime images."""

    PINNED = "Pinned"  # they keep theirs until somebody asks for the others
    WITH_NEXT_CHANGE = "WithNextChange"  # the next revision brings them, in new pods
    ROLLOUT = "Rollout"  # they are rolled out as a revision of their own


class OnFailure(StrEnum):
    """What happens when a rollout fails."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"


DEFAULT_STEPS = (
    Step(units="1%", soak="60s"),
    Step(units="25%", soak="5m"),
    Step(units="50%", soak="5m"),
    Step(units="100%", soak="5m"),
)


_PERCENTAGES = "{" + ", ".join(f"'{number}%': {number}" for number in range(1, 101)) + "}"
"""CEL for the number of a percentage. No server before 1.33 knows the size of a part of a text, so
that int(units.substring(...)) in a list costs more than any limit."""


class DownloadLimits(KubeModel):
    """How units may use the line that models come over. A change of it rolls nothing out."""

    max_rate: Annotated[Quantity, quantity_between("1Ki", "1Ti")] | None = None
    """Most bytes a second, for example 2Mi: of each unit by itself. Default: as many as come."""
    windows: Windows = ()
    """When units may fetch what is being rolled out; default: at any time. Outside of them a begun
    download is kept and goes on later, and the progress deadline stands still for units that wait
    for it. Whatever was stable before, and a first deployment, are fetched at any time."""

    deadline: Annotated[Duration, duration_between("1ms", "720h")] = "24h"
    """Longest time without a unit more that serves, while a download moves: that alone stops the
    progress deadline, and a source that drips must not hold a rollout for ever."""


class Rollout(KubeModel):
    """How a new revision reaches the units."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.steps) || size(self.steps) == 0 || "
            "has(self.steps[size(self.steps) - 1].units)",
            "the last step must have units: a pause there would never end",
        ),
        Cel(
            "!has(self.steps) || self.steps.filter(s, has(s.units) && "
            "s.units.matches('^([1-9][0-9]?|100)%$'))"
            f".map(s, {_PERCENTAGES}[s.units]).isSorted()",
            "steps must not go down: write the percentages in ascending order",
        ),
        Cel(
            "!has(self.steps) || self.steps.filter(s, has(s.units) && "
            "s.units.matches('^[0-9]{1,6}$')).map(s, int(s.units)).isSorted()",
            "steps must not go down: write the counts in ascending order",
        ),
    )

    update: UpdateMode = UpdateMode.AUTO
    """Auto: in the running pod when only the model changed, else in a new one. Recreate: in a new
    pod for every revision that is made from now on; what runs already is not touched."""
    steps: Annotated[tuple[Step, ...], Field(max_length=32)] = ()
    """Stages; default: 1% (at least one unit per cell), 25%, 50%, 100%. A last step below 100% is
    followed by one of 100%."""
    max_unavailable: Annotated[int, Field(ge=1, le=10000)] = 1
    """Units per site whose pods may be replaced at one time."""
    failure_limit: Annotated[int, Field(ge=0, le=10000)] = 0
    """Failed units that are tolerated."""
    progress_deadline: Annotated[Duration, duration_between("1ms", "720h")] = "10m"
    """Longest time without real progress; a download that moves stops it."""
    download: DownloadLimits = DownloadLimits()
    """How units may use the line that models come over."""
    prefetch: bool = False
    """True: while the first units are watched, the others fetch the new revision's files already,
    check them, and try the model in a child process, so that their step needs no line and little
    time. For swaps in place: a new pod has an empty disk. A unit without room for them goes on,
    and fetches when its step comes."""
    windows: Windows = ()
    """When units may be given a new revision; default: at any time. The first unit of a step waits
    for a window, and so do units that get it at the end; the progress deadline stands still
    outside of them. A rollback, the way to an earlier revision, a unit that returns and a first
    deployment wait for none."""
    on_failure: OnFailure = OnFailure.ROLLBACK
    """What happens when the rollout fails."""
    allow_shrink: bool = False
    """True: a change of placement (nodeSelector, accelerators, fallback) may leave fewer than half
    of the units that serve. False: it is held, and what serves goes on where it is."""
    runtime_upgrade: RuntimeUpgrade | None = None
    """What happens when the operator has other runtime images than the pods run in. Pinned: they
    keep theirs, also with a new model, until `skerry upgrade` names the others. WithNextChange:
    the next revision brings them, in new pods. Rollout: they are rolled out by themselves, with
    steps, analysis and rollback. Default: the chart value `runtimeUpgrade`, which is Pinned."""
    on_uncovered: OnUncovered = OnUncovered.HOLD
    """What happens when more units than failureLimit serve a model and the new revision has no
    build for them. Hold: it is not begun. Exclude: they keep their revision, the others go on.
    Allow: they lose their model once it is stable."""
    analysis: Analysis = Analysis()
    """What is measured while the rollout is under way."""
    paused: bool = False
    """True: nothing new is started; what runs goes on."""
    retry: Annotated[str, StringConstraints(max_length=64), PLAIN] = ""
    """Any new text retries a revision that failed before."""
    history_limit: Annotated[int, Field(ge=1, le=50)] = 5
    """Earlier revisions that are kept."""


class EdgeDeploymentSpec(KubeModel):
    """Where a model runs, how it serves and how it changes."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "(has(self.placement) && has(self.placement.mode) ? self.placement.mode : 'PerNode') "
            "== (has(oldSelf.placement) && has(oldSelf.placement.mode) ? "
            "oldSelf.placement.mode : 'PerNode')",
            "placement.mode cannot change, all units would get other names at one time: "
            "make another EdgeDeployment",
        ),
        Cel(
            "!(has(self.runtime) && has(self.runtime.swap) && self.runtime.swap == 'Sequential' && "
            "has(self.rollout) && has(self.rollout.analysis) && "
            "has(self.rollout.analysis.metrics) && "
            "self.rollout.analysis.metrics.exists(m, m.name == 'OutputAgreement'))",
            "OutputAgreement needs both models loaded: swap: Sequential never has them",
        ),
    )

    model_ref: ModelRef
    """The model."""
    placement: Placement = Placement()
    """Which nodes get it, and on which hardware."""
    runtime: Runtime = Runtime()
    """How a pod runs it."""
    serving: Serving = Serving()
    """Ports and Service."""
    pods: PodExtras = PodExtras()
    """What the pods have besides: pull secrets, priority, labels, annotations."""
    rollout: Rollout = Rollout()
    """How a new revision reaches the units."""


class EdgeDeployment(KubeModel):
    """A model on a fleet."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "self.metadata.name.matches('^[a-z]')",
            "metadata.name must start with a letter: the Services bear it",
        ),
    )

    metadata: ObjectMeta
    spec: EdgeDeploymentSpec
    status: EdgeDeploymentStatus = EdgeDeploymentStatus()
