"""What Helm, Flux and Argo CD make of every phase, by their own rules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from builders import NOW, make_model
from kstatus import kstatus
from lua import run_lua
from phase_stories import PHASES, Object, as_object, at_rest
from skerry_operator.api.v1alpha1.edgedeployment_status import Phase
from skerry_operator.constants import API_VERSION
from skerry_operator.decide.told.models import assess_model
from world import World

ARGO_CD = Path(__file__).parents[3] / "docs" / "gitops" / "argo-cd"
Story = Callable[[], World]
STORIES = pytest.mark.parametrize("story", PHASES, ids=lambda story: story.__name__)


@functools.cache
def told(story: Story) -> Object:
    return as_object(story())


def health(obj: Object) -> dict[str, str]:
    return run_lua((ARGO_CD / obj["kind"] / "health.lua").read_text(), obj)


@STORIES
def test_the_story_leads_to_its_phase(story: Story) -> None:
    assert told(story).get("status", {}).get("phase") == PHASES[story][0]


@STORIES
def test_kstatus_computes(story: Story) -> None:
    assert kstatus(told(story)) == PHASES[story][1]


@STORIES
def test_argo_cd_shows(story: Story) -> None:
    assert health(told(story))["status"] == PHASES[story][2]


def test_every_phase_has_a_story() -> None:
    assert {phase for phase, _, _ in PHASES.values()} == {None, *Phase}


def test_tools_never_call_healthy_what_the_other_calls_failed() -> None:
    pairs = {(computed, shown) for _, computed, shown in PHASES.values()}
    assert not pairs & {("Failed", "Healthy"), ("Current", "Degraded")}


def test_argo_cd_shows_the_failed_check_with_its_numbers() -> None:
    story = next(story for story in PHASES if story.__name__ == "rolled_back")
    assert "Accuracy 0.21 < 0.95" in health(told(story))["message"]


def test_a_deployment_that_is_being_deleted_is_terminating() -> None:
    obj = told(at_rest)
    gone = obj | {"metadata": obj["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert (kstatus(gone), health(gone)["status"]) == ("Terminating", "Progressing")


def model_object(**spec: object) -> Object:
    model = make_model("1.0.0", **spec)  # type: ignore[arg-type]
    status = assess_model(model, NOW).status.to_dict()
    body = {"metadata": model.metadata.to_dict(), "spec": model.spec.to_dict(), "status": status}
    return {"apiVersion": API_VERSION, "kind": "EdgeModel"} | body


def invalid_model() -> Object:
    source = {"uri": "https://models.example/exam.npz", "sha256": "a" * 64}
    return model_object(golden={"source": source, "threshold": "95"})


def test_a_model_that_is_valid_is_current_and_healthy() -> None:
    obj = model_object()
    assert (kstatus(obj), health(obj)["status"]) == ("Current", "Healthy")


def test_a_model_that_is_invalid_has_failed_and_says_why() -> None:
    obj = invalid_model()
    assert (kstatus(obj), health(obj)["status"]) == ("Failed", "Degraded")
    assert "spec.golden.threshold" in health(obj)["message"]


def test_a_model_that_nobody_looked_at_is_awaited() -> None:
    obj = model_object()
    newer = obj | {"metadata": obj["metadata"] | {"generation": 2}}
    unseen = {key: value for key, value in obj.items() if key != "status"}
    assert {health(one)["status"] for one in (newer, unseen)} == {"Progressing"}
