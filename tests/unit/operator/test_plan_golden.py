"""Whole plans: a fleet with its story in, everything that a reconcile does out."""

from __future__ import annotations

import pytest

from golden import GOLDEN, assert_matches, cases, load_world


@pytest.mark.parametrize("case", cases("plan"))
def test_the_plan_is_the_expected_one(case: str, update_golden: bool) -> None:
    folder = GOLDEN / "plan" / case
    world = load_world(folder / "observed.yaml")
    assert_matches(world.plan(), folder / "expected.yaml", update=update_golden)


@pytest.mark.parametrize("case", cases("plan"))
def test_the_same_observation_gives_the_same_plan(case: str) -> None:
    world = load_world(GOLDEN / "plan" / case / "observed.yaml")
    assert world.plan() == world.plan()
