"""What the operator's administrator decides, as plans need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry_operator.api.trustpolicy import NO_POLICY, SigningPolicy
from skerry_operator.api.v1alpha1.edgedeployment import RuntimeUpgrade
from skerry_operator.api.v1alpha1.edgedeployment_pods import NO_EXTRAS, PodExtras
from skerry_operator.decide.placement.place import DEFAULT_GRACE_S
from skerry_operator.manifests.networkpolicy import NetworkDefaults
from skerry_operator.plan.model import OptimizeDefaults


@dataclass(frozen=True)
class PlanSettings:
    """What the operator's administrator decides."""

    default_image: str
    """Runtime image of profiles that name none."""
    flavor_images: Mapping[str, str] = field(default_factory=dict)
    """Flavor -> runtime image, apart from the default one."""
    triton_image: str | None = None
    """Image of the Triton server where the spec names none."""
    upgrade: RuntimeUpgrade = RuntimeUpgrade.PINNED
    """What becomes of pods that run in other images than these, where the spec is silent."""
    fetch: Mapping[str, str] = field(default_factory=dict)
    """What pods are told about fetching, as environment variables."""
    accelerator_grace_s: float = DEFAULT_GRACE_S
    """How long a unit stays on a node whose accelerator is not allocatable."""
    network: NetworkDefaults = field(default_factory=NetworkDefaults)
    """Who reaches the pods where the spec is silent."""
    pods: PodExtras = NO_EXTRAS
    """What all pods have besides."""
    trust: SigningPolicy = NO_POLICY
    """Whose word counts for models."""
    optimize: OptimizeDefaults | None = None
    """How builds are made; None: they are not."""
    unsettled_s: float = 5.0
    """How often to look while nothing is rolled out, but not every unit serves."""
    resync_s: float = 300.0
    """How often to look although nothing happened."""
