"""What people may do to a rollout, and what they are told when there is nothing to do."""

from __future__ import annotations

from typing import Any

import pytest

from crd_objects import deployment
from ctl_objects import STABLE, TARGET, failure, status, waiting
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.ctl import steer
from skerry_operator.ctl.answer import Declined

Object = dict[str, Any]


def found(state: Object, **spec: Any) -> EdgeDeployment:
    return EdgeDeployment.model_validate(deployment(**spec) | {"status": state})


AT_REST = found(status())
NEVER_ROLLED = found({})
STEPPING = found(status("Stepping", TARGET))
SOAKING = found(status("Soaking", TARGET))
WITHOUT_NUMBERS = found(status("Soaking", TARGET, rollout={"reason": "WaitingForMetrics"}))
WAITING = found(waiting())
FAILED = found(waiting(failedRevisions=[failure()]))
FROZEN = found(waiting(), rollout={"paused": True})
PROMOTING = found(status("Promoting", TARGET))
GOING_BACK = found(status("RollingBack", TARGET))
FIRST = found(status("Deploying", TARGET, stableRevision=None))


def test_a_rollout_that_waits_for_a_person_is_promoted() -> None:
    change = steer.promote(WAITING, None)
    assert change.patch == {"metadata": {"annotations": {"skerry.dev/promote": TARGET}}}


def test_a_person_may_vouch_for_numbers_that_are_missing() -> None:
    assert steer.promote(WITHOUT_NUMBERS, TARGET).patch


@pytest.mark.parametrize(
    ("deployed", "why"),
    [
        pytest.param(AT_REST, f"no rollout is under way, {STABLE} is stable", id="at rest"),
        pytest.param(NEVER_ROLLED, "no rollout is under way", id="nothing was ever rolled out"),
        pytest.param(STEPPING, "waits for no person, its stage is Stepping", id="stepping"),
        pytest.param(SOAKING, "waits for no person, its stage is Soaking", id="soaking"),
        pytest.param(FAILED, "`skerry retry` tries it again", id="paused for a failure"),
        pytest.param(FROZEN, "`skerry resume` lets the rollout go on", id="paused by the spec"),
    ],
)
def test_a_rollout_that_waits_for_nobody_is_not_promoted(deployed: Any, why: str) -> None:
    with pytest.raises(Declined, match=why):
        steer.promote(deployed, None)


@pytest.mark.parametrize("deployed", [STEPPING, SOAKING, WAITING, FAILED, FROZEN, FIRST])
def test_a_rollout_under_way_is_aborted(deployed: EdgeDeployment) -> None:
    change = steer.abort(deployed, None)
    assert change.patch == {"metadata": {"annotations": {"skerry.dev/abort": TARGET}}}


def test_an_abort_says_what_comes_back() -> None:
    assert f"{STABLE} comes back" in steer.abort(STEPPING, None).text
    assert "nothing was stable before" in steer.abort(FIRST, None).text


@pytest.mark.parametrize("deployed", [PROMOTING, GOING_BACK])
def test_what_ends_already_is_not_aborted(deployed: EdgeDeployment) -> None:
    with pytest.raises(Declined, match="cannot be aborted any more"):
        steer.abort(deployed, None)


@pytest.mark.parametrize("verb", [steer.promote, steer.abort])
def test_another_revision_than_the_one_under_way_is_refused(verb: Any) -> None:
    with pytest.raises(Declined, match=f"v1-else is not under way, {TARGET} is"):
        verb(WAITING, "v1-else")


def test_abort_with_nothing_under_way_is_refused_even_with_a_revision() -> None:
    with pytest.raises(Declined, match="no rollout is under way"):
        steer.abort(AT_REST, STABLE)


def test_retry_sets_the_text_and_names_what_failed() -> None:
    change = steer.retry(found(status(failedRevisions=[failure()])), "again")
    assert change.patch == {"spec": {"rollout": {"retry": "again"}}}
    assert TARGET in change.text


def test_retry_without_a_failure_says_that_nothing_changes() -> None:
    assert "nothing changes now" in steer.retry(AT_REST, "again").text


def aborted(**spec: Any) -> EdgeDeployment:
    """The target was aborted, and the annotation is still there."""
    one = found(status(failedRevisions=[failure()]), **spec)
    annotations = {"skerry.dev/abort": TARGET}
    metadata = one.metadata.model_copy(update={"annotations": annotations})
    return one.model_copy(update={"metadata": metadata})


def test_retry_after_an_abort_says_what_is_in_the_way_and_changes_nothing() -> None:
    with pytest.raises(Declined, match=f"skerry.dev/abort names {TARGET}.*--clear-abort"):
        steer.retry(aborted(), "again")


def test_retry_after_an_abort_removes_it_when_it_is_told_to() -> None:
    change = steer.retry(aborted(), "again", clear_abort=True)
    assert change.patch == {
        "spec": {"rollout": {"retry": "again"}},
        "metadata": {"annotations": {"skerry.dev/abort": None}},
    }
    assert f"skerry.dev/abort={TARGET} is removed" in change.text


def test_an_abort_of_something_else_is_in_nobodys_way() -> None:
    one = aborted().model_copy(update={"status": AT_REST.status})
    assert "metadata" not in steer.retry(one, "again").patch


def test_retry_while_paused_says_that_nothing_starts_before_a_resume() -> None:
    one = found(status(failedRevisions=[failure()]), rollout={"paused": True})
    assert "before `skerry resume`" in steer.retry(one, "again").text


def test_retry_tells_of_units_that_refuse_stable() -> None:
    units = {"eligible": 3, "serving": 3, "updated": 2, "failed": 1, "offline": 0}
    assert "try it again (1 now)" in steer.retry(found(status(units=units)), "again").text


def test_retry_with_the_text_that_is_there_is_refused() -> None:
    with pytest.raises(Declined, match="give another text"):
        steer.retry(found(status(), rollout={"retry": "again"}), "again")


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_pause_and_resume_set_the_field(before: bool, after: bool) -> None:
    change = steer.set_paused(found(status(), rollout={"paused": before}), paused=after)
    assert change.patch == {"spec": {"rollout": {"paused": after}}}


def test_what_is_paused_already_is_not_written_again() -> None:
    change = steer.set_paused(FROZEN, paused=True)
    assert not change.patch
    assert "already" in change.text


def test_every_change_of_the_spec_names_the_tool_that_may_undo_it() -> None:
    for change in (steer.retry(AT_REST, "x"), steer.set_paused(AT_REST, paused=True)):
        assert steer.GITOPS_HINT in change.text


OFFER = {
    "imageSet": "0123456789",
    "policy": "Pinned",
    "images": [{"profile": "cpu", "runs": "runtime:1", "offered": "runtime:2"}],
}


def test_images_that_are_on_offer_are_asked_for_by_their_name() -> None:
    change = steer.upgrade(found(status(upgrade=OFFER)))
    assert change.patch == {"metadata": {"annotations": {"skerry.dev/upgrade": "0123456789"}}}
    assert "cpu: runtime:1 -> runtime:2" in change.text


def test_without_other_images_there_is_nothing_to_upgrade() -> None:
    with pytest.raises(Declined, match="there is nothing to roll out"):
        steer.upgrade(AT_REST)


def test_images_that_come_by_themselves_or_were_asked_for_need_no_word() -> None:
    by_itself = steer.upgrade(found(status(upgrade={**OFFER, "policy": "Rollout"})))
    assert (by_itself.patch, "by themselves" in by_itself.text) == ({}, True)
    asked = found(status(upgrade=OFFER))
    annotations = {"skerry.dev/upgrade": "0123456789"}
    metadata = asked.metadata.model_copy(update={"annotations": annotations})
    again = steer.upgrade(asked.model_copy(update={"metadata": metadata}))
    assert (again.patch, "skerry retry digits" in again.text) == ({}, True)
