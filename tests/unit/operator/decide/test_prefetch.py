"""What units fetch before it is their turn, as the operator asks for it and tells of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from builders import make_deployment, make_model, make_node
from rollout_sim import V1, V2, failed, later, rolling, settled, unit
from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import PrefetchStatus, Stage
from skerry_operator.decide.rollout.engine import EngineState
from skerry_operator.decide.rollout.line import fetched_ahead, may_try_ahead
from skerry_operator.decide.told.downloads import next_prefetch, prefetch_text
from skerry_runtime.contract import ASSIGNMENT_FILE, Assignment, Prefetched
from world import World

AHEAD = Rollout(prefetch=True)
STEPS = [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]


@pytest.mark.parametrize("stage", [Stage.STEPPING, Stage.SOAKING, Stage.PAUSED])
def test_the_target_is_fetched_ahead_while_it_is_tried(stage: Stage) -> None:
    assert fetched_ahead(AHEAD, rolling(stage)) == V2
    assert fetched_ahead(Rollout(), rolling(stage)) is None


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(settled(), id="at rest"),
        pytest.param(rolling(Stage.ROLLING_BACK), id="on the way back"),
        pytest.param(rolling(Stage.PROMOTING), id="given to all"),
        pytest.param(rolling(Stage.PAUSED).with_failed(failed()), id="failed and paused"),
        pytest.param(EngineState(target=V2, rollout=rolling().rollout), id="a first deployment"),
        pytest.param(
            settled(V2, target=V1, rollout=rolling().rollout, history=settled().history),
            id="the way to history",
        ),
    ],
)
def test_nothing_else_is_fetched_ahead(state: EngineState) -> None:
    assert fetched_ahead(AHEAD, state) is None


STEPS_OF_ALL_KINDS = [{"pause": True}, *STEPS]


@pytest.mark.parametrize(
    ("stage", "step", "may_try"),
    [
        (Stage.PAUSED, 0, False),
        (Stage.STEPPING, 1, False),
        (Stage.SOAKING, 1, True),
        (Stage.STEPPING, 2, True),
        (Stage.SOAKING, 2, True),
    ],
)
def test_what_is_fetched_ahead_is_tried_ahead_once_a_step_has_brought_it_to_units(
    stage: Stage, step: int, may_try: bool
) -> None:
    spec = Rollout.model_validate({"prefetch": True, "steps": STEPS_OF_ALL_KINDS})
    assert may_try_ahead(spec, rolling(stage, step=step)) is may_try


def new_world(**rollout: Any) -> World:
    nodes = tuple(make_node(name) for name in ("n0", "n1", "n2"))
    asked = {"steps": STEPS, "prefetch": True, **rollout}
    world = World(make_deployment(rollout=asked), make_model(), nodes)
    world.settle()
    return world


def assignments(world: World) -> list[Assignment]:
    texts = [
        one.body["data"][ASSIGNMENT_FILE]
        for key, one in world.objects.items()
        if key.startswith("ConfigMap/")
    ]
    return [Assignment.model_validate_json(text) for text in texts]


def prepared(world: World) -> set[str | None]:
    return {one.prepare for one in assignments(world)}


def test_the_file_names_it_beside_the_units_until_the_rollout_is_over() -> None:
    world = new_world()
    assert prepared(world) == {None}
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    assert prepared(world) == {world.status.target_revision}
    assert {one.try_prepared for one in assignments(world)} == {True}
    world.settle()
    assert prepared(world) == {None}
    assert {one.try_prepared for one in assignments(world)} == {None}
    assert set(world.served().values()) == {"2.0.0"}


def test_pods_that_are_replaced_anyway_fetch_nothing_ahead() -> None:
    world = new_world(update="Recreate")
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    assert prepared(world) == {None}


def test_the_status_tells_who_has_the_files_and_why_others_have_not() -> None:
    world = new_world()
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    target = world.status.target_revision or ""
    others = [name for name, one in world.reports.items() if one.assigned != target]
    told = [Prefetched(revision=target, is_done=True), Prefetched(revision=target, message="full")]
    for name, ahead in zip(others, told, strict=True):
        world.reports[name] = world.reports[name].model_copy(update={"prefetch": ahead})
    status = world.plan().status
    assert status is not None
    assert status.prefetch is not None
    assert prefetch_text(status.prefetch) == (
        f"1 of 2 units have the target's files ahead; {others[1]}: full"
    )


def test_many_units_that_finish_make_one_write_in_ten_seconds() -> None:
    units = [unit("n0", V1, prefetched=True), unit("n1", V1, prefetched=False)]
    first = next_prefetch(None, units, later(0))
    assert first == PrefetchStatus(units=2, done=1, at=later(0))
    both = [unit("n0", V1, prefetched=True), unit("n1", V1, prefetched=True)]
    assert next_prefetch(first, both, later(9)) is first
    assert next_prefetch(first, both, later(10)) == PrefetchStatus(units=2, done=2, at=later(10))
    # the same said again is no news, however much later
    assert next_prefetch(first, units, later(0) + timedelta(days=1)) is first
    assert next_prefetch(first, [unit("n0", V2)], later(11)) is None
