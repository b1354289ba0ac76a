"""The outage of a change: measured, and shown in the status."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import NOW, having, make_deployment, make_model, make_node, offline
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_runtime.contract import SwapMode, SwapRecord
from world import World

ROLLOUT = {"steps": [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]}
NEW_IMAGE = {"image": "registry.example/skerry-runtime:2"}


def make_world(units: int = 2, **rollout: Any) -> World:
    nodes = tuple(make_node(f"n{index}") for index in range(units))
    world = World(make_deployment(rollout=ROLLOUT | rollout), make_model(), nodes)
    world.settle()
    return world


def outage_ms(world: World) -> int | None:
    return world.status.cells[0].max_outage_ms


def test_a_first_deployment_has_no_outage() -> None:
    world = make_world()
    assert (outage_ms(world), world.status.replacing) == (0, ())


def test_a_swap_beside_the_old_model_costs_nothing() -> None:
    world = make_world()
    world.model = make_model("2.0.0")
    world.settle()
    assert outage_ms(world) == 0


def test_a_sequential_swap_shows_what_the_pod_measured() -> None:
    world = make_world()
    world.outage_ms = 412.3
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    world.outage_ms = 98
    world.settle()
    assert outage_ms(world) == 413


def test_new_pods_are_timed_from_the_end_of_the_old_one_to_the_service_of_the_new_one() -> None:
    world = make_world()
    world.change(runtime=NEW_IMAGE)
    begun = world.now
    world.turn()
    world.turn()
    assert [(one.since - begun).total_seconds() for one in world.status.replacing] == [0]
    world.turn_until(Stage.SOAKING)
    assert world.status.replacing == ()
    assert outage_ms(world) == 2000  # one look for each: the old pod ends, the new one serves
    world.settle()
    assert outage_ms(world) == 10_000  # `settle` looks every 5 s


def test_the_way_back_from_a_bad_image_is_timed_too() -> None:
    world = make_world(progressDeadline="1m")
    world.broken_images = {NEW_IMAGE["image"]}
    world.change(runtime=NEW_IMAGE)
    world.settle()
    assert world.status.phase == "RolledBack"
    assert (outage_ms(world) or 0) >= 60_000


def test_one_node_with_one_accelerator_ends_the_old_pod_first_and_gets_it_back() -> None:
    node = make_node("only", having("nvidia.com/gpu"))
    world = World(
        make_deployment(rollout=ROLLOUT | {"progressDeadline": "1m"}), make_model(), (node,)
    )
    world.settle()
    before = set(world.pods)
    world.broken_images = {NEW_IMAGE["image"]}
    world.change(runtime=NEW_IMAGE)
    world.turn()
    assert len(world.pods) == 1  # never two for one device
    world.settle()
    assert (world.status.phase, world.served(), set(world.pods)) == (
        "RolledBack",
        {"only": "1.0.0"},
        before,
    )
    assert (outage_ms(world) or 0) >= 60_000


def test_a_new_rollout_is_measured_anew() -> None:
    world = make_world()
    world.change(runtime=NEW_IMAGE)
    world.settle()
    world.model = make_model("2.0.0")
    world.settle()
    assert outage_ms(world) == 0


def test_an_outage_of_an_earlier_rollout_does_not_count_for_the_next() -> None:
    world = make_world()
    world.outage_ms = 400
    world.model = make_model("2.0.0")
    world.settle()
    assert outage_ms(world) == 400
    world.outage_ms = 0
    world.model = make_model("3.0.0")
    world.settle()
    assert outage_ms(world) == 0


def test_the_time_since_the_new_pod_began_to_serve_is_no_outage() -> None:
    """It is read 0.7 s after it began; both moments are by its own clock."""
    world = make_world(1)
    world.change(runtime=NEW_IMAGE)
    world.turn()
    world.turn()
    report = world.reports["n0"]
    world.reports["n0"] = report.model_copy(update={"now": report.now + 0.7})
    world.carry_out(world.plan())
    assert outage_ms(world) == 1300


def test_a_node_that_goes_offline_while_its_pod_is_replaced_is_not_timed() -> None:
    world = make_world()
    world.change(runtime=NEW_IMAGE)
    world.turn()
    (lost,) = [one.unit for one in world.status.replacing]
    world.change_node(lost, offline)
    world.reports.pop(lost, None)
    world.turn_seconds(300)
    world.turn()
    assert lost not in {one.unit for one in world.status.replacing}
    world.change_node(lost, lambda node: replace(node, reachable=True))
    world.settle()
    assert 0 < (outage_ms(world) or 0) <= 10_000  # of the other one


@pytest.mark.parametrize(("outage", "shown"), [(0.0, 0), (1e15, 2**31 - 1)])
def test_the_longest_outage_that_a_pod_may_report_is_kept_within_bounds(
    outage: float, shown: int
) -> None:
    world = make_world(1)
    world.model = make_model("2.0.0")
    world.turn()
    report = world.reports["n0"]
    swap = SwapRecord(
        from_revision=None,
        to_revision="x",
        mode=SwapMode.SEQUENTIAL,
        total_ms=1,
        switch_ms=1,
        outage_ms=outage,
        fetched=False,
        at=report.now,
    )
    world.reports["n0"] = report.model_copy(update={"last_swap": swap})
    world.turn()
    assert (outage_ms(world) or 0) == shown


def test_a_pod_whose_clock_is_a_day_ahead_is_measured_like_any_other() -> None:
    world = make_world(1)
    world.outage_ms = 70
    world.model = make_model("2.0.0")
    ahead = timedelta(days=1).total_seconds()
    world.turn()
    report = world.reports["n0"]
    assert report.last_swap
    assert report.serving
    moved = {"at": report.last_swap.at + ahead}
    world.reports["n0"] = report.model_copy(
        update={
            "now": report.now + ahead,
            "last_swap": report.last_swap.model_copy(update=moved),
            "serving": report.serving.model_copy(update={"since": report.serving.since + ahead}),
        }
    )
    world.carry_out(world.plan())
    assert outage_ms(world) == 70
    assert world.now - NOW < timedelta(days=1)
