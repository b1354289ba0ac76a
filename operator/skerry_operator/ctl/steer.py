"""What people may do to a rollout: the patch, or why there is nothing to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment, RuntimeUpgrade
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import (
    ANNOTATION_ABORT,
    ANNOTATION_PROMOTE,
    ANNOTATION_UPGRADE,
    Reason,
)
from skerry_operator.ctl.answer import Declined

GITOPS_HINT = (
    "A tool that keeps the object as it is in Git (Flux, Argo CD) sets this field back: "
    "change it there too."
)

_ABORTABLE = frozenset({Stage.DEPLOYING, Stage.STEPPING, Stage.SOAKING, Stage.PAUSED})


@dataclass(frozen=True)
class Steering:
    """A merge patch of an EdgeDeployment, and what it means to a person."""

    text: str
    patch: Mapping[str, Any] = field(default_factory=dict)
    """Empty: it is so already."""


def promote(deployment: EdgeDeployment, revision: str | None) -> Steering:
    """Return the change that lets a waiting rollout go on.

    Raises:
        Declined: nothing waits for a person.
    """
    target = _under_way(deployment, revision)
    if problem := _not_waiting(deployment, target):
        raise Declined(problem)
    return _annotated(
        ANNOTATION_PROMOTE, target, f"{target} goes on past step {deployment.status.step}"
    )


def abort(deployment: EdgeDeployment, revision: str | None) -> Steering:
    """Return the change that ends a rollout and brings stable back.

    Raises:
        Declined: no rollout can be ended.
    """
    target = _under_way(deployment, revision)
    status = deployment.status
    if status.rollout.stage not in _ABORTABLE:
        raise Declined(
            f"{target} cannot be aborted any more, its stage is {status.rollout.stage}: wait for "
            "the end with `skerry status -w`"
        )
    base = status.stable_revision or status.interim_revision
    back = f"{base} comes back" if base else "nothing was stable before"
    return _annotated(ANNOTATION_ABORT, target, f"{target} is aborted, {back}")


def retry(deployment: EdgeDeployment, text: str, *, clear_abort: bool = False) -> Steering:
    """Return the change that gives failed revisions, and units that refuse stable, another chance.

    Raises:
        Declined: the text is the one that is there, or an abort that names a failed revision is.
    """
    if text == deployment.spec.rollout.retry:
        raise Declined(f"spec.rollout.retry is {text!r} already: give another text, or none")
    failed = [entry.revision for entry in deployment.status.failed_revisions]
    aborted = deployment.metadata.annotations.get(ANNOTATION_ABORT)
    if aborted in failed and not clear_abort:
        raise Declined(
            f"annotation {ANNOTATION_ABORT} names {aborted}, which is not started while it does: "
            "`skerry retry --clear-abort` removes it; nothing was changed"
        )
    change = _with_rollout(
        {"retry": text}, f"spec.rollout.retry is {text!r}: {_second(deployment)}"
    )
    return _without_abort(change, aborted) if aborted and clear_abort else change


def upgrade(deployment: EdgeDeployment) -> Steering:
    """Return the change that rolls the operator's runtime images out to one deployment.

    Raises:
        Declined: there are no others, or the operator rolls them out by itself.
    """
    offer, name = deployment.status.upgrade, deployment.metadata.name
    if offer is None:
        raise Declined(
            "the pods run in the operator's runtime images, or in those that the spec names: there "
            "is nothing to roll out"
        )
    changes = ", ".join(f"{one.profile}: {one.runs} -> {one.offered}" for one in offer.images)
    if offer.policy == RuntimeUpgrade.ROLLOUT:
        return Steering(f"they are rolled out by themselves ({changes}): `skerry status {name}`")
    if deployment.metadata.annotations.get(ANNOTATION_UPGRADE) == offer.image_set:
        again = f"`skerry retry {name}` tries images again that were taken back"
        return Steering(f"that is asked for already ({changes}): {again}")
    text = f"runtime images are rolled out in new pods, by the steps of the spec ({changes})"
    return _annotated(ANNOTATION_UPGRADE, offer.image_set, text)


def _second(deployment: EdgeDeployment) -> str:
    """Return what a new retry text brings about."""
    failed = [entry.revision for entry in deployment.status.failed_revisions]
    failing = deployment.status.units.failed
    effects = []
    if failed:
        named = ", ".join(failed)
        effects.append(f"a failed revision that the spec asks for is tried again (failed: {named})")
    if failing:
        effects.append(f"units that refuse what they were given try it again ({failing} now)")
    if not effects:
        effects.append("no revision has failed, so nothing changes now")
    if deployment.spec.rollout.paused:
        effects.append("spec.rollout.paused is true: nothing is started before `skerry resume`")
    return "; ".join(effects)


def _without_abort(change: Steering, aborted: str) -> Steering:
    """Return the change that removes the abort annotation as well."""
    patch = {**change.patch, "metadata": {"annotations": {ANNOTATION_ABORT: None}}}
    return Steering(f"annotation {ANNOTATION_ABORT}={aborted} is removed\n{change.text}", patch)


def set_paused(deployment: EdgeDeployment, *, paused: bool) -> Steering:
    """Return the change that freezes a rollout, or lets it move again."""
    word = str(paused).lower()
    if deployment.spec.rollout.paused is paused:
        return Steering(f"spec.rollout.paused is {word} already")
    effect = "nothing new is started, failures still roll back" if paused else "rollouts go on"
    return _with_rollout({"paused": paused}, f"spec.rollout.paused is {word}: {effect}")


def _under_way(deployment: EdgeDeployment, revision: str | None) -> str:
    """Return the revision that is rolled out, which must be `revision` where that is given."""
    status = deployment.status
    target = status.target_revision
    if target is None or status.rollout.stage is Stage.IDLE:
        stable = status.stable_revision
        serves = f", {stable} is stable" if stable else ""
        raise Declined(
            f"no rollout is under way{serves}: change the model or the spec to start one"
        )
    if revision not in {None, target}:
        raise Declined(
            f"{revision} is not under way, {target} is: leave --revision out, or name it"
        )
    return target


def _not_waiting(deployment: EdgeDeployment, target: str) -> str | None:
    """Return why a promotion would change nothing now; None: the rollout waits for one."""
    status = deployment.status
    if any(entry.revision == target for entry in status.failed_revisions):
        return f"{target} failed and is paused for that: `skerry retry` tries it again"
    if deployment.spec.rollout.paused:
        return "spec.rollout.paused is true: `skerry resume` lets the rollout go on"
    lacks_numbers = status.rollout.reason == Reason.WAITING_FOR_METRICS
    if status.rollout.stage is Stage.PAUSED or lacks_numbers:
        return None
    step = f"step {status.step}" if status.step else "the rollout"
    return f"{step} of {target} waits for no person, its stage is {status.rollout.stage}"


def _annotated(name: str, revision: str, text: str) -> Steering:
    return Steering(f"{text}\n{name}={revision}", {"metadata": {"annotations": {name: revision}}})


def _with_rollout(fields: Mapping[str, Any], text: str) -> Steering:
    return Steering(f"{text}\n{GITOPS_HINT}", {"spec": {"rollout": dict(fields)}})
