"""What decides that a unit needs a new pod, and nothing else.

Two revisions with equal pod templates are exchanged inside the running pod.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment import (
    Placement,
    PlacementMode,
    Resources,
    TaintEffect,
)
from skerry_operator.decide.images import image_of
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.placement.variants import variant_of
from skerry_operator.decide.revision import Snapshot, canonical_json, content_hash
from skerry_runtime.contract import Engine

TEMPLATE_VERSION = 1
"""Raise it to replace every pod at the next operator upgrade, within maxUnavailable."""

HASH_LENGTH = 8
DEFAULT_CPU_REQUEST = "50m"
DEFAULT_MEMORY_REQUEST = "128Mi"


@dataclass(frozen=True)
class PodTemplate:
    """The inputs of a pod that a running one cannot take over."""

    image: str
    http_port: int
    grpc_port: int
    requests: dict[str, str]
    limits: dict[str, str]
    """Both of the container that runs the model."""
    disk_limit: str | None
    runtime_class_name: str | None
    supplemental_groups: tuple[int, ...]
    scheduling: str | None = None
    """Hash of what the scheduler, or who evicts, is told. A pod that runs cannot take it over."""
    pods_of: str | None = None
    """Revision that asked for new pods of its own; later ones are swapped into them."""
    tls_secret: str | None = None
    token_secret: str | None = None
    """Secrets that the pods mount; their content may change under a running pod."""
    triton_image: str | None = None
    """Image of the Triton server that is beside the runtime; None: there is none."""
    supplies: tuple[str, ...] | None = None
    """What it mounts to fetch with. A pod with more than its revision needs is not made anew."""

    @cached_property
    def hash(self) -> str:
        """Return the template's name: a hash of the inputs, not of their rendering.

        Equal inputs give equal hashes for ever, as an upgrade must replace no pod: whatever is
        added to the inputs later is None, and does not count, where it is not used.
        """
        inputs = {name: value for name, value in asdict(self).items() if value is not None}
        return content_hash({"version": TEMPLATE_VERSION, **inputs}, HASH_LENGTH)


def template_of(
    snapshot: Snapshot,
    hardware: Hardware,
    placement: Placement,
    supplies: tuple[str, ...] = (),
) -> PodTemplate:
    """Return the template of a revision's pods in a cell."""
    profile = hardware.profile
    return PodTemplate(
        image=image_of(snapshot, profile),
        http_port=snapshot.serving.port,
        grpc_port=snapshot.serving.grpc_port,
        requests=_requests(
            snapshot.runtime.resources, _model_memory(snapshot, hardware, placement)
        ),
        limits=_limits(snapshot.runtime.resources, hardware.resource),
        disk_limit=snapshot.runtime.resources.disk_limit,
        runtime_class_name=profile.runtime_class_name,
        supplemental_groups=profile.supplemental_groups,
        scheduling=_scheduling(placement),
        pods_of=snapshot.pods_of,
        tls_secret=snapshot.serving.tls.secret_name if snapshot.serving.tls else None,
        token_secret=snapshot.serving.auth.token_secret_name if snapshot.serving.auth else None,
        triton_image=_triton_image(snapshot),
        supplies=supplies or None,
    )


def _scheduling(placement: Placement) -> str | None:
    """Return what a pod must be made anew for; None: nothing that it was told counts any more."""
    if placement.mode is PlacementMode.PER_NODE:
        return _felt(placement)
    tolerations = [toleration.to_dict() for toleration in placement.tolerations]
    return content_hash([dict(placement.node_selector), tolerations], HASH_LENGTH)


def _felt(placement: Placement) -> str | None:
    """Return the tolerations that a pod on its node feels: those against being evicted.

    All others only open nodes. To replace the pods for them would take the models from the disks
    of a whole fleet because one more node was let in.
    """
    felt = [
        canonical_json(toleration.to_dict())
        for toleration in placement.tolerations
        if toleration.effect in {None, TaintEffect.NO_EXECUTE}
    ]
    return content_hash(sorted(felt), HASH_LENGTH) if felt else None


def _model_memory(snapshot: Snapshot, hardware: Hardware, placement: Placement) -> str | None:
    """Return what the model says it needs, where the scheduler has to find a node that has it."""
    if placement.mode is PlacementMode.PER_NODE:
        return None
    variant = variant_of(hardware, snapshot.model.variants, snapshot.runtime.engine)
    return variant.memory if variant else None


def _triton_image(snapshot: Snapshot) -> str | None:
    if snapshot.runtime.engine is not Engine.TRITON:
        return None
    return snapshot.runtime.triton_image or snapshot.triton_image


def _requests(resources: Resources, model_memory: str | None) -> dict[str, str]:
    memory = model_memory or DEFAULT_MEMORY_REQUEST
    return {
        "cpu": resources.cpu_request or _at_most(DEFAULT_CPU_REQUEST, resources.cpu_limit),
        "memory": resources.memory_request or _at_most(memory, resources.memory_limit),
    }


def _at_most(default: str, limit: str | None) -> str:
    """Return the default request, or the limit where that is smaller: a request must fit it."""
    return default if limit is None or quantity(default) <= quantity(limit) else limit


def _limits(resources: Resources, device: str | None) -> dict[str, str]:
    """Return the limits that the user set; a limit nobody asked for would kill models."""
    limits = {"cpu": resources.cpu_limit, "memory": resources.memory_limit}
    devices = {device: "1"} if device else {}
    return {name: value for name, value in limits.items() if value is not None} | devices


_WORDS = {
    "http_port": "serving.port",
    "grpc_port": "serving.grpcPort",
    "requests": "requests",
    "limits": "limits",
    "disk_limit": "runtime.resources.diskLimit",
    "runtime_class_name": "runtimeClassName of the profile",
    "supplemental_groups": "supplementalGroups of the profile",
    "scheduling": "placement: tolerations or node selector",
    "tls_secret": "serving.tls",
    "token_secret": "serving.auth",
}
"""Inputs of a template as people know them; those that are missing here say more than a name."""


def causes_of(before: PodTemplate, after: PodTemplate) -> tuple[str, ...]:
    """Return what makes a pod of one template unfit for the other, for people; empty: nothing."""
    found = [
        text for field, text in _WORDS.items() if getattr(before, field) != getattr(after, field)
    ]
    if before.pods_of != after.pods_of:
        found.append("rollout.update: Recreate")
    images = {
        "runtime image": (before.image, after.image),
        "Triton image": (before.triton_image, after.triton_image),
    }
    found += [f"{what} {a} -> {b}" for what, (a, b) in images.items() if a != b]
    return tuple(found)
