"""The operator dies after every single write of a story, and a new one goes on from the cluster.

A new operator knows nothing but the cluster, so it has only to plan again. Wherever the first one
died, the end must be the same as without a death, and no unit may lose its model on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from builders import make_deployment, make_model, make_node
from documents import with_found
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.observed import ObservedCell
from skerry_runtime.contract import ExamResult, GoldenMetric, StatusReport
from world import World

UNITS = ("n0", "n1", "n2")
STEPS = [{"units": "1", "soak": "3s"}, {"units": "100%", "soak": "3s"}]
ACCURACY = {"interval": "1s", "metrics": [{"name": "GoldenAccuracy", "min": "0.95"}]}
NEW_IMAGE = {"image": "registry.example/skerry-runtime:2"}
LIMIT = 400
"""Looks in which a story must have come to its end."""


@dataclass
class Fleet(World):
    """Three units that say how well each version did in its exam, and an operator that can die."""

    accuracy: dict[str, float] = field(default_factory=dict)
    """Version -> what its exam shows; a version that is not named is perfect."""
    left: int | None = None
    """Writes until the operator dies; None: it does not."""
    written: int = 0
    is_frail: bool = False
    """Every operator lives for one write only."""

    def look(self) -> bool:
        """Look once, carry the plan out, let a second pass; return whether anything is to come."""
        made = self.plan()
        count = len(self.writes(made))
        dies = self.left is not None and count > self.left
        self.carry_out(made, self.left if dies else None)
        self.written += count
        if self.left is not None and not self.is_frail:
            self.left = None if dies else self.left - count
        before = dict(self.pods)
        self.pods_follow()
        self.turn_seconds(1)
        return bool(count or made.watch_units or before != self.pods)

    def finish(self) -> None:
        for _ in range(LIMIT):
            if not self.look():
                return
        raise AssertionError(f"still busy: {self.status.rollout}")

    def _swap(self, unit: str, cell: ObservedCell) -> StatusReport:
        report = super()._swap(unit, cell)
        if report.serving is None:
            return report
        value = self.accuracy.get(report.serving.version, 1.0)
        exam = ExamResult(
            metric=GoldenMetric.ACCURACY, value=value, threshold=0.5, passed=True, samples=100
        )
        served = with_found(report.serving, exam=exam)
        return report.model_copy(update={"serving": served})


def make_fleet() -> Fleet:
    rollout = {"steps": STEPS, "analysis": ACCURACY}
    fleet = Fleet(
        make_deployment(rollout=rollout), make_model(), tuple(make_node(name) for name in UNITS)
    )
    fleet.finish()
    return fleet


def end_of(fleet: Fleet) -> Mapping[str, Any]:
    """Return everything that must not depend on when the operator died: all but the times."""
    status = fleet.status
    return {
        "stable": status.stable_revision,
        "target": status.target_revision,
        "stage": status.rollout.stage,
        "phase": status.phase,
        "failed": [(past.revision, past.reason) for past in status.failed_revisions],
        "history": [past.revision for past in status.history],
        "conditions": [(one.type, one.status, one.reason) for one in status.conditions],
        "units": status.units,
        "served": fleet.served(),
        "objects": {key: one.digest for key, one in sorted(fleet.objects.items())},
        "labels": {name: pod.revision_label for name, pod in sorted(fleet.pods.items())},
    }


def first_deployment(fleet: Fleet) -> None:
    fleet.deployment = make_deployment(rollout={"steps": STEPS, "analysis": ACCURACY})
    fleet.objects, fleet.pods, fleet.reports = {}, {}, {}


def promote(fleet: Fleet) -> None:
    fleet.model = make_model("2.0.0")


def rollback_by_metric(fleet: Fleet) -> None:
    fleet.model = make_model("2.0.0")
    fleet.accuracy["2.0.0"] = 0.21


def rollback_by_unit(fleet: Fleet) -> None:
    fleet.model = make_model("2.0.0")
    fleet.refusals = {(unit, "2.0.0") for unit in UNITS}


def rollback_in_the_last_step(fleet: Fleet) -> None:
    """The first unit likes the target, the others do not."""
    fleet.model = make_model("2.0.0")
    while fleet.status.rollout.stage is not Stage.SOAKING:
        fleet.look()
    late = [unit for unit, version in fleet.served().items() if version != "2.0.0"]
    fleet.refusals = {(late[0], "2.0.0")}


def new_settings(fleet: Fleet) -> None:
    fleet.change(runtime=NEW_IMAGE)


def new_settings_that_fail(fleet: Fleet) -> None:
    fleet.change(runtime=NEW_IMAGE, rollout={"steps": STEPS, "progressDeadline": "20s"})
    fleet.broken_images.add(NEW_IMAGE["image"])


def a_new_version_in_mid_rollout(fleet: Fleet) -> None:
    fleet.model = make_model("2.0.0")
    while fleet.status.rollout.stage is not Stage.SOAKING:
        fleet.look()
    fleet.model = make_model("3.0.0")


def back_to_stable_in_mid_rollout(fleet: Fleet) -> None:
    fleet.model = make_model("2.0.0")
    while fleet.status.rollout.stage is not Stage.SOAKING:
        fleet.look()
    fleet.model = make_model()


def rollback_without_the_model(fleet: Fleet) -> None:
    fleet.model = make_model("2.0.0")
    while fleet.status.rollout.stage is not Stage.SOAKING:
        fleet.look()
    fleet.model = None
    fleet.refusals = {(unit, "2.0.0") for unit in UNITS}


STORIES = (
    first_deployment,
    promote,
    rollback_by_metric,
    rollback_by_unit,
    rollback_in_the_last_step,
    new_settings,
    new_settings_that_fail,
    a_new_version_in_mid_rollout,
    back_to_stable_in_mid_rollout,
    rollback_without_the_model,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_wherever_the_operator_dies_the_end_is_the_same(story: Callable[[Fleet], None]) -> None:
    reference, least = tell(story, None)
    assert reference.written > len(UNITS)
    for writes in range(reference.written):
        fleet, serving = tell(story, writes)
        assert end_of(fleet) == end_of(reference), f"died after {writes} writes"
        assert serving >= least, f"died after {writes} writes"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_operators_that_live_for_one_write_each_come_to_the_same_end(
    story: Callable[[Fleet], None],
) -> None:
    reference, _ = tell(story, None)
    fleet, _ = tell(story, 1, is_frail=True)
    assert end_of(fleet) == end_of(reference)


def tell(
    story: Callable[[Fleet], None], dies_after: int | None, *, is_frail: bool = False
) -> tuple[Fleet, int]:
    """Return the fleet after the story, and how many units served at its worst moment."""
    fleet = make_fleet()
    story(fleet)
    fleet.written, fleet.left, fleet.least_serving = 0, dies_after, len(fleet.served())
    fleet.is_frail = is_frail
    fleet.finish()
    return fleet, fleet.least_serving
