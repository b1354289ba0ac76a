"""What a newer or older operator wrote into a status: nothing is lost but what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import CPU, NOW, make_deployment, make_model, make_node, make_variant
from json_paths import at, leaves, put
from skerry_operator.api.base import Condition, ConditionStatus, KubeModel
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelStatus
from skerry_operator.decide.facts import Assessment, RolloutFacts, Verdict
from skerry_operator.decide.revision import revision_of
from skerry_operator.decide.rollout.state import EngineState
from skerry_operator.decide.told.conditions import Standing, conditions
from world import World

RECORD = Path(__file__).parents[3] / "record"
DEPLOYMENT = json.loads((RECORD / "edgedeployment-status.json").read_text())
MODEL = json.loads((RECORD / "edgemodel-status.json").read_text())
LATER = [json.loads(path.read_text()) for path in RECORD.glob("edgedeployment-status-*.json")]
"""What was added to the status after the record was made, each with its own document."""
NEWS = ("ANewWord", "x" * 5000, 10**30, -1, {"a": 1}, ["a"], None, True, "9999-12-31T23:59:59Z")
"""Values of which at least some are of no use in any field."""
ENGINE = ("stableRevision", "targetRevision", "failedRevisions", "history", "rollout")


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (EdgeDeploymentStatus, DEPLOYMENT),
        (EdgeModelStatus, MODEL),
        *((EdgeDeploymentStatus, one) for one in LATER),
    ],
)
def test_what_today_s_operator_wrote_is_read_and_written_the_same(
    kind: type[KubeModel], document: dict[str, Any]
) -> None:
    assert kind.model_validate(document).to_dict() == document


@pytest.mark.parametrize(
    ("kind", "documents"),
    [(EdgeDeploymentStatus, [DEPLOYMENT, *LATER]), (EdgeModelStatus, [MODEL])],
)
def test_the_record_has_every_field_of_the_type(
    kind: type[KubeModel], documents: list[dict[str, Any]]
) -> None:
    lacking = []
    for document in documents:
        written = kind.model_validate(document).model_dump(mode="json", by_alias=True)
        lacking.append({path for path in leaves(written) if path and at(written, path) is None})
    assert not set.intersection(*lacking)


@pytest.mark.parametrize(
    ("kind", "document"), [(EdgeDeploymentStatus, DEPLOYMENT), (EdgeModelStatus, MODEL)]
)
def test_any_value_at_any_place_is_read_over(
    kind: type[KubeModel], document: dict[str, Any]
) -> None:
    for path in leaves(document):
        for news in NEWS:
            changed = put(document, path, news)
            read = kind.model_validate(changed).to_dict()
            others = {name: part for name, part in document.items() if name != path[0]}
            assert {name: read[name] for name in others} == others, (path, news)


def test_what_is_only_shown_costs_the_engine_nothing() -> None:
    state = EngineState.from_status(EdgeDeploymentStatus.model_validate(DEPLOYMENT))
    for path in leaves(DEPLOYMENT):
        if path[0] not in ENGINE:
            for news in NEWS:
                read = EdgeDeploymentStatus.model_validate(put(DEPLOYMENT, path, news))
                assert EngineState.from_status(read) == state, (path, news)


def test_a_failed_revision_is_remembered_whatever_else_its_entry_says() -> None:
    for path in leaves(DEPLOYMENT["failedRevisions"][0]):
        if path == ("revision",):
            continue
        for news in NEWS:
            changed = put(DEPLOYMENT, ("failedRevisions", 0, *path), news)
            read = EdgeDeploymentStatus.model_validate(changed)
            known = [entry["revision"] for entry in DEPLOYMENT["failedRevisions"]]
            assert [entry.revision for entry in read.failed_revisions] == known, (path, news)


def test_a_rollout_goes_on_though_one_of_its_fields_is_news() -> None:
    for path in leaves(DEPLOYMENT["rollout"]):
        for news in NEWS:
            changed = put(DEPLOYMENT, ("rollout", *path), news)
            read = EdgeDeploymentStatus.model_validate(changed).to_dict()["rollout"]
            others = {n: part for n, part in DEPLOYMENT["rollout"].items() if n != path[0]}
            assert {name: read[name] for name in others} == others, (path, news)


def test_new_fields_at_every_object_are_read_over() -> None:
    for path in ((), *leaves(DEPLOYMENT)):
        if isinstance(at(DEPLOYMENT, path), dict):
            changed = put(DEPLOYMENT, (*path, "aNewField"), {"deep": [1]})
            assert EdgeDeploymentStatus.model_validate(changed).to_dict() == DEPLOYMENT


def test_a_phase_that_only_a_newer_operator_knows_is_shown_as_it_is() -> None:
    read = EdgeDeploymentStatus.model_validate({**DEPLOYMENT, "phase": "Optimizing"})
    assert read.phase == "Optimizing"
    assert read.to_dict()["phase"] == "Optimizing"


def test_a_list_that_is_longer_than_ours_is_cut_and_not_dropped() -> None:
    entries = [{**DEPLOYMENT["failedRevisions"][0], "revision": f"v1-{n}"} for n in range(40)]
    read = EdgeDeploymentStatus.model_validate({**DEPLOYMENT, "failedRevisions": entries})
    assert [entry.revision for entry in read.failed_revisions] == [f"v1-{n}" for n in range(20)]


def test_a_reason_of_a_condition_that_only_a_newer_operator_knows_stops_no_decision() -> None:
    old = Condition(
        type="Placed",
        status=ConditionStatus.TRUE,
        reason="PlacedByTwin",
        last_transition_time=NOW,
    )
    facts = RolloutFacts(NOW, "", (), Assessment(Verdict.RUNNING, ""))
    made = conditions((old,), Standing(1, facts, None))
    assert [one.reason for one in made if one.type == "Placed"] == ["PlacedByTwin"]


def test_a_failure_that_only_a_newer_operator_knows_stops_no_decision() -> None:
    world = World(make_deployment(), make_model(), (make_node("n"),), profiles=(CPU,))
    world.settle()
    world.model = make_model("2.0.0", make_variant(version="2"))
    target = revision_of(world.model.spec, world.deployment.spec)
    failed = {"revision": target, "reason": "SignatureFailed", "message": "no key"}
    rollout = {"stage": "Paused", "pausedAt": "2026-11-23T11:00:00Z"}
    raw = world.status.to_dict() | {"targetRevision": target, "failedRevisions": [failed]}
    status = EdgeDeploymentStatus.model_validate({**raw, "rollout": rollout})
    world.deployment = world.deployment.model_copy(update={"status": status})
    made = world.plan()
    assert made.status
    ready = next(one for one in made.status.conditions if one.type == "Ready")
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, "UnitFailed")
    assert "no key" in ready.message
