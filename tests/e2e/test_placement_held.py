"""Serving is serving: a slip of the spec takes nothing from real pods that answer."""

from __future__ import annotations

from e2e.lab import Lab


def test_a_selector_that_matches_nothing_is_held_and_taken_back_without_a_gap(lab: Lab) -> None:
    lab.start_stable()
    pods = lab.pods()
    lab.apply(lab.deployment(placement={"nodeSelector": {"example.org/nobody": "has-me"}}))
    held = lambda: lab.condition("Stalled")[1] == "PlacementHeld"  # noqa: E731
    lab.wait(held, "the change is held")
    assert "would leave 0 of 3 units that serve" in lab.condition("Ready")[2]
    assert lab.condition("Available")[:2] == ("True", "Serving")
    assert lab.status().units_text == "3/3"
    lab.apply(lab.deployment())
    lab.wait_stable(lab.index.model("v1").version)
    assert lab.condition("Available")[0] == "True"
    assert lab.pods() == pods
    lab.wait_event("PlacementHeld", "allowShrink")


def test_a_target_that_fits_no_node_leaves_what_serves_available(lab: Lab) -> None:
    pods = lab.pods()
    lab.apply(lab.model("v2", runsOn=["rockchip-rknpu"]))
    unfit = lambda: lab.condition("Ready")[0] == "False"  # noqa: E731
    lab.wait(unfit, "nothing begins")
    assert lab.condition("Available")[:2] == ("True", "Serving")
    assert lab.status().units_text == "3/3"
    lab.apply(lab.model("v1"))
    lab.wait_stable(lab.index.model("v1").version)
    assert lab.pods() == pods
