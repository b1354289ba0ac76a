"""Downloads that take longer than the progress deadline: those that move, drip, and stand still."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import busy, make_deployment, make_model, make_node
from rollout_sim import T0, V1, V2, facts, later, rolling, unit
from skerry_operator.api.v1alpha1.edgedeployment import DownloadLimits, Rollout, Step
from skerry_operator.api.v1alpha1.edgedeployment_status import DownloadStatus, Stage
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.decide.facts import Fetching, UnitFacts
from skerry_operator.decide.rollout.engine import Transition, step
from skerry_operator.decide.told.downloads import download_text, next_download
from skerry_runtime.contract import SwapPhase
from world import World

MIB = 1024 * 1024
SPEC = Rollout(
    steps=(Step(units="1", soak="10s"), Step(units="100%")),
    progress_deadline="60s",
    download=DownloadLimits(deadline="1h"),
)


def fetching(
    moved_s: float | None, mib: float = 1, total: float | None = 4, **more: Any
) -> Fetching:
    return Fetching(
        fetched=int(mib * MIB),
        total=None if total is None else int(total * MIB),
        moved_at=None if moved_s is None else later(moved_s),
        bytes_per_s=more.pop("rate", MIB / 60),
        **more,
    )


def canary(one: Fetching | None) -> UnitFacts:
    return unit("n0", V2, serving=V1, waiting="Fetching", fetching=one)


def looked(at_s: float, *units: UnitFacts) -> Transition:
    return step(SPEC, rolling(progress_at=T0), facts(units, now=later(at_s)))


def test_a_download_that_moves_stops_the_progress_deadline() -> None:
    result = looked(600, canary(fetching(moved_s=595)))
    assert result.state.rollout.stage is Stage.STEPPING
    assert result.reason is Reason.WAITING_FOR_UNITS


def test_one_that_stands_still_runs_into_the_deadline_from_its_last_byte_on() -> None:
    still = canary(fetching(moved_s=600))
    assert looked(659, still).state.rollout.stage is Stage.STEPPING
    result = looked(660, still)
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    assert "no progress for 60s" in result.message


@pytest.mark.parametrize("one", [None, fetching(moved_s=None, mib=0)], ids=["none", "no byte"])
def test_without_a_byte_the_deadline_is_what_it_was(one: Fetching | None) -> None:
    assert looked(59, canary(one)).state.rollout.stage is Stage.STEPPING
    assert looked(60, canary(one)).state.rollout.stage is Stage.ROLLING_BACK


def test_a_source_that_drips_does_not_hold_a_rollout_for_ever() -> None:
    assert looked(3599, canary(fetching(moved_s=3599))).state.rollout.stage is Stage.STEPPING
    result = looked(3600, canary(fetching(moved_s=3599)))
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    message = result.state.failed[0].message
    assert "not fetched within 1h" in message
    for word in ("1.0 of 4.0 MiB (25 %)", "3 min at this rate", "spec.rollout.download.deadline"):
        assert word in message


def test_a_download_deadline_below_the_progress_deadline_makes_nothing_shorter() -> None:
    spec = SPEC.model_copy(update={"download": DownloadLimits(deadline="1s")})
    state, seen = rolling(progress_at=T0), facts([canary(fetching(moved_s=50))], now=later(59))
    assert step(spec, state, seen).state.rollout.stage is Stage.STEPPING


def test_what_comes_after_the_download_has_the_whole_progress_deadline() -> None:
    done = canary(fetching(moved_s=600, mib=4, is_under_way=False))
    done = replace(done, waiting="Probing")
    assert looked(655, done).state.rollout.stage is Stage.STEPPING
    assert looked(660, done).state.rollout.stage is Stage.ROLLING_BACK


def test_the_download_of_a_unit_that_is_not_awaited_stops_nothing() -> None:
    other = replace(canary(fetching(moved_s=70)), name="n1", assigned=V1)
    assert looked(70, canary(None), other).state.rollout.stage is Stage.ROLLING_BACK


def test_numbers_are_written_once_in_ten_seconds() -> None:
    first = next_download(None, [canary(fetching(moved_s=0))], T0)
    assert first == DownloadStatus(
        units=1, fetched_bytes=MIB, total_bytes=4 * MIB, percent=25, seconds_left=180, at=T0
    )
    more = [canary(fetching(moved_s=9, mib=2))]
    assert next_download(first, more, T0 + timedelta(seconds=9.9)) == first
    second = next_download(first, more, T0 + timedelta(seconds=10))
    assert second is not None
    assert second.percent == 50
    assert next_download(second, [canary(None)], later(11)) is None


def test_a_source_that_does_not_tell_its_size_has_bytes_and_no_percentage() -> None:
    found = next_download(None, [canary(fetching(moved_s=0, total=None))], T0)
    assert found is not None
    assert (found.percent, found.seconds_left) == (None, None)
    assert download_text(found) == "1 fetches: 1.0 MiB"


def test_the_condition_says_how_far_the_download_is() -> None:
    world = World(make_deployment(rollout={"progressDeadline": "60s"}), make_model(), nodes())
    world.settle()
    world.model = make_model("2.0.0")
    world.turn()
    target = world.status.target_revision
    assert target is not None
    name, report = next(
        (name, one) for name, one in world.reports.items() if one.assigned == target
    )
    report = busy(target, SwapPhase.FETCHING)(report)
    progress = report.progress
    assert progress is not None
    moving = progress.model_copy(
        update={
            "fetched_bytes": MIB,
            "total_bytes": 4 * MIB,
            "moved_at": world.now.timestamp(),
            "bytes_per_s": MIB / 60,
        }
    )
    world.reports[name] = report.model_copy(
        update={"progress": moving, "now": world.now.timestamp(), "serving": None}
    )
    world.carry_out(world.plan())
    assert world.status.download is not None
    ready = next(one for one in world.status.conditions if one.type == ConditionType.READY)
    assert "1 fetches: 1.0 of 4.0 MiB (25 %), 3 min at this rate" in ready.message
    made = world.plan()
    assert made.status is None


def nodes() -> Any:
    return tuple(make_node(f"n{index}") for index in range(2))
