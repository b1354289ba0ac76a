"""The line that models come over: a rate and windows, which are the operator's word to the pods."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import NOW, make_deployment, make_model, make_node
from rollout_sim import V1, V2, facts, later, rolling, settled, unit, units
from skerry_operator.api.v1alpha1.edgedeployment import DownloadLimits, Rollout, Step
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.api.v1alpha1.edgedeployment_windows import TimeWindow
from skerry_operator.constants import ConditionType
from skerry_operator.decide.facts import Fetching
from skerry_operator.decide.rollout.engine import EngineState, step
from skerry_operator.decide.rollout.line import download_rules
from skerry_runtime.contract import ASSIGNMENT_FILE, Assignment, DownloadRules
from world import World

HOUR = 3600.0
NIGHT = TimeWindow(start="02:00", duration="2h")
"""The simulation begins at midnight of UTC."""
SPEC = Rollout(
    steps=(Step(units="1", soak="10s"), Step(units="100%", soak="10s")),
    progress_deadline="60s",
    download=DownloadLimits(max_rate="2Mi", windows=(NIGHT,), deadline="1h"),
)
FETCHING = unit("n0", V2, serving=V1, waiting="Fetching: waits for a download window")
FLEET = [FETCHING, *units(3, V1)[1:]]


def test_nothing_asked_is_nothing_told() -> None:
    assert download_rules(Rollout(), rolling(), later(0)) is None


def test_what_is_on_trial_is_shut_outside_and_open_within() -> None:
    assert download_rules(SPEC, rolling(), later(HOUR)) == DownloadRules(
        bytes_per_s=2 * 1024 * 1024, shut=(V2,)
    )
    assert download_rules(SPEC, rolling(), later(3 * HOUR)) == DownloadRules(
        bytes_per_s=2 * 1024 * 1024
    )


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(settled(), id="at rest"),
        pytest.param(rolling(Stage.ROLLING_BACK), id="on the way back"),
        pytest.param(rolling(Stage.PROMOTING), id="promoted"),
        pytest.param(EngineState(target=V2, rollout=rolling().rollout), id="a first deployment"),
        pytest.param(
            settled(V2, target=V1, rollout=rolling().rollout, history=settled().history),
            id="the way to history",
        ),
    ],
)
def test_what_may_be_all_that_a_unit_has_is_never_shut(state: EngineState) -> None:
    found = download_rules(SPEC, state, later(HOUR))
    assert found is not None
    assert found.shut == ()


def test_the_deadline_stands_still_for_units_that_wait_for_the_line() -> None:
    state = rolling(progress_at=later(0))
    for hours in (0.5, 1.9, 3):
        result = step(SPEC, state, facts(FLEET, now=later(hours * HOUR)))
        if hours < 2:
            assert result.state.rollout.stage is Stage.STEPPING
            assert "1 waits to fetch it for a window of spec.rollout.download.windows, shut" in (
                result.message
            )
        else:  # it did not begin although it might have
            assert result.state.rollout.stage is Stage.ROLLING_BACK


def test_the_longest_time_to_fetch_counts_time_in_windows_only() -> None:
    moving = unit("n0", V2, serving=V1, waiting="Fetching")
    state = rolling(progress_at=later(2 * HOUR))

    def at(hours: float) -> Stage:
        fetching = Fetching(1, 100, later(hours * HOUR - 5), 1.0)
        seen = [*units(3, V1)[1:], unit_with(moving, fetching)]
        return step(SPEC, state, facts(seen, now=later(hours * HOUR))).state.rollout.stage

    assert at(2.9) is Stage.STEPPING
    assert at(20) is Stage.STEPPING
    assert at(3.1) is Stage.ROLLING_BACK


def unit_with(one: Any, fetching: Fetching) -> Any:
    return replace(one, fetching=fetching)


def test_a_unit_that_waits_for_something_else_has_no_more_time() -> None:
    pulling = unit("n0", V2, serving=None, answered=False, waiting="ErrImagePull: not found")
    result = step(SPEC, rolling(), facts([pulling, *units(3, V1)[1:]], now=later(61)))
    assert result.state.rollout.stage is Stage.ROLLING_BACK


def test_a_window_that_opens_or_shuts_is_told_at_once() -> None:
    spec = SPEC.model_copy(update={"analysis": SPEC.analysis.model_copy(update={"interval": "5m"})})
    soaking = rolling(Stage.SOAKING, soak_started_at=later(2 * HOUR - 3))
    result = step(spec, soaking, facts([unit("n0", V2), unit("n1", V1)], now=later(2 * HOUR - 2)))
    assert result.requeue_after_s == pytest.approx(2)


def test_the_message_of_a_slow_download_names_the_rate() -> None:
    spec = SPEC.model_copy(update={"download": DownloadLimits(max_rate="1Ki", deadline="1h")})
    slow = unit_with(FETCHING, Fetching(1024, 1024**3, later(HOUR - 1), 1024.0))
    result = step(spec, rolling(), facts([slow], now=later(HOUR + 1)))
    assert "Raise spec.rollout.download.maxRate (1Ki), or spec.rollout.download.deadline" in (
        result.message + result.events[0].message
    )


def files(world: World) -> list[Assignment]:
    return [
        Assignment.model_validate_json(one.body["data"][ASSIGNMENT_FILE])
        for key, one in world.objects.items()
        if key.startswith("ConfigMap/")
    ]


def test_a_rate_alone_makes_no_revision_and_no_pods_and_wakes_nobody() -> None:
    nodes = tuple(make_node(name) for name in ("n0", "n1"))
    world = World(make_deployment(), make_model(), nodes)
    world.settle()
    stable, pods = world.status.stable_revision, dict(world.pods)
    assert all(one.download is None for one in files(world))
    world.change(rollout={"download": {"maxRate": "1Mi"}})
    made = world.plan()
    assert made.nudges == ()
    world.settle()
    assert (world.status.stable_revision, world.pods) == (stable, pods)
    assert [one.download for one in files(world)] == [DownloadRules(bytes_per_s=1024 * 1024)]


def test_a_rollout_writes_shut_and_open_into_the_files() -> None:
    starts = (NOW + timedelta(hours=2)).strftime("%H:%M")
    asked = {
        "steps": [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}],
        "download": {"windows": [{"start": starts, "duration": "2h"}]},
    }
    nodes = tuple(make_node(name) for name in ("n0", "n1"))
    world = World(make_deployment(rollout=asked), make_model(), nodes)
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}, "a first deployment waits for nothing"
    world.model = make_model("2.0.0")
    world.turn()
    target = world.status.target_revision
    assert [one.download for one in files(world)] == [DownloadRules(shut=(target,))]
    assert any(one.type == ConditionType.PROGRESSING for one in world.status.conditions)
    world.now += timedelta(hours=2)
    world.settle()
    assert [one.download for one in files(world)] == [DownloadRules()]
    assert world.status.stable_revision == target
