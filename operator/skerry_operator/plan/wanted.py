"""What a deployment wants: the snapshot of the revision that its spec and its model make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from skerry_operator.api.v1alpha1.edgedeployment import (
    EdgeDeploymentSpec,
    RuntimeUpgrade,
    UpdateMode,
)
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec
from skerry_operator.catalogue.profiles import Profile
from skerry_operator.constants import ANNOTATION_UPGRADE
from skerry_operator.decide.images import ImageSet, images_of
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.revision import KeptModel, Snapshot, kin_of, revision_of
from skerry_operator.decide.rollout.state import TARGET_STAGES, EngineState
from skerry_operator.plan.settings import PlanSettings
from skerry_operator.plan.upgrade import (
    images_today,
    policy_of,
    profiles_in_use,
    running_snapshot,
)
from skerry_runtime.contract import Engine


def kept_snapshot(observed: Observed) -> Snapshot | None:
    """Return what is wanted while the model is in trouble: that what was begun comes to its end.

    A rollout that is under way goes on, and is taken back if it fails; else stable is kept up.
    Nothing new is begun, so without a revision that was known before there is nothing to do.
    """
    status = observed.deployment.status
    is_forward = status.rollout.stage not in {Stage.IDLE, Stage.ROLLING_BACK}
    wanted = status.target_revision if is_forward else EngineState.from_status(status).base
    return observed.snapshots.get(wanted or "")


def wanted_snapshot(
    observed: Observed, profiles: tuple[Profile, ...], settings: PlanSettings
) -> Snapshot:
    """Return the snapshot of the revision that the spec asks for: a kept one, or a new one.

    It is made with the images that pods run in, so that a new model is swapped in place, unless
    somebody wants the operator's of today (ADR 23).
    """
    asked = _WantedRevision(observed, profiles, settings)
    names = [observed.deployment.spec.model_ref.name]
    kept = asked.kept()
    return kept.named(names) if kept else asked.made()  # another model of equal content may have it


@dataclass(frozen=True)
class _WantedRevision:
    """What the specs ask for, with what it is to run in."""

    observed: Observed
    profiles: tuple[Profile, ...]
    settings: PlanSettings

    @cached_property
    def spec(self) -> EdgeDeploymentSpec:
        """Return the deployment's spec."""
        return self.observed.deployment.spec

    @cached_property
    def model(self) -> EdgeModelSpec:
        """Return the model's spec."""
        assert self.observed.model is not None  # noqa: S101 (a missing model is a hindrance)
        return self.observed.model.spec

    @cached_property
    def running(self) -> Snapshot | None:
        """Return what the pods that run were made for."""
        return running_snapshot(self.observed)

    @cached_property
    def kin(self) -> tuple[Snapshot, ...]:
        """Return the kept snapshots of what the specs ask for, each with images of its own."""
        return kin_of(self.model, self.spec, self.observed.snapshots)

    @cached_property
    def today(self) -> ImageSet:
        """Return the operator's images."""
        return images_today(self.profiles, self.settings, self.observed.deployment)

    @cached_property
    def images(self) -> ImageSet:
        """Return the images that it is to run in."""
        basis = self._basis
        # nothing runs in the operator's images, or somebody wants those of today
        if basis is None or self._is_upgrade:
            return self.today
        # what was begun goes on in what it was begun with
        if begun := self._begun:
            return self._images_of(begun)
        policy = policy_of(self.observed.deployment, self.settings)
        if policy is RuntimeUpgrade.WITH_NEXT_CHANGE and self._is_news:
            return self.today
        return self._images_of(basis)

    @property
    def _basis(self) -> Snapshot | None:
        """Return whose images are kept: of what runs, or was stable before the spec named one."""
        if self.running is None or self.running.runtime.image is None:
            return self.running
        return next((one for one in self._past if one.runtime.image is None), None)

    @property
    def _past(self) -> list[Snapshot]:
        """Return the kin that were stable, newest first."""
        order = [entry.revision for entry in self.observed.deployment.status.history]
        past = [one for one in self.kin if one.revision in order]
        return sorted(past, key=lambda one: order.index(one.revision))

    @property
    def _is_news(self) -> bool:
        """Tell whether the specs ask for what neither runs nor was stable before."""
        return self.running not in self.kin and not self._past

    @property
    def _is_upgrade(self) -> bool:
        deployment = self.observed.deployment
        if policy_of(deployment, self.settings) is RuntimeUpgrade.ROLLOUT:
            return True
        return deployment.metadata.annotations.get(ANNOTATION_UPGRADE) == self.today.key

    @property
    def _begun(self) -> Snapshot | None:
        status = self.observed.deployment.status
        is_forward = status.rollout.stage in TARGET_STAGES
        return next(
            (one for one in self.kin if is_forward and one.revision == status.target_revision), None
        )

    def _images_of(self, snapshot: Snapshot) -> ImageSet:
        return images_of(snapshot, self.profiles, self.today, self._in_use)

    @cached_property
    def _in_use(self) -> frozenset[str]:
        return profiles_in_use(self.observed, self.profiles)

    def kept(self) -> Snapshot | None:
        """Return a kept snapshot whose pods would be the same, the one that runs first."""
        running = self.running.revision if self.running else None
        order = (running, self.observed.deployment.status.target_revision)
        kin = sorted(self.kin, key=lambda kin: [kin.revision != first for first in order])
        return next((one for one in kin if self._agrees(one)), None)

    def _agrees(self, snapshot: Snapshot) -> bool:
        """Tell whether a revision has the wanted images on all hardware that is in use."""
        names = self._in_use or {profile.name for profile in self.profiles}
        own, runtime = self._images_of(snapshot), snapshot.runtime
        return all(own.of_pods(runtime, n) == self.images.of_pods(runtime, n) for n in names)

    def made(self) -> Snapshot:
        """Return the snapshot of a new revision."""
        image_set = self._image_set()
        revision = revision_of(self.model, self.spec, image_set)
        return Snapshot(
            revision=revision,
            models=(KeptModel(name=self.spec.model_ref.name, spec=self.model),),
            runtime=self.spec.runtime,
            serving=self.spec.serving,
            default_image=self.images.default,
            images=self.images.profiles,
            triton_image=self.images.triton if self.spec.runtime.engine is Engine.TRITON else None,
            image_set=image_set,
            pods_of=_pods_of(self.observed, revision),
        )

    def _image_set(self) -> str | None:
        """Return the images' part in the revision: none as long as they only stay what they are."""
        running = self.running
        usual = running.image_set if running else None
        is_other = running is not None and self.images != self._images_of(running)
        is_taken = revision_of(self.model, self.spec, usual) in self.observed.snapshots
        return self.images.key if is_other or is_taken else usual


def _pods_of(observed: Observed, revision: str) -> str | None:
    """Return the revision whose pods a new one runs in: its own, or those that stable runs in.

    It is kept with the revision, so that a change of `update` alone replaces no pod.
    """
    if observed.deployment.spec.rollout.update is UpdateMode.RECREATE:
        return revision
    base = EngineState.from_status(observed.deployment.status).base
    former = observed.snapshots.get(base or "")
    return former.pods_of if former else None
