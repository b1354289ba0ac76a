"""`skerry plan`: what the operator would do, foreseen with its own decisions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from builders import NOW
from crd_objects import builds, deployment, model
from ctl_objects import node
from owned import BOOK
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment, RuntimeUpgrade
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.catalogue.profiles import builtin_profiles, extended_profiles
from skerry_operator.ctl import files
from skerry_operator.ctl.answer import Exit
from skerry_operator.ctl.files import PlanWish
from skerry_operator.ctl.foresee import (
    UNKNOWN_IMAGE,
    ForeseenNodes,
    Foresight,
    Surroundings,
    as_applied,
    foresee,
    manifest_of,
)
from skerry_operator.ctl.plan_view import exit_of, plan_json, plan_text
from skerry_operator.decide.images import ImageSet
from skerry_operator.kube.read import node_entry
from skerry_operator.plan import PlanSettings
from world import SETTINGS, World

Object = dict[str, Any]
NODES = (node("node-a"), node("node-b", "arm64"))
UID = {"uid": "uid-1", "generation": 1}
HARDWARE = ForeseenNodes(builtin_profiles(), "runtime:1")
CORAL = "[{name: coral, class: npu, resourceNames: [google.com/tpu], image: coral:1}]"
KNOWN_CORAL = ForeseenNodes(extended_profiles(CORAL, "test"), "runtime:1")


def in_edge(body: Object) -> Object:
    return manifest_of(body["kind"], body, "edge")


def foreseen(
    deployed: Object | None = None, of: Object | None = None, nodes: Any = NODES
) -> Foresight:
    around = Surroundings(nodes, in_edge(of or model()))
    return foresee(in_edge(deployed or deployment()), around, HARDWARE, NOW)


def test_a_plan_says_how_it_stands_with_the_windows() -> None:
    windows = [{"start": "02:00", "duration": "2h", "timeZone": "Europe/Berlin"}]
    found = foreseen(deployment(rollout={"windows": windows}))
    assert "windows shut until 2026-11-24 02:00 CET (Europe/Berlin)" in plan_text(found)
    assert plan_json(found)["windows"] == found.windows
    assert "windows" not in plan_text(foreseen())


def test_every_architecture_is_a_cell_with_its_image() -> None:
    cells = [(cell.name, cell.units, cell.image, cell.change) for cell in foreseen().cells]
    assert cells == [
        ("digits-cpu-amd64", 1, "runtime:1", "new pods"),
        ("digits-cpu-arm64", 1, "runtime:1", "new pods"),
    ]


def test_all_objects_of_a_first_deployment_are_created() -> None:
    objects = foreseen().objects
    assert {name.partition("/")[0] for name in objects["created"]} == {
        "ConfigMap",
        "ControllerRevision",
        "DaemonSet",
        "Service",
    }
    assert objects["changed"] == objects["unchanged"] == objects["removed"] == ()


def test_a_node_that_cannot_take_the_model_is_named_with_its_reason() -> None:
    found = foreseen(of=model(variants=[builds() | {"memory": "64Gi"}]))
    assert [one.reason for one in found.rejected] == ["InsufficientMemory"] * 2
    assert exit_of(found) is Exit.NO_NODE


def test_a_selector_that_no_node_matches_is_no_invalid_input() -> None:
    found = foreseen(deployment(placement={"nodeSelector": {"site": "moon"}}))
    assert exit_of(found) is Exit.NO_NODE
    assert "no node has the labels" in plan_text(found)


@pytest.mark.parametrize(
    ("deployed", "of", "why"),
    [
        (deployment(modelRef={"name": "other"}), model(), "ModelNotFound"),
        (deployment(), model(variants=[builds(), builds()]), "ModelInvalid"),
        (deployment(placement={"accelerators": ["tpu"]}), model(), "InvalidSpec"),
    ],
)
def test_what_hinders_the_operator_makes_the_input_invalid(
    deployed: Object, of: Object, why: str
) -> None:
    found = foreseen(deployed, of)
    assert exit_of(found) is Exit.REFUSED
    assert why in plan_text(found)


def test_profiles_of_the_chart_are_hardware_too() -> None:
    with_tpu = node("node-c")
    with_tpu["status"]["allocatable"]["google.com/tpu"] = "1"
    around = Surroundings((with_tpu,), in_edge(model()))
    (cell,) = foresee(in_edge(deployment()), around, KNOWN_CORAL, NOW).cells
    assert (cell.profile, cell.image) == ("coral", "coral:1")


def test_an_image_that_nobody_names_is_called_the_operators() -> None:
    known = ForeseenNodes(builtin_profiles())
    found = foresee(in_edge(deployment()), Surroundings(NODES, in_edge(model())), known, NOW)
    assert {cell.image for cell in found.cells} == {UNKNOWN_IMAGE}


def test_what_people_set_by_command_survives_an_apply() -> None:
    existing = in_edge(deployment(rollout={"retry": "again", "paused": True, "failureLimit": 1}))
    existing["metadata"]["uid"] = "uid-1"
    applied = as_applied(in_edge(deployment(rollout={"paused": False})), existing)
    assert applied["spec"]["rollout"] == {"retry": "again", "paused": False}
    assert applied["metadata"]["uid"] == "uid-1"


def test_foreseeing_changes_nothing_that_it_was_given() -> None:
    deployed, around = in_edge(deployment()), Surroundings(NODES, in_edge(model()))
    before = copy.deepcopy((deployed, around))
    foresee(deployed, around, HARDWARE, NOW)
    assert (deployed, around) == before


def settled_around(
    nodes: Any,
    of: Object,
    wanted: Object,
    deployed: Object,
    known: ForeseenNodes = KNOWN_CORAL,
    applied: Object | None = None,
) -> Foresight:
    """What is foreseen of another model where the first one serves everywhere."""
    parsed = [node_entry(one).value for one in nodes]
    world = World(
        EdgeDeployment.model_validate(deployed | {"metadata": deployed["metadata"] | UID}),
        EdgeModel.model_validate(of),
        tuple(parsed),
        KNOWN_CORAL.profiles,
    )
    world.settle()
    existing = deployed | {"status": world.status.to_dict()}
    existing["metadata"] = {**existing["metadata"], **UID}
    children: dict[str, list[Object]] = {}
    for one in world.objects.values():
        metadata = {"uid": f"uid-{one.ref.name}", **one.body["metadata"], "managedFields": [BOOK]}
        children.setdefault(one.ref.kind, []).append({**one.body, "metadata": metadata})
    around = Surroundings(nodes, in_edge(wanted), existing, children)
    return foresee(applied or deployed, around, known, NOW)


@pytest.mark.parametrize(
    ("policy", "change", "why"),
    [
        ("Pinned", "swapped in place", ""),
        ("WithNextChange", "pods are replaced", f"runtime image {SETTINGS.default_image} -> new:1"),
        ("Rollout", "pods are replaced", f"runtime image {SETTINGS.default_image} -> new:1"),
    ],
)
def test_a_plan_says_what_another_image_of_the_operator_does_to_pods(
    policy: str, change: str, why: str
) -> None:
    settings = PlanSettings("new:1", upgrade=RuntimeUpgrade(policy))
    known = ForeseenNodes(KNOWN_CORAL.profiles, settings=settings)
    deployed = in_edge(deployment())
    found = settled_around(NODES, model(), model(version="2.0.0"), deployed, known)
    assert {(cell.change, cell.why) for cell in found.cells} == {(change, why)}
    text = plan_text(found)
    assert "the operator has other runtime images (cpu: " in text
    assert why in text
    assert "new:1" in plan_json(found)["upgrade"]


def test_an_image_that_the_operator_did_not_tell_is_none_that_pods_are_offered() -> None:
    known = ForeseenNodes(KNOWN_CORAL.profiles)
    deployed = in_edge(deployment())
    found = settled_around(NODES, model(), model(version="2.0.0"), deployed, known)
    assert found.upgrade == ""
    assert {cell.change for cell in found.cells} == {"swapped in place"}


def test_a_plan_says_what_a_chart_would_offer_and_what_asking_for_it_would_do() -> None:
    wish = ForeseenNodes(KNOWN_CORAL.profiles, "new:1", settings=SETTINGS)
    deployed = in_edge(deployment())
    offered = settled_around(NODES, model(), model(), deployed, wish)
    assert "skerry upgrade digits" in plan_text(offered)
    assert {cell.change for cell in offered.cells} == {"as it is"}
    key = ImageSet("new:1", {"coral": "coral:1"}).key
    asked = copy.deepcopy(deployed)
    asked["metadata"]["annotations"] = {"skerry.dev/upgrade": key}
    taken = settled_around(NODES, model(), model(), deployed, wish, asked)
    assert {cell.change for cell in taken.cells} == {"pods are replaced"}


def test_a_plan_names_the_setting_that_takes_pods_away() -> None:
    known = ForeseenNodes(KNOWN_CORAL.profiles, settings=SETTINGS)
    changed = in_edge(deployment(serving={"port": 9000}))
    before = settled_around(NODES, model(), model(), in_edge(deployment()), known)
    assert {cell.why for cell in before.cells} == {""}
    assert "WHY NEW PODS" not in plan_text(before)
    found = settled_around(NODES, model(), model(), in_edge(deployment()), known, changed)
    assert {cell.why for cell in found.cells} == {"serving.port"}
    assert "WHY NEW PODS" in plan_text(found)


@pytest.mark.parametrize(
    ("policy", "code", "fate"),
    [
        ("Hold", Exit.NOT_READY, "keeps what it has"),
        ("Exclude", Exit.OK, "keeps what it has"),
        ("Allow", Exit.OK, "loses its model"),
    ],
)
def test_units_without_a_build_are_named_before_anything_is_done(
    policy: str, code: Exit, fate: str
) -> None:
    with_coral = node("node-c")
    with_coral["status"]["allocatable"]["google.com/tpu"] = "1"
    found = settled_around(
        (with_coral, node("node-a")),
        model(),
        model(version="2.0.0", variants=[builds() | {"runsOn": ["npu"]}]),
        in_edge(deployment(rollout={"onUncovered": policy})),
    )
    text = plan_text(found)
    assert exit_of(found) is code
    assert [one.name for one in found.uncovered] == ["node-a"]
    assert plan_json(found)["uncoveredUnits"][0]["unit"] == "node-a"
    assert fate in text
    assert "NoVariantFor" in text
    assert ("UnitsUncovered" in text) is (policy == "Hold")


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ((Exit.OK, Exit.NOT_READY), Exit.NOT_READY),
        ((Exit.NOT_READY, Exit.NO_NODE), Exit.NO_NODE),
        ((Exit.OK, Exit.OK), Exit.OK),
    ],
)
def test_of_several_plans_the_worst_decides_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: tuple[Exit, ...], worst: Exit
) -> None:
    class Planned:
        def __init__(self, *_: object) -> None:
            pass

        def foresights(self) -> tuple[Exit, ...]:
            return codes

    monkeypatch.setattr(files, "_Planner", Planned)
    monkeypatch.setattr(files, "exit_of", lambda code: code)
    monkeypatch.setattr(files, "plan_text", str)
    file = tmp_path / "other.json"
    file.write_text('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}')
    assert files.plan([str(file)], PlanWish(None, None, None, None, None), None, NOW).code is worst
