"""Seats: who needs a new pod, whose turn it is, and who is told about a new file."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from builders import (
    HAILO,
    NVIDIA,
    having,
    labelled,
    make_deployment,
    make_model,
    make_node,
    make_variant,
    offline,
)
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.facts import UnitFacts
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.nudges import RENUDGE_LONGEST_S, TOLD_PER_S
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.planned import Nudge
from world import World

STEPS = {"steps": [{"units": "1", "soak": "10s"}, {"units": "100%", "soak": "10s"}]}
UNITS = ("n0", "n1", "n2")
NEW_IMAGE = {"image": "registry.example/skerry-runtime:2"}


def make_world(units: int = 4, site: str = "", **rollout: object) -> World:
    nodes = tuple(
        make_node(f"n{index}", labelled(site=site or f"s{index}")) for index in range(units)
    )
    spec = {"placement": {"siteLabel": "site"}, "rollout": {**STEPS, **rollout}}
    world = World(make_deployment(**spec), make_model(), nodes)
    world.settle()
    return world


def templates(world: World) -> set[str]:
    return {pod.template for pod in world.pods.values()}


def test_a_new_model_comes_without_a_new_pod() -> None:
    world = make_world()
    pods = set(world.pods)
    world.model = make_model("2.0.0")
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert set(world.pods) == pods
    assert world.least_serving == 4


def test_recreate_brings_every_new_model_in_new_pods_one_at_a_time() -> None:
    world = make_world(3, site="harbour", update="Recreate")
    for version in ("2.0.0", "3.0.0"):
        before = templates(world)
        world.model = make_model(version)
        world.settle()
        assert set(world.served().values()) == {version}
        assert not templates(world) & before
        assert world.least_serving == 2


def test_recreate_goes_back_to_the_pods_that_were_there_before() -> None:
    world = make_world(3, site="harbour", update="Recreate")
    before = templates(world)
    world.refusals = {(unit, "2.0.0") for unit in UNITS}
    world.model = make_model("2.0.0")
    world.settle()
    assert (world.status.phase, templates(world)) == ("RolledBack", before)
    assert set(world.served().values()) == {"1.0.0"}


def test_a_change_to_recreate_alone_replaces_no_pod_and_starts_no_rollout() -> None:
    world = make_world(3)
    before, stable = set(world.pods), world.status.stable_revision
    for update in ("Recreate", "Auto"):
        world.change(rollout={**STEPS, "update": update})
        world.settle()
        assert (set(world.pods), world.status.stable_revision) == (before, stable)


def test_after_recreate_auto_swaps_in_the_new_pods() -> None:
    world = make_world(3, update="Recreate")
    world.model = make_model("2.0.0")
    world.settle()
    pods = set(world.pods)
    world.change(rollout=STEPS)
    world.model = make_model("3.0.0")
    world.settle()
    assert (set(world.pods), set(world.served().values())) == (pods, {"3.0.0"})


def test_two_revisions_that_recreate_never_share_pods() -> None:
    """Not even one that replaces another on the way."""
    world = make_world(3, site="harbour", update="Recreate")
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    second = templates(world)
    world.model = make_model("3.0.0")
    world.settle()
    assert set(world.served().values()) == {"3.0.0"}
    assert not templates(world) & second


@pytest.mark.parametrize("limit", [1, 2])
def test_pods_are_replaced_within_max_unavailable_of_a_site(limit: int) -> None:
    world = make_world(6, site="harbour", maxUnavailable=limit)
    before = templates(world)
    world.change(runtime=NEW_IMAGE)
    world.settle()
    assert world.least_serving == 6 - limit
    assert not templates(world) & before


def test_sites_replace_their_pods_side_by_side() -> None:
    world = make_world(4)
    world.change(runtime=NEW_IMAGE, rollout={"steps": [{"units": "100%", "soak": "10s"}]})
    world.settle()
    assert world.least_serving == 0


def test_the_old_daemonset_goes_when_its_last_node_has_moved() -> None:
    world = make_world()
    world.change(runtime=NEW_IMAGE)
    world.turn_until(Stage.SOAKING)
    assert len([key for key in world.objects if key.startswith("DaemonSet/")]) == 2
    world.settle()
    assert len([key for key in world.objects if key.startswith("DaemonSet/")]) == 1


def test_a_unit_is_not_given_the_target_before_its_pod_can_take_it() -> None:
    world = make_world(3, site="harbour")
    world.change(runtime=NEW_IMAGE, rollout={"steps": [{"units": "100%", "soak": "10s"}]})
    world.turn()
    cell = world.observed().cells[0].assignment
    assert sorted(cell.units.values()) == [world.status.target_revision]


def test_a_broken_image_is_taken_back_and_costs_one_unit() -> None:
    world = make_world(4, site="harbour", progressDeadline="1m")
    before = templates(world)
    world.broken_images = {NEW_IMAGE["image"]}
    world.change(runtime=NEW_IMAGE)
    world.settle()
    assert world.status.phase == "RolledBack"
    assert world.least_serving == 3
    assert templates(world) == before
    assert len(world.served()) == 4


def test_a_unit_whose_new_pod_cannot_start_holds_its_site_until_the_deadline() -> None:
    """Tolerated or not, it is without a model: who wants the others to go on raises the limit."""
    world = make_world(3, site="harbour", progressDeadline="1m", failureLimit=1)
    before = templates(world)
    world.change(runtime=NEW_IMAGE)
    world.turn_until(Stage.SOAKING)
    world.turn_before(Stage.STEPPING)
    world.turn()
    first = next(unit for unit in UNITS if unit not in world.served())
    world.broken_units = {first}
    world.turn_until(Stage.ROLLING_BACK)
    assert all("needs a new pod" not in one.waiting for one in facts_of(world))
    world.broken_units = set()
    world.settle()
    assert world.least_serving >= 2
    assert (world.status.phase, templates(world)) == ("RolledBack", before)
    message = world.status.failed_revisions[0].message
    assert f"{first}: ImagePullBackOff" in message
    assert "needs a new pod, in its turn (maxUnavailable 1 at its site)" in message
    assert len(world.served()) == 3


def facts_of(world: World) -> tuple[UnitFacts, ...]:
    """What the engine is told of the units at the next look."""
    fleet = Fleet(world.observed(), world.profiles, world.observed().snapshots)
    trial = OnTrial(world.status.target_revision or "", "", is_stable=False)
    return unit_facts(fleet, fleet.listed_cells, trial)


def promoting_with_a_straggler() -> World:
    """n1 and n2 came back after the last step; n1's new pod does not start, so n2 has no turn."""
    world = make_world(3, site="harbour", progressDeadline="1m")
    for name in ("n1", "n2"):
        world.change_node(name, offline)
    world.change(runtime=NEW_IMAGE)
    world.turn_until(Stage.SOAKING)
    world.turn_before(Stage.IDLE)
    for name in ("n1", "n2"):
        world.change_node(name, lambda node: replace(node, reachable=True))
    world.turn()
    world.broken_units = {"n1"}
    assert world.status.rollout.stage is Stage.PROMOTING
    return world


def test_a_promotion_waits_for_a_unit_whose_turn_does_not_come_until_the_deadline_only() -> None:
    world = promoting_with_a_straggler()
    target = world.status.target_revision
    for _ in range(50):
        world.turn()
    assert world.status.rollout.stage is Stage.PROMOTING
    world.settle()
    assert (world.status.stable_revision, world.status.failed_revisions) == (target, ())
    assert "n2" in str(world.status.rollout.message)
    assert world.served().keys() == {"n0", "n2"}
    world.broken_units = set()
    world.settle()
    assert len(world.served()) == 3
    assert len(templates(world)) == 1


def test_the_former_stable_is_kept_until_the_promotion_is_over() -> None:
    world = promoting_with_a_straggler()
    stable = world.status.stable_revision or ""
    assert stable != world.status.target_revision
    assert f"ControllerRevision/digits-{stable}" in world.objects
    assert all(stable in cell.assignment.revisions for cell in world.observed().cells)
    assert world.served()["n2"] == "1.0.0"


def test_a_promotion_that_cannot_end_does_not_keep_a_fix_from_going_out() -> None:
    world = promoting_with_a_straggler()
    verified = world.status.target_revision
    world.broken_units = set()
    world.change(runtime={"image": "registry.example/skerry-runtime:3"})
    world.turn()
    assert world.status.stable_revision == verified
    assert world.status.rollout.stage is Stage.STEPPING


def test_a_rollback_of_many_pods_gives_them_stable_at_once_and_replaces_them_in_turn() -> None:
    world = make_world(4, site="harbour")
    old_spec = world.deployment.spec.to_dict()
    world.model = make_model("2.0.0")
    world.change(runtime=NEW_IMAGE)
    world.turn_until(Stage.SOAKING)
    world.turn_before(Stage.SOAKING)
    while set(world.served().values()) != {"2.0.0"}:
        world.turn()
    world.model = make_model("1.0.0")
    world.change(**(old_spec | {"runtime": {}}))
    world.turn()
    cell = world.observed().cells[0].assignment
    assert cell.units == {}
    assert cell.default == world.status.stable_revision
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}


def test_an_offline_unit_moves_without_a_turn() -> None:
    world = make_world(3, site="harbour")
    world.change_node("n1", offline)
    world.reports.pop("n1")
    world.change(runtime=NEW_IMAGE)
    world.settle()
    assert world.status.stable_revision == world.status.target_revision
    lists = [set(template.nodes) for template in world.observed().templates]
    assert lists == [{"n0", "n1", "n2"}]


def test_another_catalogue_replaces_pods_in_turn_and_starts_no_rollout() -> None:
    world = make_world(3, site="harbour")
    stable = world.status.stable_revision
    before = templates(world)
    cpu = next(profile for profile in world.profiles if profile.name == "cpu")
    world.profiles = (cpu.model_copy(update={"supplemental_groups": (7,)}),)
    world.settle()
    assert world.status.stable_revision == stable
    assert world.least_serving == 2
    assert not templates(world) & before


def test_another_default_image_replaces_no_pod() -> None:
    world = make_world()
    before = set(world.pods)
    world.settings = replace(world.settings, default_image="registry.example/skerry-runtime:9")
    cuda = NVIDIA.model_copy(update={"image": "registry.example/runtime-cuda:9"})
    world.profiles = tuple(cuda if p.name == cuda.name else p for p in world.profiles)
    world.settle()
    assert set(world.pods) == before


def test_a_lost_accelerator_moves_the_unit_after_the_grace_period_only() -> None:
    node = make_node("n", having("hailo.ai/h8"), arch="arm64")
    world = World(make_deployment(rollout=STEPS), make_model(), (node,))
    world.settle()
    world.change_node("n", having("hailo.ai/h8", 0))
    world.turn(200)
    assert world.plan().objects == ()
    world.turn(200)
    world.settle()
    assert [cell.name for cell in world.status.cells] == ["digits-cpu-arm64"]
    assert world.served() == {"n": "1.0.0"}


def test_a_unit_that_the_target_has_no_variant_for_stays_on_stable_until_the_promotion() -> None:
    nodes = (make_node("gpu", having("nvidia.com/gpu")), make_node("plain"))
    rollout = STEPS | {"onUncovered": "Allow"}
    world = World(make_deployment(rollout=rollout), make_model(), nodes)
    world.settle()
    world.model = make_model("2.0.0", make_variant(version="2", runsOn=["gpu"]))
    world.turn_until(Stage.SOAKING)
    assert world.served() == {"gpu": "2.0.0", "plain": "1.0.0"}
    assert [(item.node, item.reason) for item in world.status.rejected_nodes] == [
        ("plain", "NoVariantFor")
    ]
    world.settle()
    assert world.served()["gpu"] == "2.0.0"
    assert {pod.unit for pod in world.pods.values()} == {"gpu"}


def test_only_pods_whose_own_share_changed_are_patched() -> None:
    world = make_world(4)
    world.model = make_model("2.0.0")
    nudges = []
    while not nudges:
        nudges += world.turn().nudges
    assert len(nudges) == 1


def test_of_many_pods_the_last_has_its_time_from_when_it_is_told() -> None:
    count = int(4 * TOLD_PER_S)
    world = make_world(count)
    world.model = make_model("2.0.0")
    made: tuple[Nudge, ...] = ()
    while len(made) < count // 2:  # the last step
        made = world.turn().nudges
    times = [int(nudge.digest.split(".")[1]) for nudge in made]
    assert times == sorted(times)
    assert times[-1] - times[0] == round((len(made) - 1) / TOLD_PER_S)


def test_a_pod_that_did_not_read_its_file_is_told_again_every_two_seconds() -> None:
    world = make_world(1)
    world.model = make_model("2.0.0")
    made = world.plan()
    world.carry_out(made)  # and the kubelet sleeps
    first = made.nudges[0]
    assert world.plan().nudges == ()
    world.turn_seconds(3)
    again = world.plan().nudges[0]
    assert again.pod == first.pod
    assert again.digest != first.digest


def test_a_pod_that_answers_and_cannot_read_its_file_is_told_ever_less_often() -> None:
    world = make_world(1)
    world.model = make_model("2.0.0")
    world.change(rollout={**STEPS, "progressDeadline": "24h"})
    world.carry_out(world.plan())  # and the kubelet sleeps, for an hour
    told = []
    for second in range(3600):
        world.turn_seconds(1)
        made = world.plan()
        told += [second] * len(made.nudges)
        world.carry_out(made)
    gaps = [after - before for before, after in pairwise(told)]
    assert gaps[:4] == [4, 8, 16, 32]
    assert max(gaps) == RENUDGE_LONGEST_S
    assert len(told) < 25


def test_news_reaches_a_pod_at_once_that_was_told_in_vain_for_long() -> None:
    world = make_world(1)
    world.model = make_model("2.0.0")
    world.carry_out(world.plan())
    for _ in range(100):
        world.turn_seconds(1)
        world.carry_out(world.plan())
    world.model = make_model("3.0.0")
    (nudge,) = world.plan().nudges
    assert nudge.digest.count(".") == 1  # and the count begins anew


def test_the_next_look_comes_when_a_pod_is_told_again() -> None:
    world = make_world(1)
    world.model = make_model("2.0.0")
    world.carry_out(world.plan())
    made = world.plan()
    assert made.requeue_after_s
    assert made.requeue_after_s <= 3


@pytest.mark.parametrize("text", ["x", "x.y", "x.1.y", f"x.{'9' * 400}", "x.1.2.3", "..", "x.²"])
def test_an_annotation_that_somebody_wrote_stops_no_plan(text: str) -> None:
    world = make_world(1)
    world.pods = {name: replace(pod, nudge=text) for name, pod in world.pods.items()}
    world.model = make_model("2.0.0")
    assert world.plan().status


def test_a_new_retry_text_reaches_the_unit_that_refused() -> None:
    world = make_world(2, onFailure="Pause")
    world.refusals = {("n0", "2.0.0"), ("n1", "2.0.0")}
    world.model = make_model("2.0.0")
    world.turn_until(Stage.PAUSED)
    world.refusals = set()
    world.change(rollout={**STEPS, "onFailure": "Pause", "retry": "the exam was wrong"})
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_two_resources_of_one_profile_are_two_cells() -> None:
    nodes = (
        make_node("a", having("hailo.ai/h8"), arch="arm64"),
        make_node("b", having("squat.ai/hailo"), arch="arm64"),
    )
    world = World(make_deployment(rollout=STEPS), make_model(), nodes)
    world.settle()
    assert [cell.profile for cell in world.status.cells] == [HAILO.name, HAILO.name]
    limits = {
        key: item.body["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        for key, item in world.objects.items()
        if key.startswith("DaemonSet/")
    }
    assert sorted(str(limit) for limit in limits.values()) == [
        "{'hailo.ai/h8': '1'}",
        "{'squat.ai/hailo': '1'}",
    ]


def test_an_operator_that_sees_no_node_clears_nothing_away() -> None:
    world = make_world()
    world.nodes = ()
    made = world.plan()
    assert (made.objects, made.prune) == ((), ())


def test_a_lost_snapshot_of_stable_leaves_its_pods_alone() -> None:
    world = make_world(2)
    stable = world.status.stable_revision
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    del world.objects[f"ControllerRevision/digits-{stable}"]
    world.turn()
    assert sorted(world.served().values()) == ["1.0.0", "2.0.0"]
    assert stable in world.observed().cells[0].assignment.revisions


def test_a_tiny_interval_makes_no_busy_loop() -> None:
    world = make_world(analysis={"interval": "1ms"})
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    assert world.plan().requeue_after_s == 0.5


def test_a_new_daemonset_is_written_before_a_node_leaves_the_old_one() -> None:
    """In the order of names the old one may well come first."""
    world = make_world()
    for number in range(2, 6):
        world.change(runtime={"image": f"registry.example/skerry-runtime:{number}"})
        made = world.plan()
        while not any(item.ref.kind == "DaemonSet" for item in made.objects):
            world.turn()
            made = world.plan()
        known = [f"DaemonSet/{one.ref.name}" in world.objects for one in made.objects
                 if one.ref.kind == "DaemonSet"]  # fmt: skip
        assert known == sorted(known)
        assert len(set(known)) == 2
        world.settle()
