"""Every short sequence of events is tried: the rules hold after each, and every state ends well.

`SKERRY_MODEL_DEPTH` makes the sequences longer (`make model-check`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

import plan_model
import rollout_model
from model_check import Counterexample, Search, System
from skerry_operator.constants import Reason
from skerry_operator.decide.fleet import seating
from skerry_operator.decide.rollout import engine as rollout
from skerry_operator.decide.rollout.look import Finding, Look
from skerry_operator.decide.rollout.moves import Move
from skerry_operator.manifests.metadata import ref
from skerry_operator.plan import decision, telling
from skerry_operator.plan import deployment as plan_module

MORE = int(os.environ.get("SKERRY_MODEL_DEPTH", "0"))
Patch = Callable[[pytest.MonkeyPatch], None]
Starts = Mapping[str, Any]


def searched(system: System[Any], starts: Starts, depth: int) -> Search[Any]:
    search = Search(system)
    search.explore(starts, depth)
    search.come_to_rest()
    return search


def told(capsys: pytest.CaptureFixture[str], name: str, depth: int, search: Search[Any]) -> None:
    with capsys.disabled():
        figures = f"{search.states} states, {search.transitions} transitions"
        print(f"\n{name}, {depth} events deep: {figures}")  # noqa: T201 (figures for people)


def test_the_engine_keeps_its_rules_in_every_state(capsys: pytest.CaptureFixture[str]) -> None:
    depth = 3 + MORE
    search = searched(rollout_model.EngineSystem(), rollout_model.starts(), depth)
    told(capsys, "engine", depth, search)
    assert search.states > 3000


def test_the_plan_keeps_its_rules_wherever_the_operator_dies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    depth = 2 + MORE
    search = searched(plan_model.PlanSystem(), plan_model.starts(), depth)
    told(capsys, "plan", depth, search)
    assert search.states > 400


# --- the search sees what is wrong: engines that were broken on purpose


def forgets_failures(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rollout, "_hindered", lambda look: None)


def remembers_no_failure(patch: pytest.MonkeyPatch) -> None:
    def fail(look: Look, finding: Finding) -> Move:
        return rollout.go_back(look, finding)

    patch.setattr(rollout, "fail", fail)


def loses_stable(patch: pytest.MonkeyPatch) -> None:
    def gone_back(look: Look, missing: list[Any]) -> Move:
        return Move(replace(look.state, stable=None, target=None), Reason.ROLLED_BACK, "")

    patch.setattr(rollout, "gone_back", gone_back)


def waits_for_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Look, "awaited", ())


def never_resumes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rollout, "observe_soak", lambda look: rollout.stay(look, Reason.SOAKING, ""))
    patch.setattr(Look, "is_overdue", False)


def begins_without_a_build(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rollout, "hold", lambda spec, state, wanted, uncovered: None)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (begins_without_a_build, "without a build"),
        (forgets_failures, " -> "),
        (remembers_no_failure, " -> "),
        (loses_stable, " -> "),
        (waits_for_nobody, " -> "),
        (never_resumes, "circle"),
    ],
)
def test_the_search_finds_an_engine_that(
    broken: Patch, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(Counterexample, match=words):
        searched(rollout_model.EngineSystem(), rollout_model.starts(), 3)


def replaces_all_pods_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seating, "_held", lambda fleet, intent, wish: wish)


def clears_the_snapshot_of_stable(patch: pytest.MonkeyPatch) -> None:
    def superfluous(scene: Any, cells: Any) -> Any:
        stable = scene.transition.state.stable
        name = f"digits-{stable}"
        known = stable in scene.fleet.observed.snapshots
        return (ref("ControllerRevision", name),) if known else ()

    patch.setattr(plan_module, "superfluous_snapshots", superfluous)


def tells_everything_twice(patch: pytest.MonkeyPatch) -> None:
    for module in (plan_module, telling):
        patch.setattr(module, "changed", lambda current, proposed: proposed)


def waits_for_every_turn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Look, "is_overdue", False)


def forgets_what_units_keep(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decision, "keepsake", lambda fleet, unit: None)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (forgets_what_units_keep, "lose"),
        (replaces_all_pods_at_once, "lose their pods"),
        (clears_the_snapshot_of_stable, " -> "),
        (tells_everything_twice, "all write"),
        (waits_for_every_turn, "circle"),
    ],
)
def test_the_search_finds_a_plan_that(
    broken: Patch, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = plan_model.starts()
    broken(monkeypatch)
    with pytest.raises(Counterexample, match=words):
        searched(plan_model.PlanSystem(), starts, 2)
