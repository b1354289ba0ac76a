"""What a model's trial found out is shown by cell: its memory, and that it was not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from builders import make_deployment, make_model, make_node
from skerry_operator.api.v1alpha1.edgedeployment_status import CellStatus
from skerry_operator.decide.reported import ReportedMemory
from skerry_operator.plan import plan
from skerry_operator.reports.door import _SaidMemory
from world import World

MIB = 1024 * 1024


def shown(found: Mapping[str, dict[str, Any]]) -> CellStatus:
    """Return the status of the cell when its pods report this of what they serve."""
    nodes = tuple(make_node(name) for name in found)
    world = World(make_deployment(), make_model(), nodes)
    world.settle()
    observed = world.observed()
    reports = dict(observed.reports)
    for name, facts in found.items():
        report = reports[name]
        assert report.serving
        reports[name] = replace(report, serving=replace(report.serving, **facts))
    made = plan(replace(observed, reports=reports), world.profiles, world.settings)
    (cell,) = (made.status or world.status).cells
    return cell


def test_the_largest_need_of_the_pods_is_shown_with_how_it_is_known() -> None:
    cell = shown(
        {
            "a": {"memory": ReportedMemory(40 * MIB, "measured")},
            "b": {"memory": ReportedMemory(41 * MIB + 1, "estimated")},
            "c": {},
        }
    )
    assert cell.memory == "42Mi estimated"


def test_nothing_is_shown_of_pods_that_say_nothing() -> None:
    cell = shown({"a": {}})
    assert (cell.memory, cell.not_tried) == (None, None)


def test_what_kept_a_model_from_its_trial_is_shown_and_cut() -> None:
    cell = shown({"a": {}, "b": {"not_tried": "x" * 5000}})
    assert cell.not_tried
    assert len(cell.not_tried) <= 256


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"declaredBytes": 1, "peakBytes": 2, "estimatedBytes": 3}, ReportedMemory(1, "declared")),
        ({"peakBytes": 2, "estimatedBytes": 3}, ReportedMemory(2, "measured")),
        ({"estimatedBytes": 3, "restingBytes": 1}, ReportedMemory(3, "estimated")),
        ({}, None),
    ],
)
def test_what_was_declared_counts_before_what_was_measured(
    said: dict[str, int], kept: ReportedMemory | None
) -> None:
    assert _SaidMemory.model_validate(said).reduced() == kept
