"""`skerry status`, `history` and `-w` in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crd_objects import deployment
from ctl_objects import STABLE, TARGET, condition, failure, status, waiting
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.ctl.answer import Exit
from skerry_operator.ctl.follow import Following, follow, outcome
from skerry_operator.ctl.status_view import history_text, status_json, status_text
from skerry_operator.ctl.story import EVENTS_LIMIT, Story, read_events

Object = dict[str, Any]


def story(state: Object, wanted: str | None = STABLE, **metadata: Any) -> Story:
    body = deployment()
    body["metadata"] |= {"namespace": "edge", "generation": 1} | metadata
    found = EdgeDeployment.model_validate(body | {"status": state})
    return Story(found, wanted, {TARGET: "2.0.0"})


ROLLED_BACK = status(
    phase="RolledBack",
    failedRevisions=[failure()],
    conditions=[
        condition("Ready", "False", "RolledBack", "taken back"),
        condition("Stalled", "True", "RolledBack", "taken back"),
    ],
)


def test_the_head_names_phase_step_and_both_revisions_with_their_versions() -> None:
    text = status_text(story(waiting(), wanted=TARGET))
    assert text.startswith("EdgeDeployment edge/digits: Paused, step 2/4\n")
    assert f"stable  {STABLE} (version 1.0.0)" in text
    assert f"target  {TARGET} (version 2.0.0)" in text


def test_a_cell_shows_its_updated_units() -> None:
    assert "digits-cpu-amd64  cpu      fp32     CPUExecutionProvider  1/3" in status_text(
        story(status())
    )


@pytest.mark.parametrize(
    ("length_ms", "shown"), [(None, "-"), (0, "none"), (413, "413 ms"), (12_500, "12.5 s")]
)
def test_a_cell_shows_its_longest_outage(length_ms: int | None, shown: str) -> None:
    state = status()
    state["cells"][0]["maxOutageMs"] = length_ms
    assert status_text(story(state)).split("\n\n")[1].splitlines()[2].endswith(f"1/3      {shown}")


def test_a_cell_without_a_build_shows_what_it_keeps() -> None:
    state = status()
    state["cells"][0]["keeps"] = STABLE
    assert f"keeps {STABLE}" in status_text(story(state))


def test_downloads_under_way_are_told_with_the_time_that_is_left() -> None:
    told = {"units": 2, "fetchedBytes": 2**20, "totalBytes": 4 * 2**20, "percent": 25}
    state = status(download={**told, "secondsLeft": 180, "at": "2026-11-28T15:00:00Z"})
    text = status_text(story(state))
    assert "fetch   2 fetch: 1.0 of 4.0 MiB (25 %), 3 min at this rate" in text


def test_conditions_that_are_as_they_should_be_are_not_shown() -> None:
    assert "Conditions" not in status_text(story(status()))


def test_conditions_that_say_the_same_are_one_line() -> None:
    text = status_text(story(ROLLED_BACK))
    assert "Ready=False, Stalled=True: RolledBack: taken back" in text


def test_a_status_that_is_older_than_the_spec_says_so() -> None:
    assert "has not seen the newest spec" in status_text(story(status(), generation=2))


def test_a_deployment_that_nobody_looked_at_yet_can_be_shown() -> None:
    assert status_text(story({})).startswith("EdgeDeployment edge/digits: Unknown")


def test_rejected_nodes_and_failures_come_with_their_reasons() -> None:
    rejected = [{"node": "node-x", "reason": "InsufficientMemory", "message": "1Gi of 2Gi"}]
    state = ROLLED_BACK | {"rejectedNodes": rejected, "rejectedCount": 7}
    text = status_text(story(state))
    assert "Rejected nodes (7)" in text
    assert "node-x  InsufficientMemory  1Gi of 2Gi" in text
    assert "node-c: Accuracy 0.2 < 0.93" in text


def test_only_the_newest_events_are_shown_in_their_order() -> None:
    items = [
        {"lastTimestamp": f"2026-11-23T12:00:{second:02}Z", "reason": f"r{second}"}
        for second in reversed(range(20))
    ]
    reasons = [event.reason for event in read_events(items)]
    assert reasons == [f"r{second}" for second in range(20 - EVENTS_LIMIT, 20)]


def test_the_json_has_versions_beside_the_status() -> None:
    found = status_json(story(waiting(), wanted=TARGET))
    assert found["target"] == {"revision": TARGET, "version": "2.0.0"}
    assert found["status"]["rollout"]["stage"] == "Paused"


def test_history_tells_promotions_and_failures() -> None:
    text = history_text(story(ROLLED_BACK))
    assert f"{STABLE}  1.0.0    2026-11-23T12:00:00Z" in text
    assert f"{TARGET}  2.0.0    2026-11-23T12:00:00Z  UnitFailed" in text


def test_an_empty_history_says_so() -> None:
    assert "no revision was promoted" in history_text(story({}))


OFFER = {
    "imageSet": "abc",
    "policy": "Pinned",
    "images": [{"profile": "cpu", "runs": "runtime:1", "offered": "runtime:2"}],
    "message": "the operator has other runtime images (cpu: runtime:1 -> runtime:2)",
}


def test_images_that_are_on_offer_are_shown() -> None:
    assert "images  the operator has other" in status_text(story(status(upgrade=OFFER)))
    assert "images" not in status_text(story(status()))


@pytest.mark.parametrize(
    ("told", "end"),
    [
        pytest.param(story(status()), Exit.OK, id="what is wanted serves"),
        pytest.param(story(status(), wanted=TARGET), None, id="the model changed a moment ago"),
        pytest.param(story(status(), generation=2), None, id="the spec changed a moment ago"),
        pytest.param(story(waiting(), wanted=TARGET), None, id="it waits"),
        pytest.param(story(ROLLED_BACK, wanted=TARGET), Exit.NOT_READY, id="it was taken back"),
        pytest.param(story(ROLLED_BACK, wanted="v1-new"), None, id="an earlier one was taken back"),
        pytest.param(
            story(ROLLED_BACK | {"failedRevisions": []}, wanted=None),
            Exit.NOT_READY,
            id="the model is gone",
        ),
        pytest.param(
            story(status(upgrade=OFFER), annotations={"skerry.dev/upgrade": "abc"}),
            None,
            id="images are asked for, and the operator has not seen it yet",
        ),
        pytest.param(story(status(upgrade=OFFER)), Exit.OK, id="images are on offer"),
        pytest.param(story({}), None, id="nobody looked at it yet"),
    ],
)
def test_following_ends_when(told: Story, end: Exit | None) -> None:
    assert outcome(told) is end


class Stopwatch:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def watch(self, timeout_s: float | None = None) -> Following:
        return Following(lambda: self.now, self.wait, timeout_s)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_following_says_every_change_once_and_ends_with_the_verdict() -> None:
    under_way = story(waiting(), wanted=TARGET)
    looks = iter([under_way, under_way, replace(under_way, deployment=story(status()).deployment),
                  story(status())])  # fmt: skip
    said: list[str] = []
    answer = follow(lambda: next(looks), said.append, Stopwatch().watch())
    assert (answer.code, len(said)) == (Exit.OK, 2)


def test_following_ends_at_the_timeout() -> None:
    answer = follow(lambda: story(waiting(), wanted=TARGET), lambda _: None, Stopwatch().watch(5))
    assert answer.code is Exit.TIMED_OUT
