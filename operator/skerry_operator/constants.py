"""Names that leave the process: group, labels, annotations, condition types and reasons."""

from __future__ import annotations

from enum import StrEnum

GROUP = "skerry.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FIELD_MANAGER = "skerry-operator"
"""The one server-side-apply field manager of every write."""

# Labels on generated objects. Users never need to set them.
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "skerry"
LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_CELL = f"{GROUP}/cell"
LABEL_TEMPLATE = f"{GROUP}/template"
LABEL_PROFILE = f"{GROUP}/profile"
LABEL_UNIT = f"{GROUP}/unit"
"""On pods of the mode Replicas: the replica that the pod is."""
LABEL_REVISION = f"{GROUP}/revision"
"""On pods: the revision that the pod was given; the stable and canary Services select it."""

# Labels that users set on nodes.
LABEL_SITE = f"{GROUP}/site-cache"
"""Of everything that belongs to a site's cache: the site."""
LABEL_GATEWAY = f"{GROUP}/gateway"
"""Of the nodes that keep a site's models, with the value `true`."""
LABEL_MODEL = f"{GROUP}/model"
"""On what belongs to an EdgeModel: its name."""
LABEL_BUILD = f"{GROUP}/build"
"""On Jobs that make a build, their pods, and the records of what came of them: the job's name."""
LABEL_CANARY = f"{GROUP}/canary"
"""`true` puts a node first when a step picks its units."""

# Annotations.
ANNOTATION_NUDGE = f"{GROUP}/assignment"
"""On pods: digest of the cell's assignment; patching it makes the kubelet refresh the file."""
ANNOTATION_EXTRAS = f"{GROUP}/pods"
"""On pods: hash of what they were given besides (`spec.pods`, chart value `modelPods`)."""
ANNOTATION_DIGEST = f"{GROUP}/digest"
"""On generated objects: digest of the manifest, so that an equal object is not written."""
ANNOTATION_MODELS = f"{GROUP}/models"
"""On a revision's ControllerRevision: the names under which clients ask for its models, in order.
They are no part of the revision, so they may change; its data may not."""
ANNOTATION_ORDER = f"{GROUP}/order"
"""On the pods of a build's Job: what they are to make; the kubelet hands it to them as a file."""
ANNOTATION_PROMOTE = f"{GROUP}/promote"
"""On an EdgeDeployment, by people: the revision to promote past a pause."""
ANNOTATION_ABORT = f"{GROUP}/abort"
"""On an EdgeDeployment, by people: the revision whose rollout must end."""
ANNOTATION_UPGRADE = f"{GROUP}/upgrade"
"""On an EdgeDeployment, by people: the image set (`status.upgrade.imageSet`) to roll out."""

REVISION_SCHEME = "r1"
"""Tag before a revision's hash: the way of hashing, which stays as it is (ADR 3)."""


class ConditionType(StrEnum):
    """Types of conditions. The last two exist only while true (kstatus)."""

    READY = "Ready"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    PLACED = "Placed"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Reasons of conditions and events."""

    # EdgeModel
    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"
    OPTIMIZING = "Optimizing"
    OPTIMIZATION_FAILED = "OptimizationFailed"
    BUILD_STARTED = "BuildStarted"
    BUILD_SUCCEEDED = "BuildSucceeded"
    BUILD_REFUSED = "BuildRefused"
    BUILD_FAILED = "BuildFailed"
    # what hinders an EdgeDeployment
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_INVALID = "ModelInvalid"
    NO_ELIGIBLE_NODES = "NoEligibleNodes"
    APPLY_FAILED = "ApplyFailed"
    STATUS_REFUSED = "StatusRefused"
    # what others do to generated objects
    FOREIGN_OBJECT = "ForeignObject"
    TOO_MANY_OBJECTS = "TooManyObjects"
    PUT_BACK = "PutBack"
    LEFT_ALONE = "LeftAlone"
    RESTART_IGNORED = "RestartIgnored"
    # placement
    PLACED = "Placed"
    NODES_REJECTED = "NodesRejected"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    PLACEMENT_HELD = "PlacementHeld"
    SCALED_TO_ZERO = "ScaledToZero"
    NODE_REJECTED = "NodeRejected"
    HARDWARE_LOST = "HardwareLost"
    HARDWARE_RETURNED = "HardwareReturned"
    UNIT_MOVED = "UnitMoved"
    # units
    UNIT_GONE = "UnitGone"
    UNIT_RETURNED = "UnitReturned"
    UNIT_STOPPED = "UnitStopped"
    UNIT_SERVES = "UnitServes"
    # stages of a rollout
    FIRST_DEPLOYMENT = "FirstDeployment"
    ROLLOUT_STARTED = "RolloutStarted"
    STEP_STARTED = "StepStarted"
    STEP_COMPLETED = "StepCompleted"
    WAITING_FOR_UNITS = "WaitingForUnits"
    SOAKING = "Soaking"
    WAITING_FOR_METRICS = "WaitingForMetrics"
    WAITING_FOR_WINDOW = "WaitingForWindow"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    REVERTED = "Reverted"
    PROMOTED = "Promoted"
    UPGRADE_OFFERED = "UpgradeOffered"
    ADOPTED = "Adopted"
    STABLE = "Stable"
    # why a rollout failed
    UNIT_FAILED = "UnitFailed"
    METRIC_FAILED = "MetricFailed"
    DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    CRASH_LOOP = "CrashLoop"
    FIRST_DEPLOYMENT_FAILED = "FirstDeploymentFailed"
    FAILED_BEFORE = "FailedBefore"
    # why it is not begun
    UNITS_UNCOVERED = "UnitsUncovered"
    # availability
    SERVING = "Serving"
    NOT_SERVING = "NotServing"


class RejectReason(StrEnum):
    """Why a node gets no unit."""

    NO_MATCHING_LABEL = "NoMatchingLabel"
    ACCELERATOR_MISSING = "AcceleratorMissing"
    ACCELERATOR_IN_USE = "AcceleratorInUse"
    UNSUPPORTED_HARDWARE = "UnsupportedHardware"
    IMAGE_MISSING = "ImageMissing"
    NO_VARIANT_FOR = "NoVariantFor"
    ARCHITECTURE_NOT_BUILT = "ArchitectureNotBuilt"
    FALLBACK_FORBIDDEN = "FallbackForbidden"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    NODE_UNSCHEDULABLE = "NodeUnschedulable"
    TAINT_NOT_TOLERATED = "TaintNotTolerated"
    NODE_OFFLINE = "NodeOffline"
