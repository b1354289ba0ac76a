"""Old documents stay readable, and what a newer version writes does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import newer
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelStatus
from skerry_operator.decide.revision import Snapshot
from skerry_operator.manifests.snapshot import read_snapshot
from skerry_runtime.agent.assignment import parse
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.part import PartInfo
from skerry_runtime.agent.state import NodeState, SlotManifest
from skerry_runtime.contract import Assignment, StatusReport

RECORD = Path(__file__).parents[1] / "record"

Read = Callable[[Any], BaseModel]

DOCUMENTS: dict[str, Read] = {
    "assignment.json": Assignment.model_validate,
    "assignment-line.json": Assignment.model_validate,
    "assignment-tried.json": Assignment.model_validate,
    "report.json": StatusReport.model_validate,
    "report-prefetch.json": StatusReport.model_validate,
    "report-tried.json": StatusReport.model_validate,
    "manifest.json": SlotManifest.model_validate,
    "state.json": NodeState.model_validate,
    "part.json": PartInfo.model_validate,
    "controllerrevision.json": read_snapshot,
    "controllerrevision-images.json": read_snapshot,
}
"""File -> how it is read: each takes news of every kind."""

STATUSES: dict[str, Read] = {
    "edgedeployment-status.json": EdgeDeploymentStatus.model_validate,
    "edgedeployment-status-prefetch.json": EdgeDeploymentStatus.model_validate,
    "edgedeployment-status-scale.json": EdgeDeploymentStatus.model_validate,
    "edgedeployment-status-held.json": EdgeDeploymentStatus.model_validate,
    "edgedeployment-status-upgrade.json": EdgeDeploymentStatus.model_validate,
    "edgemodel-status.json": EdgeModelStatus.model_validate,
}

UNIT, STABLE, TARGET = "node-7", "r1-0a1b2c3d4e", "r1-a0b1c2d3e4"


def recorded(name: str) -> Any:
    return json.loads((RECORD / name).read_text("utf-8"))


def lost(old: Any, now: Any, path: str = "") -> list[str]:
    """Return the places whose value of the record is not there any more."""
    if isinstance(old, dict):
        now = now if isinstance(now, dict) else {}
        return [x for key, value in old.items() for x in lost(value, now.get(key), f"{path}.{key}")]
    if isinstance(old, list) and isinstance(now, list) and len(old) == len(now):
        pairs = enumerate(zip(old, now, strict=True))
        return [x for index, pair in pairs for x in lost(*pair, f"{path}.{index}")]
    return [] if old == now else [path]


@pytest.mark.parametrize("name", [*DOCUMENTS, *STATUSES])
def test_a_document_of_the_record_is_read_without_loss(name: str) -> None:
    document = {**DOCUMENTS, **STATUSES}[name](recorded(name))
    old = recorded(name)["data"] if isinstance(document, Snapshot) else recorded(name)
    assert lost(old, newer.dumped(document)) == []


def _words() -> list[Any]:
    found = [
        (name, path)
        for name, read in DOCUMENTS.items()
        for path in newer.words(read(recorded(name)))
    ]
    return [
        pytest.param(name, path, id=f"{name}:{'.'.join(map(str, path))}") for name, path in found
    ]


def _framed(name: str, raw: Any) -> Any:
    return {**recorded(name), "data": raw} if name.startswith("controllerrevision") else raw


@pytest.mark.parametrize(("name", "path"), _words())
def test_a_word_of_a_newer_version_is_kept_and_costs_nothing_else(
    name: str, path: newer.Path
) -> None:
    before = DOCUMENTS[name](recorded(name))
    raw = newer.with_word(before, path)
    after = DOCUMENTS[name](_framed(name, raw))
    assert newer.dumped(after) == raw


@pytest.mark.parametrize("name", DOCUMENTS)
def test_fields_of_a_newer_version_do_no_harm(name: str) -> None:
    before = DOCUMENTS[name](recorded(name))
    assert DOCUMENTS[name](_framed(name, newer.with_fields(before))) == before


def test_the_record_holds_every_enum_field_of_the_contract() -> None:
    found = {
        str(path[-1])
        for name in ("assignment.json", "report.json")
        for path in newer.words(DOCUMENTS[name](recorded(name)))
    }
    assert found == {"format", "metric", "mode", "swap", "phase", "reason"}


def test_a_unit_reads_its_own_revision_beside_one_that_nobody_can_read() -> None:
    raw = recorded("assignment.json")
    raw["revisions"][TARGET] = {"models": 7}
    reading = parse(json.dumps(raw).encode(), "node-1")
    assert reading.error is None
    assert getattr(reading.order, "revision", None) == STABLE


def test_the_key_of_a_recorded_revision_is_what_it_was() -> None:
    """Else a runtime that is upgraded would forget what it refused."""
    assignment = Assignment.model_validate(recorded("assignment.json"))
    keys = {
        name: Goal(name, content, assignment.execution).key
        for name, content in assignment.revisions.items()
    }
    assert keys == {
        STABLE: "fb65d55d45b5352c5f045970a264223d6f119e7a1af4f14a54bff3785ab14ae0",
        TARGET: "032076e7dd6ec5cb683fe6edf16e164e64b3b85261f910513d1b55278549ea21",
    }


def test_a_unit_says_what_it_cannot_read_of_its_own_revision() -> None:
    raw = recorded("assignment.json")
    raw["revisions"][TARGET]["models"]["digits"]["threads"] = -1
    reading = parse(json.dumps(raw).encode(), UNIT)
    assert reading.order is None
    assert reading.error == (
        f"no valid assignment: revisions.{TARGET}.models.digits.threads = -1: "
        "Input should be greater than or equal to 1"
    )


def test_the_names_of_models_may_change_although_the_data_of_a_revision_may_not() -> None:
    raw = recorded("controllerrevision.json")
    raw["metadata"]["annotations"]["skerry.dev/models"] = "letters"
    assert read_snapshot(raw).model_names == ("letters",)


@pytest.mark.parametrize("names", ["", "a,b", "No Name", "../x"])
def test_names_that_cannot_be_are_those_of_the_first_day(names: str) -> None:
    raw = recorded("controllerrevision.json")
    raw["metadata"]["annotations"]["skerry.dev/models"] = names
    assert read_snapshot(raw).model_names == ("digits",)
