"""Placeholders of a query: what they become, and what can never be put in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import make_deployment, make_model, make_node
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.analysis.queries import TEXT_LIMIT, fill_in, wanted_queries
from world import World

QUERY = 'min(ok{node=~"{{units}}", a="{{namespace}}/{{deployment}}/{{revision}}/{{stable}}"})'
WORDS = {"revision": "v1-2", "stable": "v1-1", "namespace": "edge", "deployment": "digits"}
ROLLOUT = {
    "steps": [{"units": "1", "soak": "60s"}, {"units": "100%", "soak": "5s"}],
    "analysis": {
        "metrics": [{"name": "ovens-ok", "prometheus": {"query": QUERY}, "min": "1"}],
    },
}


def make_world() -> World:
    spec = {"rollout": {**ROLLOUT, "analysis": {}}}
    world = World(make_deployment(**spec), make_model(), (make_node("a"), make_node("b")))
    world.settle()
    world.change(rollout=ROLLOUT)
    return world


def test_nothing_is_asked_while_nothing_is_rolled_out() -> None:
    assert wanted_queries(make_world().observed()) == {}


def test_the_query_of_a_canary_names_its_revision_and_its_units_only() -> None:
    world = make_world()
    stable = world.status.stable_revision
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    (canary,) = [unit for unit, version in world.served().items() if version == "2.0.0"]
    text = wanted_queries(world.observed())[QUERY].text
    target = world.status.target_revision
    assert text == f'min(ok{{node=~"{canary}", a="edge/digits/{target}/{stable}"}})'


def test_nothing_is_asked_while_units_go_back() -> None:
    world = make_world()
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    rollout = world.status.rollout.model_copy(update={"stage": Stage.ROLLING_BACK})
    status = world.status.model_copy(update={"rollout": rollout})
    deployment = world.deployment.model_copy(update={"status": status})
    assert wanted_queries(replace(world.observed(), deployment=deployment)) == {}


def test_a_dot_in_a_name_is_a_dot_in_the_pattern_of_units() -> None:
    found = fill_in('x{n=~"{{units}}"}', WORDS, ["a.example", "b"])
    assert found.text == 'x{n=~"a[.]example|b"}'


@pytest.mark.parametrize("name", ['a"} or up{x="', "a\\", "a`", "a\n", "a{", "a|b"])
def test_a_name_that_could_end_a_string_is_never_put_in(name: str) -> None:
    for found in (
        fill_in(QUERY, {**WORDS, "revision": name}, ["a"]),
        fill_in(QUERY, WORDS, [name]),
    ):
        assert found.text == ""
        assert "cannot stand in a query" in found.problem


def test_what_a_placeholder_gives_is_not_looked_at_again() -> None:
    assert fill_in("{{{{units}}}}", WORDS, ["a"]).problem.startswith("{{{{units}} is none of")


def test_an_unknown_placeholder_is_named() -> None:
    assert fill_in("up{{node}}", WORDS, ["a"]).problem.startswith("{{node}} is none of revision")


def test_more_units_than_a_query_can_hold_are_refused_with_the_remedy() -> None:
    found = fill_in(QUERY, WORDS, ["n" * 60] * (TEXT_LIMIT // 60))
    assert found.text == ""
    assert "use {{deployment}}" in found.problem
