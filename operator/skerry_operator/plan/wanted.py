"""What a deployment wants: the snapshot of the revision that its spec and its model make."""

from __future__ import annotations

from skerry_operator.api.v1alpha1.edgedeployment import UpdateMode
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.catalogue.profiles import DEFAULT_FLAVOR, Profile
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.revision import KeptModel, Snapshot, revision_of
from skerry_operator.plan.settings import PlanSettings
from skerry_runtime.contract import Engine


def kept_snapshot(observed: Observed) -> Snapshot | None:
    """Return what is wanted while the model is in trouble: that what was begun comes to its end.

    A rollout that is under way goes on, and is taken back if it fails; else stable is kept up.
    Nothing new is begun, so without a revision that was known before there is nothing to do.
    """
    status = observed.deployment.status
    is_forward = status.rollout.stage not in {Stage.IDLE, Stage.ROLLING_BACK}
    wanted = status.target_revision if is_forward else status.stable_revision
    return observed.snapshots.get(wanted or "")


def wanted_snapshot(
    observed: Observed, profiles: tuple[Profile, ...], settings: PlanSettings
) -> Snapshot:
    """Return the snapshot of the revision that the spec asks for: the kept one, or a new one."""
    assert observed.model is not None  # noqa: S101 (a missing model is a hindrance)
    spec = observed.deployment.spec
    revision = revision_of(observed.model.spec, spec)
    kept = observed.snapshots.get(revision)
    if kept:
        return kept.named([spec.model_ref.name])  # another model of equal content may have it
    return Snapshot(
        revision=revision,
        models=(KeptModel(name=spec.model_ref.name, spec=observed.model.spec),),
        runtime=spec.runtime,
        serving=spec.serving,
        default_image=settings.default_image,
        images=_images(profiles, settings),
        triton_image=settings.triton_image if spec.runtime.engine is Engine.TRITON else None,
        pods_of=_pods_of(observed, revision),
    )


def _pods_of(observed: Observed, revision: str) -> str | None:
    """Return the revision whose pods a new one runs in: its own, or those that stable runs in.

    It is kept with the revision, so that a change of `update` alone replaces no pod.
    """
    if observed.deployment.spec.rollout.update is UpdateMode.RECREATE:
        return revision
    stable = observed.snapshots.get(observed.deployment.status.stable_revision or "")
    return stable.pods_of if stable else None


def _images(profiles: tuple[Profile, ...], settings: PlanSettings) -> dict[str, str]:
    """Return the image of every profile that does not run in the default one."""
    found = {
        profile.name: profile.image or settings.flavor_images.get(profile.flavor)
        for profile in profiles
        if profile.image or profile.flavor != DEFAULT_FLAVOR
    }
    return {name: image for name, image in found.items() if image}
