"""What the units of a cell run on, and what a unit takes from the others of its node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from skerry_operator.catalogue.profiles import AcceleratorClass, Profile
from skerry_operator.decide.names import cell_name
from skerry_operator.decide.placement.nodes import Node

_named = lru_cache(maxsize=65536)(cell_name)
"""Cell names are asked for at every look, and a long one costs a hash."""


@dataclass(frozen=True)
class Hardware:
    """What all units of a cell run on."""

    cell: str
    profile: Profile
    arch: str
    resource: str | None
    """Extended resource of the pods; None for a profile without one."""
    choice: int = 0
    """Which of the variants that suit the profile: 0 the first, a later one on nodes whose memory
    is too small for those before it."""

    @property
    def claim(self) -> str | None:
        """Return what a unit takes away from other units of its node; None: nothing."""
        return claim_of(self.profile, self.resource)


def claim_of(profile: Profile, resource: str | None) -> str | None:
    """Return what one unit on the profile holds, None: nothing.

    That is a device, or on a node without a device plugin the profile as such. All share a CPU.

    >>> claim_of(Profile(name="hailo-8", accelerator_class="npu"), "hailo.ai/h8")
    'hailo.ai/h8'
    >>> claim_of(Profile(name="mali", accelerator_class="gpu"), None)
    'profile/mali'
    """
    if resource is not None:
        return resource
    is_shared = not profile.exclusive or profile.accelerator_class is AcceleratorClass.CPU
    return None if is_shared else f"profile/{profile.name}"


def alternatives(deployment: str, profile: Profile, arch: str, choice: int = 0) -> list[Hardware]:
    """Return the profile's hardware on an architecture: one for each of its resources."""
    resources: tuple[str | None, ...] = profile.resource_names or (None,)
    return [
        Hardware(
            _named(deployment, profile.name, arch, index, choice), profile, arch, resource, choice
        )
        for index, resource in enumerate(resources)
    ]


def resource_index(
    deployment: str, profile: Profile, arch: str, cell: str, choices: int
) -> int | None:
    """Return which resource of the profile (0 also for none) a cell stands for; None: no such."""
    for choice in range(choices):
        for index in range(len(profile.resource_names) or 1):
            if _named(deployment, profile.name, arch, index, choice) == cell:
                return index
    return None


def hardware_of(
    deployment: str, profiles: Iterable[Profile], architectures: Iterable[str], choices: int = 1
) -> dict[str, Hardware]:
    """Return every cell that the deployment could have, by name.

    `choices` is the number of variants that the richest of its revisions has.
    """
    return {
        hardware.cell: hardware
        for arch in sorted(set(architectures))
        for profile in profiles
        for choice in range(choices)
        for hardware in alternatives(deployment, profile, arch, choice)
    }


def has_labels(node: Node, labels: Mapping[str, str]) -> bool:
    """Tell whether the node has all of the labels."""
    return labels.items() <= node.labels.items()
