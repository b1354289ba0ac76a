"""Another default runtime image: never new pods that nobody was told of, and a rollout of its own
when somebody wants it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import NVIDIA, having, make_deployment, make_model, make_node
from skerry_operator.api.v1alpha1.edgedeployment import RuntimeUpgrade
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Stage
from skerry_operator.constants import ANNOTATION_ABORT, ANNOTATION_UPGRADE, ConditionType
from world import SETTINGS, World

STEPS = {"steps": [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]}
OLD = SETTINGS.default_image
NEW, NEWER = "registry.example/skerry-runtime:2", "registry.example/skerry-runtime:3"


def make_world(policy: RuntimeUpgrade = RuntimeUpgrade.PINNED, **spec: object) -> World:
    nodes = tuple(make_node(f"n{index}") for index in range(3))
    settings = replace(SETTINGS, upgrade=policy)
    rollout = {**STEPS, **spec.pop("rollout", {})}  # type: ignore[dict-item]
    world = World(make_deployment(rollout=rollout, **spec), make_model(), nodes, settings=settings)
    world.settle()
    return world


def upgrade_chart(world: World, image: str = NEW) -> None:
    world.settings = replace(world.settings, default_image=image)


def annotate(world: World, **annotations: str | None) -> None:
    metadata = world.deployment.metadata
    keys = {"upgrade": ANNOTATION_UPGRADE, "abort": ANNOTATION_ABORT}
    named = {keys[name]: value for name, value in annotations.items()}
    kept = {k: v for k, v in {**metadata.annotations, **named}.items() if v is not None}
    metadata = metadata.model_copy(update={"annotations": kept})
    world.deployment = world.deployment.model_copy(update={"metadata": metadata})


def accept(world: World) -> None:
    """Do what `skerry upgrade` does."""
    world.turn()
    assert world.status.upgrade is not None
    annotate(world, upgrade=world.status.upgrade.image_set)


def upgraded_world() -> World:
    """A world whose pods run in the image of a later chart, as somebody asked for it."""
    world = make_world()
    upgrade_chart(world)
    world.settle()
    accept(world)
    world.settle()
    return world


def images(world: World) -> set[str]:
    """The images that the pods run in."""
    return {
        one.body["spec"]["template"]["spec"]["containers"][0]["image"]
        for one in world.objects.values()
        if one.ref.kind in {"DaemonSet", "ReplicaSet"}
    }


def ready(world: World) -> tuple[str, str, str]:
    found = next(c for c in world.status.conditions if c.type == ConditionType.READY)
    return found.status, found.reason, found.message


# --- pinned ---


def test_a_new_default_image_changes_nothing_and_is_told_once() -> None:
    world = make_world()
    pods, stable = set(world.pods), world.status.stable_revision
    upgrade_chart(world)
    world.settle()
    assert (set(world.pods), world.status.stable_revision) == (pods, stable)
    status, reason, message = ready(world)
    assert (status, reason) == ("True", "Stable")
    assert f"cpu: {OLD} -> {NEW}" in message
    assert "skerry upgrade digits" in message
    offer = world.status.upgrade
    assert offer is not None
    assert [(one.profile, one.runs, one.offered) for one in offer.images] == [("cpu", OLD, NEW)]
    assert world.events.count("UpgradeOffered") == 1


def test_a_model_only_change_after_it_is_a_swap_in_the_pods_that_run() -> None:
    world = make_world()
    pods = set(world.pods)
    upgrade_chart(world)
    world.settle()
    world.model = make_model("2.0.0")
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert set(world.pods) == pods
    assert images(world) == {OLD}
    assert world.status.upgrade is not None


def test_the_way_back_to_an_earlier_model_is_a_swap_too() -> None:
    world = make_world()
    pods, first = set(world.pods), world.status.stable_revision
    upgrade_chart(world)
    world.model = make_model("2.0.0")
    world.settle()
    world.model = make_model("1.0.0")
    world.settle()
    assert (set(world.pods), world.status.stable_revision) == (pods, first)


def test_another_change_that_needs_new_pods_keeps_the_image_as_well() -> None:
    world = make_world()
    upgrade_chart(world)
    world.change(runtime={"resources": {"cpuRequest": "200m"}})
    world.settle()
    assert images(world) == {OLD}


def test_nodes_that_join_and_hardware_that_is_new_run_in_the_images_of_the_day() -> None:
    world = make_world()
    upgrade_chart(world)
    cuda = NVIDIA.model_copy(update={"image": "registry.example/runtime-cuda:9"})
    world.profiles = tuple(cuda if p.name == cuda.name else p for p in world.profiles)
    world.settle()
    joined = (make_node("n9"), make_node("gpu", having("nvidia.com/gpu")))
    world.nodes = (*world.nodes, *joined)
    world.settle()
    assert set(world.served()) == {"n0", "n1", "n2", "n9", "gpu"}
    assert images(world) == {OLD, "registry.example/runtime-cuda:1"}
    offer = world.status.upgrade
    assert offer is not None
    assert [one.profile for one in offer.images] == ["cpu", "nvidia-gpu"]


def test_an_image_that_a_profile_is_given_later_replaces_no_pod() -> None:
    world = make_world()
    pods = set(world.pods)
    cpu = next(profile for profile in world.profiles if profile.name == "cpu")
    mine = cpu.model_copy(update={"image": NEW})
    world.profiles = tuple(mine if p.name == "cpu" else p for p in world.profiles)
    world.settle()
    world.model = make_model("2.0.0")
    world.settle()
    assert set(world.pods) == pods
    assert world.status.upgrade is not None


def test_an_image_in_the_spec_is_the_users_word() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT, runtime={"image": "mine:1"})
    pods, stable = set(world.pods), world.status.stable_revision
    upgrade_chart(world)
    world.settle()
    assert (set(world.pods), world.status.stable_revision) == (pods, stable)
    assert world.status.upgrade is None


def test_an_image_that_leaves_the_spec_makes_room_for_the_one_that_was_there_before() -> None:
    world = make_world()
    first = world.status.stable_revision
    upgrade_chart(world)
    world.settle()
    world.change(runtime={"image": "mine:1"})
    world.settle()
    world.change(runtime={})
    world.settle()
    assert world.status.stable_revision == first
    assert images(world) == {OLD}


def test_an_image_that_leaves_the_spec_makes_room_for_the_operators_of_today() -> None:
    world = make_world(runtime={"image": "mine:1"})
    upgrade_chart(world)
    world.change(runtime={})
    world.settle()
    assert images(world) == {NEW}


def test_a_wiped_status_pins_what_serves() -> None:
    world = make_world()
    pods, stable = set(world.pods), world.status.stable_revision
    upgrade_chart(world)
    world.deployment = world.deployment.model_copy(update={"status": EdgeDeploymentStatus()})
    world.settle()
    assert (set(world.pods), world.status.stable_revision) == (pods, stable)


def test_a_wrong_image_of_the_first_day_is_corrected_by_the_next_chart() -> None:
    nodes = tuple(make_node(f"n{index}") for index in range(3))
    world = World(make_deployment(rollout=STEPS), make_model(), nodes, broken_images={OLD})
    for _ in range(5):
        world.turn()
    assert not world.served()
    upgrade_chart(world)
    world.settle()
    assert images(world) == {NEW}
    assert set(world.served()) == {"n0", "n1", "n2"}
    assert ready(world)[0] == "True"


def test_a_first_deployment_that_serves_in_part_keeps_its_image() -> None:
    nodes = tuple(make_node(f"n{index}") for index in range(3))
    world = World(make_deployment(rollout=STEPS), make_model(), nodes, broken_units={"n2"})
    world.turn_until(Stage.DEPLOYING)
    for _ in range(3):
        world.turn()
    assert len(world.served()) == 2
    target = world.status.target_revision
    upgrade_chart(world)
    for _ in range(3):
        world.turn()
    assert world.status.target_revision == target
    assert images(world) == {OLD}


# --- asked for ---


def test_it_is_rolled_out_by_steps_when_somebody_asks_for_it() -> None:
    world = make_world()
    first = world.status.stable_revision
    upgrade_chart(world)
    world.settle()
    accept(world)
    world.turn_until(Stage.SOAKING)
    assert images(world) == {OLD, NEW}
    assert world.status.step == "1/2"
    world.settle()
    assert images(world) == {NEW}
    assert world.status.stable_revision not in {first, None}
    assert ready(world)[:2] == ("True", "Stable")
    assert world.status.upgrade is None
    assert world.least_serving == 2


def test_what_was_asked_for_once_does_not_let_later_images_in() -> None:
    world = upgraded_world()
    upgrade_chart(world, NEWER)
    world.settle()
    world.model = make_model("2.0.0")
    world.settle()
    assert images(world) == {NEW}
    assert world.status.upgrade is not None


def test_a_model_after_an_upgrade_is_a_swap_in_the_new_pods() -> None:
    world = upgraded_world()
    pods = set(world.pods)
    annotate(world, upgrade=None)
    world.settle()
    world.model = make_model("2.0.0")
    world.settle()
    assert (set(world.pods), images(world)) == (pods, {NEW})
    world.model = make_model("1.0.0")
    world.settle()
    assert (set(world.pods), images(world)) == (pods, {NEW})


def test_an_image_that_does_not_serve_is_taken_back_to_the_old_one() -> None:
    world = make_world(rollout={"progressDeadline": "60s"})
    first = world.status.stable_revision
    upgrade_chart(world)
    world.settle()
    world.broken_images = {NEW}
    accept(world)
    world.settle()
    assert world.status.stable_revision == first
    assert images(world) == {OLD}
    assert ready(world)[:2] == ("False", "RolledBack")
    assert world.status.upgrade is not None
    assert "`skerry retry digits` tries them again" in world.status.upgrade.message
    assert world.least_serving == 2
    annotate(world, upgrade=None)
    world.settle()
    assert ready(world)[:2] == ("True", "Stable")


def test_an_upgrade_that_a_person_aborts_goes_back() -> None:
    world = make_world()
    upgrade_chart(world)
    world.settle()
    accept(world)
    world.turn_until(Stage.SOAKING)
    annotate(world, abort=world.status.target_revision)
    world.settle()
    assert images(world) == {OLD}
    assert set(world.served()) == {"n0", "n1", "n2"}


def test_an_upgrade_that_is_under_way_goes_on_when_the_word_for_it_goes() -> None:
    world = make_world()
    upgrade_chart(world)
    world.settle()
    accept(world)
    world.turn_until(Stage.SOAKING)
    target = world.status.target_revision
    annotate(world, upgrade=None)
    world.settle()
    assert world.status.stable_revision == target


# --- by the administrator's word ---


def test_a_chart_that_says_so_rolls_a_new_image_out_by_itself() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT)
    upgrade_chart(world)
    world.turn_until(Stage.SOAKING)
    assert images(world) == {OLD, NEW}
    world.settle()
    assert images(world) == {NEW}
    assert world.status.upgrade is None


def test_the_way_back_of_the_chart_is_at_once_as_that_image_was_stable() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT)
    first = world.status.stable_revision
    upgrade_chart(world)
    world.settle()
    upgrade_chart(world, OLD)
    world.turn()
    assert world.status.target_revision == first
    assert world.status.step == "1/1"
    world.settle()
    assert (world.status.stable_revision, images(world)) == (first, {OLD})


def test_a_failed_image_is_not_tried_again_and_the_next_one_is() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT, rollout={"progressDeadline": "60s"})
    world.broken_images = {NEW}
    upgrade_chart(world)
    world.settle()
    assert ready(world)[:2] == ("False", "RolledBack")
    upgrade_chart(world, NEWER)
    world.settle()
    assert images(world) == {NEWER}
    assert ready(world)[0] == "True"


def test_the_spec_of_a_deployment_goes_before_the_chart() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT, rollout={"runtimeUpgrade": "Pinned"})
    upgrade_chart(world)
    world.settle()
    assert images(world) == {OLD}
    assert world.status.upgrade is not None
    assert world.status.upgrade.policy == "Pinned"
    world.change(rollout={**STEPS, "runtimeUpgrade": "Rollout"})
    world.settle()
    assert images(world) == {NEW}


def test_an_image_for_hardware_that_is_not_there_rolls_nothing_out() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT)
    stable, objects = world.status.stable_revision, dict(world.objects)
    cuda = NVIDIA.model_copy(update={"image": "registry.example/runtime-cuda:9"})
    world.profiles = tuple(cuda if p.name == cuda.name else p for p in world.profiles)
    world.settle()
    assert (world.status.stable_revision, world.objects) == (stable, objects)


def test_with_the_next_change_the_new_image_comes_with_the_next_version() -> None:
    world = make_world(RuntimeUpgrade.WITH_NEXT_CHANGE)
    upgrade_chart(world)
    world.settle()
    assert images(world) == {OLD}
    assert "in new pods" in ready(world)[2]
    world.model = make_model("2.0.0")
    world.settle()
    assert images(world) == {NEW}


@pytest.mark.parametrize("policy", RuntimeUpgrade)
def test_an_operator_that_restarts_at_any_moment_decides_the_same(policy: RuntimeUpgrade) -> None:
    world = make_world(policy)
    world.is_suspicious = True
    upgrade_chart(world)
    world.settle()
    accepted = world.status.upgrade
    if accepted is not None:
        annotate(world, upgrade=accepted.image_set)
    world.model = make_model("2.0.0")
    world.settle()
    assert images(world) == {NEW}
    assert set(world.served().values()) == {"2.0.0"}


# --- what was there before ---


def forget_plain_images(world: World) -> None:
    """Make the snapshots what earlier versions wrote: images that are not the default only."""
    for key, one in list(world.objects.items()):
        if one.ref.kind == "ControllerRevision":
            data = {k: v for k, v in one.body["data"].items() if k not in {"images", "imageSet"}}
            world.objects[key] = replace(one, body={**one.body, "data": data})


def test_snapshots_of_earlier_versions_are_pinned_too() -> None:
    world = make_world()
    forget_plain_images(world)
    pods, stable = set(world.pods), world.status.stable_revision
    upgrade_chart(world)
    world.settle()
    assert (set(world.pods), world.status.stable_revision) == (pods, stable)
    world.model = make_model("2.0.0")
    world.settle()
    assert (set(world.pods), images(world)) == (pods, {OLD})
    accept(world)
    world.settle()
    assert images(world) == {NEW}


def test_an_earlier_version_comes_back_at_once_also_in_images_that_came_after_it() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT)
    world.model = make_model("2.0.0")
    world.settle()
    upgrade_chart(world)
    world.settle()
    pods = set(world.pods)
    world.model = make_model("1.0.0")
    world.turn()
    assert world.status.step == "1/1"
    world.settle()
    assert set(world.served().values()) == {"1.0.0"}
    assert (set(world.pods), images(world)) == (pods, {NEW})


def test_a_version_that_is_new_takes_its_steps_after_an_upgrade() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT)
    upgrade_chart(world)
    world.settle()
    world.model = make_model("2.0.0")
    world.turn()
    assert world.status.step == "1/2"


def test_an_image_is_never_taken_for_the_way_back_of_a_version() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT)
    upgrade_chart(world)
    world.turn()
    assert world.status.step == "1/2"


def test_the_start_of_a_rollout_says_why_pods_are_replaced() -> None:
    world = make_world()
    world.model = make_model("2.0.0")
    world.turn()
    assert "pods are replaced" not in str(world.status.rollout.message)
    world.settle()
    upgrade_chart(world)
    accept(world)
    world.turn()
    text = f"pods are replaced: runtime image {OLD} -> {NEW}"
    assert text in str(world.status.rollout.message)
    world.settle()
    world.change(serving={"port": 9000}, runtime={"resources": {"cpuRequest": "200m"}})
    world.turn()
    assert "pods are replaced: requests; serving.port" in str(world.status.rollout.message)


# --- other kinds of deployments, and other images ---


def test_replicas_are_pinned_and_upgraded_like_nodes() -> None:
    world = make_world(placement={"mode": "Replicas", "replicas": 2})
    pods = set(world.pods)
    upgrade_chart(world)
    world.model = make_model("2.0.0")
    world.settle()
    assert (set(world.pods), images(world)) == (pods, {OLD})
    accept(world)
    world.settle()
    assert images(world) == {NEW}
    assert set(world.served().values()) == {"2.0.0"}


def test_the_image_of_a_flavor_is_pinned_and_upgraded_like_the_default_one() -> None:
    world = make_world()
    cpu = next(profile for profile in world.profiles if profile.name == "cpu")
    world = World(
        world.deployment.model_copy(update={"status": EdgeDeploymentStatus()}),
        make_model(),
        world.nodes,
        (cpu.model_copy(update={"flavor": "openvino"}),),
        replace(SETTINGS, flavor_images={"openvino": "ov:1"}),
    )
    world.settle()
    assert images(world) == {"ov:1"}
    world.settings = replace(SETTINGS, default_image=NEW, flavor_images={"openvino": "ov:2"})
    world.model = make_model("2.0.0")
    world.settle()
    assert images(world) == {"ov:1"}
    accept(world)
    world.settle()
    assert images(world) == {"ov:2"}


def test_the_image_of_the_triton_server_is_pinned_also_when_the_chart_has_none_any_more() -> None:
    settings = replace(SETTINGS, triton_image="triton:1")
    deployment = make_deployment(rollout=STEPS, runtime={"engine": "Triton"})
    world = World(deployment, make_model(), (make_node("n0"),), settings=settings)
    world.settle()
    pods = set(world.pods)
    world.settings = SETTINGS
    world.model = make_model("2.0.0")
    world.settle()
    assert (set(world.pods), set(world.served().values())) == (pods, {"2.0.0"})
    world.settings = replace(SETTINGS, triton_image="triton:2")
    world.settle()
    offer = world.status.upgrade
    assert offer is not None
    assert [(one.runs, one.offered) for one in offer.images] == [("triton:1", "triton:2")]
    assert set(world.pods) == pods


def test_what_serves_without_being_stable_is_pinned_too() -> None:
    nodes = tuple(make_node(f"n{index}") for index in range(3))
    world = World(make_deployment(rollout=STEPS), make_model(), nodes, broken_units={"n2"})
    for _ in range(5):
        world.turn()
    upgrade_chart(world)
    world.model = make_model("2.0.0")
    world.turn()
    assert world.status.interim_revision is not None
    world.broken_units = set()
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert images(world) == {OLD}


def test_hardware_that_is_known_no_longer_is_no_reason_for_a_rollout() -> None:
    world = make_world(RuntimeUpgrade.ROLLOUT, placement={"accelerators": ["gpu", "cpu"]})
    stable = world.status.stable_revision
    world.nodes = (*world.nodes, make_node("gpu", having("nvidia.com/gpu")))
    world.settle()
    world.profiles = tuple(p for p in world.profiles if p.name != NVIDIA.name)
    world.settle()
    assert world.status.stable_revision == stable
