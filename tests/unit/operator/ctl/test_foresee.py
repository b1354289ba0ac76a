"""`skerry plan`: what the operator would do, foreseen with its own decisions."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from builders import NOW
from crd_objects import builds, deployment, model
from ctl_objects import node
from skerry_operator.catalogue.profiles import builtin_profiles, extended_profiles
from skerry_operator.ctl.answer import Exit
from skerry_operator.ctl.foresee import (
    UNKNOWN_IMAGE,
    ForeseenNodes,
    Foresight,
    Surroundings,
    as_applied,
    foresee,
    manifest_of,
)
from skerry_operator.ctl.plan_view import exit_of, plan_text

Object = dict[str, Any]
NODES = (node("node-a"), node("node-b", "arm64"))
HARDWARE = ForeseenNodes(builtin_profiles(), "runtime:1")


def in_edge(body: Object) -> Object:
    return manifest_of(body["kind"], body, "edge")


def foreseen(
    deployed: Object | None = None, of: Object | None = None, nodes: Any = NODES
) -> Foresight:
    around = Surroundings(nodes, in_edge(of or model()))
    return foresee(in_edge(deployed or deployment()), around, HARDWARE, NOW)


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
    rows = "[{name: coral, class: npu, resourceNames: [google.com/tpu], image: coral:1}]"
    known = ForeseenNodes(extended_profiles(rows, "test"), "runtime:1")
    with_tpu = node("node-c")
    with_tpu["status"]["allocatable"]["google.com/tpu"] = "1"
    around = Surroundings((with_tpu,), in_edge(model()))
    (cell,) = foresee(in_edge(deployment()), around, known, NOW).cells
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
