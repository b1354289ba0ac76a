"""Which runtime images a deployment runs in, which it is to run in, and what it is offered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment, RuntimeUpgrade
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    OFFERS_LIMIT,
    ImageOffer,
    UpgradeOffer,
)
from skerry_operator.catalogue.profiles import DEFAULT_FLAVOR, Profile
from skerry_operator.constants import ANNOTATION_UPGRADE
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.images import ImageSet, images_of
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.revision import Snapshot
from skerry_operator.decide.rollout.state import EngineState, clip
from skerry_operator.plan.settings import PlanSettings
from skerry_runtime.contract import Engine

_FATES = {
    RuntimeUpgrade.PINNED: "pods keep theirs until `skerry upgrade {name}` rolls the others out",
    RuntimeUpgrade.WITH_NEXT_CHANGE: "the next revision brings them, in new pods; `skerry upgrade "
    "{name}` rolls them out now",
    RuntimeUpgrade.ROLLOUT: "they are rolled out as a revision of their own",
}
_ON_REQUEST = "the annotation {annotation} asks for them"
_REFUSED = "they were rolled out and taken back; `skerry retry {name}` tries them again"


def images_today(
    profiles: Iterable[Profile], settings: PlanSettings, deployment: EdgeDeployment
) -> ImageSet:
    """Return the operator's images as they are now.

    An image for every profile is noted, also where it is the default one: else a profile that is
    given an image of its own later would change pods that run.
    """
    found = {profile.name: _image(profile, settings) for profile in profiles}
    is_triton = deployment.spec.runtime.engine is Engine.TRITON
    return ImageSet(
        settings.default_image,
        {name: image for name, image in found.items() if image},
        settings.triton_image if is_triton else None,
    )


def _image(profile: Profile, settings: PlanSettings) -> str | None:
    if profile.image or profile.flavor == DEFAULT_FLAVOR:
        return profile.image or settings.default_image
    return settings.flavor_images.get(profile.flavor)


def policy_of(deployment: EdgeDeployment, settings: PlanSettings) -> RuntimeUpgrade:
    """Return what becomes of the operator's images: the spec's word, else the administrator's."""
    return deployment.spec.rollout.runtime_upgrade or settings.upgrade


def profiles_in_use(observed: Observed, profiles: Iterable[Profile]) -> frozenset[str]:
    """Return the names of the known profiles that the deployment has cells of."""
    used = {cell.assignment.execution.profile for cell in observed.cells}
    return frozenset(used & {profile.name for profile in profiles})


def running_snapshot(observed: Observed) -> Snapshot | None:
    """Return the snapshot of the revision whose pods run; None: nothing runs that could be lost.

    A first deployment that nobody has served yet is in nobody's way: the next chart corrects a
    wrong image.
    """
    status, known = observed.deployment.status, observed.snapshots
    base = EngineState.from_status(status).base
    if base is not None:
        return known.get(base)
    if status.target_revision is None:
        return known.get(_most_common(observed) or "")
    has_served = status.rollout.best_serving > 0 or status.rollout.step > 0
    return known.get(status.target_revision) if has_served else None


def _most_common(observed: Observed) -> str | None:
    """Return what most units serve, or their cells are given, for a status that was wiped."""
    served = (one.serving.revision for one in observed.reports.values() if one.serving)
    given = (cell.assignment.default for cell in observed.cells)
    for names in (served, given):
        counted = Counter(name for name in names if name in observed.snapshots)
        if counted:
            return max(counted, key=lambda name: (counted[name], name or ""))
    return None


def is_return(fleet: Fleet, state: EngineState, wanted: str) -> bool:
    """Tell whether a revision is one that was stable before, in the images that stable runs in.

    That is an earlier version which the spec goes back to after an upgrade of the runtime: both
    have proved themselves, and who goes back is in a hurry.
    """
    target, stable = fleet.snapshots[wanted], fleet.snapshots.get(state.stable or "")
    past = (fleet.snapshots.get(entry.revision) for entry in state.history)
    is_known = any(one is not None and _is_alike(one, target) for one in past)
    if stable is None or not is_known:
        return False
    return all(
        _images_in(fleet, cell, target) == _images_in(fleet, cell, stable) for cell in fleet.cells
    )


def _is_alike(one: Snapshot, other: Snapshot) -> bool:
    """Tell whether two revisions differ in the operator's images at most."""
    return [model.spec for model in one.models] == [model.spec for model in other.models] and (
        (one.runtime, one.serving) == (other.runtime, other.serving)
    )


def _images_in(fleet: Fleet, cell: str, snapshot: Snapshot) -> tuple[str, str | None] | None:
    """Return the images of a revision's pods in a cell; None: its hardware is known no longer."""
    hardware = fleet.hardware.get(cell)
    if hardware is None:
        return None
    template = fleet.template(snapshot.revision, hardware)
    return template.image, template.triton_image


def offer_of(
    observed: Observed, profiles: tuple[Profile, ...], settings: PlanSettings
) -> UpgradeOffer | None:
    """Return the operator's images that what runs does not run in; None: there are none."""
    running = running_snapshot(observed)
    if running is None:
        return None
    deployment, in_use = observed.deployment, profiles_in_use(observed, profiles)
    today = images_today(profiles, settings, deployment)
    present = images_of(running, profiles, today, in_use)
    images = tuple(
        ImageOffer(profile=profile, runs=runs, offered=offered)
        for profile in sorted(in_use)
        for runs, offered in _pairs(running, profile, present, today)
        if runs != offered
    )
    if not images:
        return None
    policy = policy_of(deployment, settings)
    return UpgradeOffer(
        image_set=today.key,
        policy=policy,
        images=images[:OFFERS_LIMIT],
        message=clip(f"{told(images)}: {_fate(observed, policy, today.key)}"),
    )


def _pairs(
    running: Snapshot, profile: str, present: ImageSet, today: ImageSet
) -> list[tuple[str, str]]:
    """Return each image of a profile's pods, with the operator's."""
    ours = present.of_pods(running.runtime, profile)
    theirs = today.of_pods(running.runtime, profile)
    return [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]


def told(images: Iterable[ImageOffer]) -> str:
    """Return the images for people."""
    changes = ", ".join(f"{one.profile}: {one.runs} -> {one.offered}" for one in images)
    return f"the operator has other runtime images ({changes})"


def _fate(observed: Observed, policy: RuntimeUpgrade, key: str) -> str:
    deployment = observed.deployment
    tried = {one.revision for one in observed.snapshots.values() if one.image_set == key}
    spec, failed = deployment.spec.rollout, deployment.status.failed_revisions
    if any(one.revision in tried and one.retry == spec.retry for one in failed):
        return _REFUSED.format(name=deployment.metadata.name)
    if deployment.metadata.annotations.get(ANNOTATION_UPGRADE) == key:
        return _ON_REQUEST.format(annotation=ANNOTATION_UPGRADE)
    return _FATES[policy].format(name=deployment.metadata.name)
