"""Runtime images: those of the operator today, and those that a revision was made with. Pure.

A deployment that runs keeps the images that its pods have, whatever the operator's are by now:
another image means new pods, and those are a rollout that somebody asked for (ADR 23).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry_operator.api.v1alpha1.edgedeployment import Runtime
from skerry_operator.catalogue.profiles import DEFAULT_FLAVOR, Profile
from skerry_operator.decide.revision import Snapshot, content_hash
from skerry_runtime.contract import Engine


@dataclass(frozen=True)
class ImageSet:
    """The images that pods of a deployment are made with, whatever hardware they get."""

    default: str
    profiles: Mapping[str, str]
    """Profile -> its image; one whose flavor has none is absent."""
    triton: str | None = None
    """Of the Triton server; None: no pod has one."""

    @property
    def key(self) -> str:
        """Return the name of the set: equal for equal images."""
        others = {name: one for name, one in self.profiles.items() if one != self.default}
        return content_hash({"default": self.default, "profiles": others, "triton": self.triton})

    def of_pods(self, runtime: Runtime, profile: str) -> tuple[str, str | None]:
        """Return the images of pods on a profile: the spec's, else the set's."""
        if runtime.engine is Engine.TRITON:  # beside it the runtime needs no engine
            return runtime.image or self.default, runtime.triton_image or self.triton
        return runtime.image or self.profiles.get(profile, self.default), None


def image_of(snapshot: Snapshot, profile: Profile) -> str:
    """Return the runtime image of a revision's pods on a profile."""
    if snapshot.runtime.engine is Engine.TRITON:  # beside it the runtime needs no engine
        return snapshot.runtime.image or snapshot.default_image
    return (
        snapshot.runtime.image
        or snapshot.images.get(profile.name)  # of the day the revision was made
        or profile.image
        or snapshot.default_image
    )


def images_of(
    snapshot: Snapshot, profiles: Iterable[Profile], today: ImageSet, in_use: frozenset[str]
) -> ImageSet:
    """Return the images that a revision was made with, also for profiles that it did not know.

    `in_use` are the profiles that it has pods on.
    """
    found = {
        profile.name: snapshot.images.get(profile.name)
        or _unrecorded(snapshot, profile, today, profile.name in in_use)
        for profile in profiles
    }
    triton = snapshot.triton_image or today.triton
    return ImageSet(snapshot.default_image, {n: one for n, one in found.items() if one}, triton)


def _unrecorded(
    snapshot: Snapshot, profile: Profile, today: ImageSet, is_in_use: bool
) -> str | None:
    """Return the image for a profile that was not there, or had none, when a revision was made."""
    if is_in_use or profile.flavor == DEFAULT_FLAVOR:
        return profile.image or snapshot.default_image
    return today.profiles.get(profile.name)
