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
