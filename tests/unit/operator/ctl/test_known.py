"""The plan knows the operator: its profiles, images, settings, and where it may plan otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NOW
from crd_objects import deployment, model
from skerry_operator.catalogue.profiles import builtin_profiles, extended_profiles
from skerry_operator.ctl.answer import Declined
from skerry_operator.ctl.foresee import ForeseenNodes, Foresight, Surroundings, foresee
from skerry_operator.ctl.known import (
    USUAL_PLACE,
    OperatorKnowledge,
    differences,
    out_of_reach,
    read_knowledge,
)
from skerry_operator.ctl.plan_view import plan_json, plan_text
from skerry_runtime import __version__

ROWS = "- {name: reef, class: npu, resourceNames: [reef.example/one], image: reef:1}"
DATA = {
    "version": __version__,
    "SKERRY_RUNTIME_IMAGE": "mirror.example/runtime:7",
    "SKERRY_RUNTIME_IMAGES": "openvino=mirror.example/ov:7",
    "SKERRY_MODEL_PODS": '{"priorityClassName": "edge"}',
    "SKERRY_NAMESPACES": "edge,quay",
    "SKERRY_ADMIN_PEERS": "[]",
    "profiles.yaml": ROWS,
}
NODE = {
    "metadata": {"name": "node-a", "labels": {"kubernetes.io/hostname": "node-a"}},
    "status": {
        "nodeInfo": {"architecture": "amd64"},
        "allocatable": {"cpu": "4", "memory": "8Gi", "reef.example/one": "1"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}


def known(**data: str) -> OperatorKnowledge:
    return read_knowledge(USUAL_PLACE, {"data": {**DATA, **data}})


def foreseen(found: OperatorKnowledge, **nodes: Any) -> Foresight:
    bodies = [
        {**body, "metadata": {**body["metadata"], "namespace": "edge"}}
        for body in (model(), deployment())
    ]
    around = Surroundings([NODE], bodies[0])
    return foresee(bodies[1], around, ForeseenNodes(found.profiles, **nodes), NOW)


def test_a_plan_has_the_profiles_and_the_images_of_the_operator() -> None:
    found = known()
    (cell,) = foreseen(found, settings=found.settings).cells
    assert (cell.profile, cell.image) == ("reef", "reef:1")
    plain = known(**{"profiles.yaml": ""})
    (cell,) = foreseen(plain, settings=plain.settings).cells
    assert (cell.profile, cell.image) == ("cpu", "mirror.example/runtime:7")


def test_what_is_asked_for_goes_before_what_the_operator_has() -> None:
    plain = known(**{"profiles.yaml": ""})
    (cell,) = foreseen(plain, settings=plain.settings, image="mine:1").cells
    assert cell.image == "mine:1"


@pytest.mark.parametrize(
    ("profiles", "image", "version", "words"),
    [
        (None, None, __version__, []),
        (extended_profiles(ROWS, "mine"), "mirror.example/runtime:7", __version__, []),
        (builtin_profiles(), None, __version__, ["--profiles", "reef"]),
        (None, "mine:1", __version__, ["--runtime-image is mine:1", "mirror.example/runtime:7"]),
        (None, None, "9.0.0", ["the operator is 9.0.0", __version__]),
    ],
    ids=["nothing asked for", "the same", "other profiles", "another image", "another version"],
)
def test_where_a_plan_is_not_the_operators_it_says_so(
    profiles: Any, image: str | None, version: str, words: list[str]
) -> None:
    told = " ".join(differences(known(version=version), profiles, image))
    assert bool(told) == bool(words)
    assert all(word in told for word in words)


def test_a_namespace_that_the_operator_does_not_serve_is_told() -> None:
    assert out_of_reach(known(), "edge") == ()
    assert "does not serve namespace hill" in out_of_reach(known(), "hill")[0]
    assert out_of_reach(known(SKERRY_NAMESPACES=""), "hill") == ()


@pytest.mark.parametrize(
    "data",
    [{"SKERRY_RUNTIME_IMAGE": ""}, {"profiles.yaml": "{a: 1}"}, {"SKERRY_MODEL_PODS": "{"},
     {"SKERRY_MODEL_PODS": '{"labels": {"skerry.dev/unit": "x"}}'}],
    ids=["no image", "no profiles", "no JSON", "a key of ours"],
)  # fmt: skip
def test_what_cannot_be_read_is_declined_with_both_versions(data: dict[str, str]) -> None:
    with pytest.raises(Declined, match=f"as new as the operator, {__version__}"):
        known(**data)


def test_a_variable_of_a_newer_operator_does_no_harm() -> None:
    assert known(SKERRY_NEWS="1").settings.default_image == "mirror.example/runtime:7"


def test_the_notes_are_printed_and_given_to_scripts() -> None:
    found = foreseen(known(), notes=("it may plan otherwise",))
    assert "it may plan otherwise" in plan_text(found)
    assert plan_json(found)["notes"] == ["it may plan otherwise"]
