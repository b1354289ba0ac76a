"""What pods have besides: who gets it, who keeps what they have, and who is made anew for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import make_deployment, make_model, make_node
from skerry_operator.api.v1alpha1.edgedeployment_pods import PodExtras
from skerry_operator.cli import build_planner
from skerry_operator.constants import ANNOTATION_EXTRAS, LABEL_DEPLOYMENT, LABEL_MANAGED_BY
from skerry_operator.decide.fleet.renewal import extras_hash
from skerry_operator.decide.revision import revision_of
from skerry_operator.settings import BadSettings, Settings
from world import World

EXTRAS: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "edge",
    "labels": {"team": "harbour"},
    "annotations": {"example.com/bill": "7"},
}
MODES = pytest.mark.parametrize("placement", [{}, {"mode": "Replicas", "replicas": 2}],
                                ids=["PerNode", "Replicas"])  # fmt: skip


def make_world(placement: dict[str, Any], **spec: Any) -> World:
    nodes = (make_node("n1"), make_node("n2"))
    return World(make_deployment(placement=placement, **spec), make_model(), nodes)


def templates(world: World) -> list[dict[str, Any]]:
    kinds = {"DaemonSet", "ReplicaSet"}
    return [o.body["spec"]["template"] for o in world.objects.values() if o.ref.kind in kinds]


@MODES
def test_every_pod_has_what_the_spec_gives(placement: dict[str, Any]) -> None:
    world = make_world(placement, pods=EXTRAS)
    world.settle()
    for template in templates(world):
        assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]
        assert template["spec"]["priorityClassName"] == "edge"
        assert template["metadata"]["labels"]["team"] == "harbour"
        assert template["metadata"]["annotations"]["example.com/bill"] == "7"


def test_without_extras_a_template_is_what_it_always_was() -> None:
    world = make_world({})
    world.settle()
    (template,) = templates(world)
    assert template["metadata"].keys() == {"labels"}
    assert not {"imagePullSecrets", "priorityClassName"} & template["spec"].keys()


def test_the_spec_goes_before_what_the_administrator_gives_all() -> None:
    usual = PodExtras.model_validate(
        {
            "imagePullSecrets": [{"name": "site"}, {"name": "registry"}],
            "priorityClassName": "usual",
            "labels": {"team": "usual", "site": "quay"},
        }
    )
    made = PodExtras.model_validate(EXTRAS).over(usual)
    assert [one.name for one in made.image_pull_secrets] == ["registry", "site"]
    assert made.priority_class_name == "edge"
    assert made.labels == {"site": "quay", "team": "harbour"}
    assert PodExtras().over(usual).priority_class_name == "usual"


@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize("key", [LABEL_MANAGED_BY, LABEL_DEPLOYMENT, "sub.skerry.dev/x"])
def test_our_own_keys_cannot_be_set_whatever_an_older_definition_let_in(
    field: str, key: str
) -> None:
    world = make_world({}, pods={field: {key: "theirs"}})
    world.settle()
    (template,) = templates(world)
    assert "theirs" not in template["metadata"].get(field, {}).values()
    assert template["metadata"]["labels"][LABEL_MANAGED_BY] == "skerry"


def test_what_pods_have_besides_is_no_part_of_the_revision() -> None:
    plain, more = make_deployment(), make_deployment(pods=EXTRAS)
    model = make_model().spec
    assert revision_of(model, plain.spec) == revision_of(model, more.spec)


@MODES
def test_a_change_replaces_no_pod_that_runs_and_rolls_nothing_out(
    placement: dict[str, Any],
) -> None:
    world = make_world(placement)
    world.settle()
    before, started = dict(world.pods), world.status.rollout.started_at
    world.change(pods=EXTRAS)
    world.settle()
    assert world.pods == before
    assert world.status.rollout.started_at == started
    assert all("imagePullSecrets" in one["spec"] for one in templates(world))


@MODES
def test_a_pod_that_never_started_is_made_anew_with_its_pull_secret(
    placement: dict[str, Any],
) -> None:
    world = make_world(placement)
    world.broken_images.add(world.settings.default_image)
    for _ in range(15):
        world.turn()
    born = {name: pod.created_at for name, pod in world.pods.items()}
    assert len(born) == 2
    world.change(pods=EXTRAS)
    for _ in range(3):
        world.turn()
        world.pods = {
            name: replace(pod, extras=extras_hash(PodExtras.model_validate(EXTRAS)))
            if pod.created_at != born.get(name)
            else pod
            for name, pod in world.pods.items()
        }
    assert len(world.pods) == 2
    assert all(pod.created_at != born.get(name) for name, pod in world.pods.items())
    after = {name: pod.created_at for name, pod in world.pods.items()}
    for _ in range(20):
        world.turn()
    assert {name: pod.created_at for name, pod in world.pods.items()} == after


def test_what_the_administrator_gives_all_pods_is_read_from_one_setting() -> None:
    settings = Settings(runtime_image="r:1", model_pods='{"labels": {"team": "quay"}}')  # type: ignore[arg-type]
    build_planner(settings, ())
    assert settings.model_pods == {"labels": {"team": "quay"}}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"priorityClassName": "No"}, "priorityClassName"),
        ({"priority": "edge"}, "priority"),
        ({"labels": {ANNOTATION_EXTRAS: "x"}}, "Skerry's own"),
    ],
    ids=["a wrong name", "an unknown field", "a key of ours"],
)
def test_a_wrong_setting_names_what_is_wrong(given: dict[str, Any], named: str) -> None:
    with pytest.raises(BadSettings, match=named):
        build_planner(Settings(runtime_image="r:1", model_pods=given), ())


# --- what an autoscaler reads ---


def test_replicas_say_how_many_they_are_and_how_they_are_found() -> None:
    world = make_world({"mode": "Replicas", "replicas": 2})
    world.settle()
    assert world.status.replicas == 2
    assert world.status.selector == f"{LABEL_DEPLOYMENT}=digits"


def test_nodes_are_no_replicas() -> None:
    world = make_world({})
    world.settle()
    assert (world.status.replicas, world.status.selector) == (None, None)
