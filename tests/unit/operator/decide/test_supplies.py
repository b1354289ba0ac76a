"""Secrets of sources against swaps in place: who needs a new pod for one, and who does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builders import PROFILES, labelled, make_deployment, make_model, make_node, make_variant
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.replaced import why_replaced
from skerry_operator.decide.supplies import MAX_SUPPLIES, own_supplies, supplies_for
from skerry_operator.manifests.supplies import mounts, supplies_of, volumes
from skerry_operator.plan.wanted import wanted_snapshot
from unit.operator.manifests.test_pod_security import make_template, pod_of
from world import SETTINGS, World

STEPS = {"steps": [{"units": "1", "soak": "10s"}, {"units": "100%", "soak": "10s"}]}


def model(version: str, secret: str = "", golden_secret: str = "") -> EdgeModel:
    spec: dict[str, Any] = {}
    variant = make_variant(version=version)
    if secret:
        variant["source"]["secretRef"] = {"name": secret}
    if golden_secret:
        source = {"uri": "https://models.example/golden.npz", "sha256": "a" * 64}
        spec["golden"] = {
            "source": {**source, "secretRef": {"name": golden_secret}},
            "threshold": "0.9",
        }
    return make_model(version, variant, **spec)


def make_world(first: EdgeModel, units: int = 3) -> World:
    nodes = tuple(make_node(f"n{index}", labelled(site="harbour")) for index in range(units))
    spec = {"placement": {"siteLabel": "site"}, "rollout": STEPS}
    world = World(make_deployment(**spec), first, nodes)
    world.settle()
    return world


def roll(world: World, wanted: EdgeModel) -> set[str]:
    """Roll out, and return the pods that were made for it."""
    before = set(world.pods)
    world.model = wanted
    world.settle()
    return set(world.pods) - before


def secrets(world: World) -> set[str]:
    found = {name for one in world.observed().templates for name in one.supplies}
    return {name.removeprefix("secret/") for name in found}


def test_a_secret_that_is_new_to_a_deployment_means_new_pods_one_at_a_time() -> None:
    world = make_world(model("1.0.0"))
    made = roll(world, model("2.0.0", "s3"))
    assert (len(made), set(world.served().values())) == (3, {"2.0.0"})
    assert world.least_serving == 2
    assert secrets(world) == {"s3"}


def test_why_pods_are_replaced_is_told_by_the_name_of_the_secret() -> None:
    world = make_world(model("1.0.0"))
    assert why(world, model("2.0.0", "s3")) == {"secret s3 of a source"}
    assert why(world, in_volume("2.0.0", "models")) == {"claim models of a source"}
    assert why(world, model("2.0.0")) == set()
    roll(world, model("2.0.0", "s3"))
    assert why(world, model("3.0.0", "s3")) == set()
    assert why(world, model("1.0.0")) == set()


def why(world: World, wanted: EdgeModel) -> set[str]:
    """What would be said of the pods that a model replaces."""
    observed = replace(world.observed(), model=wanted)
    snapshot = wanted_snapshot(observed, PROFILES, SETTINGS)
    fleet = Fleet(observed, PROFILES, {**observed.snapshots, snapshot.revision: snapshot})
    cells = fleet.place(snapshot.revision).cells
    return {told for cell in cells for told in why_replaced(fleet, snapshot.revision, cell)}


def test_the_next_version_behind_the_same_secret_is_swapped_in_place() -> None:
    world = make_world(model("1.0.0", "s3"))
    assert roll(world, model("2.0.0", "s3")) == set()
    assert set(world.served().values()) == {"2.0.0"}


def test_a_version_that_needs_no_secret_any_more_is_swapped_in_place() -> None:
    world = make_world(model("1.0.0", "s3"))
    assert roll(world, model("2.0.0")) == set()
    assert roll(world, model("3.0.0")) == set()
    assert set(world.served().values()) == {"3.0.0"}


def test_going_back_past_a_new_secret_needs_no_new_pod() -> None:
    world = make_world(model("1.0.0", "old"))
    roll(world, model("2.0.0", "new"))
    assert secrets(world) == {"old", "new"}
    assert roll(world, model("1.0.0", "old")) == set()
    assert set(world.served().values()) == {"1.0.0"}


def test_a_refused_canary_goes_back_in_the_pod_that_was_made_for_it() -> None:
    world = make_world(model("1.0.0"))
    world.refusals = {(f"n{index}", "2.0.0") for index in range(3)}
    made = roll(world, model("2.0.0", "s3"))
    assert world.status.phase == "RolledBack"
    assert set(world.served().values()) == {"1.0.0"}
    assert len(made) == 1
    assert roll(world, model("3.0.0")) == set()


def test_the_secret_of_an_exam_counts_as_one_of_the_model() -> None:
    world = make_world(model("1.0.0", "s3", "exams"))
    assert secrets(world) == {"s3", "exams"}


def in_volume(version: str, claim: str) -> EdgeModel:
    variant = make_variant(version=version)
    variant["source"]["uri"] = f"pvc://{claim}/digits/{version}.onnx"
    return make_model(version, variant)


def test_a_claim_means_new_pods_which_mount_it_read_only_and_the_way_back_none() -> None:
    world = make_world(model("1.0.0"))
    assert len(roll(world, in_volume("2.0.0", "models"))) == 3
    assert world.least_serving == 2
    assert secrets(world) == {"claim/models"}
    assert roll(world, in_volume("2.1.0", "models")) == set()
    assert roll(world, model("1.0.0")) == set()
    (volume,) = volumes(("claim/models",))
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    (mount,) = mounts(("claim/models",))
    assert mount["mountPath"] == "/mnt/skerry-claims/models"
    assert mount["readOnly"] is True


def test_a_pod_mounts_no_claim_that_only_another_revision_needs() -> None:
    world = make_world(in_volume("1.0.0", "old"), units=1)
    roll(world, in_volume("2.0.0", "new"))
    assert secrets(world) == {"claim/new"}


def test_every_file_and_the_exam_are_told_which_secret_is_theirs_and_others_of_none() -> None:
    wanted = model("1.0.0", "s3", "exams")
    spec = wanted.spec.to_dict()
    beside = {"path": "w.bin", "uri": "https://models.example/w.bin", "sha256": "b" * 64}
    spec["variants"][0]["source"]["files"] = [beside]
    for given, secrets_of in ((make_model("1.0.0", **spec_of(spec)), "s3"), (model("1.0.0"), None)):
        world = make_world(given, units=1)
        (cell,) = world.observed().cells
        (content,) = cell.assignment.revisions.values()
        assert {file.secret for file in content.model.files} == {secrets_of}
        if content.model.golden:
            assert {content.model.golden.secret} == {"exams"}


def spec_of(spec: dict[str, Any]) -> dict[str, Any]:
    return {"variants": spec["variants"], "golden": spec["golden"]}


def test_a_model_without_secrets_makes_the_pods_that_it_always_made() -> None:
    world = make_world(model("1.0.0"))
    (template,) = world.observed().templates
    assert template.supplies == ()
    assert make_template().supplies is None


def test_a_missing_secret_keeps_no_pod_from_starting_and_is_read_again_from_the_pods() -> None:
    supplies = ("secret/a.b", "secret/z")
    spec = {"volumes": [{"name": "tmp", "emptyDir": {}}, *volumes(supplies)]}
    assert all(one["secret"]["optional"] is True for one in volumes(supplies))
    assert [one["mountPath"] for one in mounts(supplies)] == [
        "/etc/skerry-sources/a.b",
        "/etc/skerry-sources/z",
    ]
    assert supplies_of(spec) == supplies
    assert supplies_of(pod_of(make_template())) == ()


def test_a_pod_mounts_no_more_than_it_may_and_its_own_first() -> None:
    many = [snapshot(f"s{index:03}") for index in range(2 * MAX_SUPPLIES)]
    own = snapshot("zzz")
    found = supplies_for(own, many)
    assert len(found) == MAX_SUPPLIES
    assert own_supplies(own) <= set(found)


def snapshot(secret: str) -> Any:
    world = make_world(model("1.0.0", secret), units=1)
    return next(iter(world.observed().snapshots.values()))
