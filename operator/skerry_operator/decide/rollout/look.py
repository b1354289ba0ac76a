"""One look at a rollout: who was asked, who serves, who refuses, how much time is left.

Everything here is derived from the spec, the state and the facts, and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgedeployment import DEFAULT_STEPS, OnUncovered, Rollout, Step
from skerry_operator.api.v1alpha1.edgedeployment_status import FailedRevision, Stage
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import Assessment, RolloutFacts, UnitFacts, Verdict
from skerry_operator.decide.rollout.choose import choose, covers_cells, uncovered_cells
from skerry_operator.decide.rollout.downloads import remedy
from skerry_operator.decide.rollout.naming import by_text, described
from skerry_operator.decide.rollout.state import MEASURED_STAGES, EngineState
from skerry_operator.decide.windows import WindowOutlook, outlook, time_open
from skerry_runtime.contract import SwapPhase

EVERYONE = "100%"
DEFAULT_SOAK = "60s"


@dataclass(frozen=True)
class Finding:
    """Something that was found out, in a word for machines and one for people."""

    reason: Reason
    message: str


def steps_of(spec: Rollout, state: EngineState) -> tuple[Step, ...]:
    """Return the steps that the rollout of the state's target takes.

    The last one always means everyone. A first deployment has just that one, watched as long as
    the last of the spec; so has the way back to a revision that was stable before, unwatched.
    """
    steps = spec.steps or DEFAULT_STEPS
    last = steps[-1]
    if last.units != EVERYONE:
        last = Step(units=EVERYONE, soak=DEFAULT_SOAK)
        steps = (*steps, last)
    if state.base is None:
        return (last,)
    if is_immediate(state):
        return (Step(units=EVERYONE, soak="0s"),)
    return steps


def is_immediate(state: EngineState) -> bool:
    """Tell whether the target was stable before: it needs no steps and no analysis."""
    return state.target != state.stable and (
        bool(state.rollout.is_return)
        or any(entry.revision == state.target for entry in state.history)
    )


def heeds_download_windows(spec: Rollout, state: EngineState) -> bool:
    """Tell whether the target is fetched in windows only: it is on trial beside another."""
    is_on_trial = state.rollout.stage in MEASURED_STAGES and state.target != state.base
    has_other = state.base is not None and not is_immediate(state)
    return bool(spec.download.windows) and is_on_trial and has_other


def index_of(state: EngineState, steps: tuple[Step, ...]) -> int:
    """Return the index of the current step; the last one when the spec has fewer by now."""
    return min(state.rollout.step, len(steps) - 1)


def label(spec: Rollout, state: EngineState) -> str:
    """Return the step for people, for example `2/4`."""
    steps = steps_of(spec, state)
    return f"{index_of(state, steps) + 1}/{len(steps)}"


@dataclass(frozen=True)
class Look:
    """Spec, state and facts of one step, and what follows from them."""

    spec: Rollout
    state: EngineState
    facts: RolloutFacts

    @property
    def now(self) -> datetime:
        """The time of the look."""
        return self.facts.now

    @property
    def stage(self) -> Stage:
        """Where the engine stands."""
        return self.state.rollout.stage

    @property
    def target(self) -> str:
        """The revision that is rolled out."""
        return self.state.target or ""

    @property
    def name(self) -> str:
        """The revision that is rolled out, for people."""
        return self.facts.named(self.target)

    @property
    def is_first(self) -> bool:
        """Tell whether there is no revision to go back to."""
        return self.state.base is None

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Steps of this rollout."""
        return steps_of(self.spec, self.state)

    @property
    def index(self) -> int:
        """Index of the current step; the last one when the spec has fewer by now."""
        return index_of(self.state, self.steps)

    @property
    def step(self) -> Step:
        """The current step."""
        return self.steps[self.index]

    @property
    def soak(self) -> timedelta:
        """How long the current step is watched."""
        return timedelta(seconds=duration_s(self.step.soak or DEFAULT_SOAK))

    @property
    def is_promoted(self) -> bool:
        """Tell whether a person vouches for the target: no pause holds it any longer."""
        return self.facts.promote == self.target

    @property
    def refusal(self) -> FailedRevision | None:
        """What is held against the wanted revision under the present retry text."""
        return self.state.refusal_of(self.facts.wanted, self.spec.retry)

    @property
    def halted(self) -> Finding | None:
        """Why the clock of the rollout stands still, if it does."""
        if self.spec.paused:
            return Finding(Reason.PAUSED, "spec.rollout.paused is true")
        if not self.reachable:
            return Finding(Reason.WAITING_FOR_UNITS, "no unit can be reached")
        return None

    @cached_property
    def outlook(self) -> WindowOutlook:
        """How it stands with the windows."""
        return outlook(self.spec.windows, self.now)

    @property
    def heeds_windows(self) -> bool:
        """Tell whether units are given the target in windows only: it is no way back, nor all."""
        is_way_back = self.stage is Stage.ROLLING_BACK or is_immediate(self.state)
        return bool(self.spec.windows) and not self.is_first and not is_way_back

    @property
    def is_shut(self) -> bool:
        """Tell whether no unit may be given the target now."""
        return self.heeds_windows and not self.outlook.is_open

    @cached_property
    def line(self) -> WindowOutlook:
        """How it stands with the windows in which the target is fetched."""
        heeds = heeds_download_windows(self.spec, self.state)
        return outlook(self.spec.download.windows if heeds else (), self.now)

    @property
    def line_waits(self) -> str:
        """Who waits for a download window, for people; empty: nobody."""
        waiting = 0 if self.line.is_open else len(self._fetchers)
        window = f"a window of spec.rollout.download.windows, {self.line.why}"
        who = "1 waits" if waiting == 1 else f"{waiting} wait"
        return f"; {who} to fetch it for {window}" if waiting else ""

    @cached_property
    def _fetchers(self) -> tuple[UnitFacts, ...]:
        """Awaited units whose time a download takes, or took."""
        return tuple(
            unit
            for unit in self.awaited
            if unit.fetching is not None or unit.waiting.startswith(SwapPhase.FETCHING)
        )

    @cached_property
    def due(self) -> frozenset[str]:
        """Units that the step takes, and that wait for a window."""
        if not self.is_shut or self.stage is not Stage.STEPPING or self.step.units is None:
            return frozenset()
        return choose(self.facts.units, self.step.units, self.target) - self.holders

    @property
    def takes_away(self) -> int:
        """Units that lose their model with the promotion: the target has no build for them."""
        is_let = self.spec.on_uncovered is OnUncovered.ALLOW
        return len(self.facts.uncovered) if is_let else 0

    @cached_property
    def late(self) -> frozenset[str]:
        """Reachable units that the cluster's assignment does not give the target."""
        return frozenset(one.name for one in self.reachable if one.assigned != self.target)

    @cached_property
    def reachable(self) -> tuple[UnitFacts, ...]:
        """Units whose node reports."""
        return tuple(unit for unit in self.facts.units if unit.reachable)

    @cached_property
    def holders(self) -> frozenset[str]:
        """Units that the cluster's assignment gives the target, offline ones included."""
        return frozenset(unit.name for unit in self.facts.units if unit.assigned == self.target)

    @cached_property
    def chosen(self) -> frozenset[str]:
        """Units that must have the target now.

        Only Stepping asks more units; while a step is watched or paused, a unit that joins waits.
        """
        if self.is_first:
            return frozenset(unit.name for unit in self.facts.units)
        is_asking = self.stage is Stage.STEPPING and not self.spec.paused and not self.is_shut
        if is_asking and self.step.units is not None:
            return choose(self.facts.units, self.step.units, self.target)
        return self.holders

    @cached_property
    def asked(self) -> tuple[UnitFacts, ...]:
        """Reachable chosen units: the denominator."""
        return tuple(unit for unit in self.reachable if unit.name in self.chosen)

    @cached_property
    def serving(self) -> tuple[UnitFacts, ...]:
        """Asked units that were given the target and serve it."""
        return tuple(unit for unit in self.asked if self._is_on_target(unit))

    @cached_property
    def failing(self) -> tuple[UnitFacts, ...]:
        """Asked units that were given the target and refuse it."""
        return tuple(
            unit
            for unit in self.asked
            if self._speaks_of_target
            and unit.failure is not None
            and unit.assigned == self.target
            and not self._is_on_target(unit)
        )

    @cached_property
    def awaited(self) -> tuple[UnitFacts, ...]:
        """Asked units that neither serve nor refuse the target yet."""
        done = {unit.name for unit in (*self.serving, *self.failing)}
        return tuple(unit for unit in self.asked if unit.name not in done)

    @property
    def is_confirmed(self) -> bool:
        """Tell whether all asked units say what they say after the last write."""
        return all(unit.is_confirmed for unit in self.asked)

    @property
    def lost(self) -> tuple[UnitFacts, ...]:
        """Awaited units that say themselves that they do not serve the target."""
        return tuple(unit for unit in self.awaited if unit.answered)

    @property
    def uncovered(self) -> frozenset[str]:
        """Cells with reachable units of which none has the target, where the step wants one."""
        if not covers_cells(self.step.units or EVERYONE):
            return frozenset()
        return uncovered_cells(self.facts.units, self.chosen)

    @property
    def assessment(self) -> Assessment:
        """Analysis of the target, as far as it can speak of it."""
        if is_immediate(self.state):
            return Assessment(Verdict.SUCCESSFUL, "was stable before: no analysis")
        if not self._speaks_of_target or not self.serving:
            return Assessment(Verdict.RUNNING, "nothing was measured yet", no_data=True)
        return self.facts.assessment

    @property
    def deadline_base(self) -> datetime:
        """When the time without progress began to run.

        With p = last progress, s = begin of the soak, w = its length:
            Stepping, never soaked     p
            Stepping, soak broken off  p + w       (so flapping gains one soak in all, not one each)
            Soaking                    max(s + w, p)
        """
        rollout = self.state.rollout
        progress = rollout.progress_at or self.now
        if rollout.soak_started_at is None:
            return progress
        if self.stage is Stage.SOAKING:
            return max(rollout.soak_started_at + self.soak, progress)
        return progress + self.soak

    @property
    def is_overdue(self) -> bool:
        """Tell whether the progress deadline has passed.

        With b = its base, d = its length, m = when a download that is awaited last moved, and
        f = the longest time to fetch:
            no download    b + d
            one that moves min(max(b, m) + d, max(b + f, b + d))
        Where there are windows, time outside of them does not pass.
        """
        limit, base, moved_at = self._deadline, self.deadline_base, self.moved_at
        if moved_at is None or moved_at <= base:
            return self._has_passed(limit, base)
        longest = timedelta(seconds=duration_s(self.spec.download.deadline))
        return self._has_passed(limit, moved_at) or self._has_passed(max(longest, limit), base)

    def _has_passed(self, limit: timedelta, since: datetime) -> bool:
        """Tell whether so much time has passed that counts."""
        if self.now < since + limit or self.is_shut or self.line_waits:
            return False
        lines = self.spec.download.windows if self._fetchers else ()
        heeded = (
            self.spec.windows if self.heeds_windows else (),
            lines if heeds_download_windows(self.spec, self.state) else (),
        )
        return all(time_open(windows, since, self.now) >= limit for windows in heeded)

    @property
    def _deadline(self) -> timedelta:
        return timedelta(seconds=duration_s(self.spec.progress_deadline))

    @property
    def moved_at(self) -> datetime | None:
        """When a download of an awaited unit last brought new bytes."""
        times = [unit.fetching.moved_at for unit in self.awaited if unit.fetching]
        return max((at for at in times if at is not None), default=None)

    @property
    def soak_ends_at(self) -> datetime:
        """When the current soak is over."""
        return (self.state.rollout.soak_started_at or self.now) + self.soak

    def failure(self) -> Finding | None:
        """Return why the rollout has failed, if it has: too many units refuse, or a limit broke."""
        tolerated = self.spec.failure_limit
        # more units refuse than the spec tolerates
        if len(self.failing) > tolerated:
            return Finding(_unit_reason(self.failing), self._refusals(f"{tolerated} tolerated"))
        # tolerated or not: nobody is left who could show that the target works
        if self.failing and not self.serving and not self.awaited:
            return Finding(_unit_reason(self.failing), self._refusals("none is left to try"))
        # a number is beyond its limit; one that is only missing gets the whole soak to come
        verdict = self.assessment
        if verdict.verdict is Verdict.FAILED and not verdict.no_data:
            return Finding(Reason.METRIC_FAILED, verdict.message)
        return None

    def overdue(self) -> Finding:
        """Return the deadline's finding, with what the units wait for."""
        moves = self.moved_at is not None and self.now < self.moved_at + self._deadline
        message = f"no progress for {self.spec.progress_deadline}: {self.count()}"
        if moves:
            message = f"not fetched within {self.spec.download.deadline}: {self.count()}"
        waiting = by_text((unit.name, described(unit)) for unit in self.awaited)
        if waiting:
            return Finding(
                Reason.DEADLINE_EXCEEDED,
                f"{message}; waiting: {waiting}{remedy(self.awaited, self.spec)}",
            )
        return Finding(Reason.DEADLINE_EXCEEDED, f"{message}; {self.assessment.message}")

    def count(self) -> str:
        """Return for example `3 of 5 units serve r1-0a1b2c3d4e`."""
        failed = f", {len(self.failing)} refuse it" if self.failing else ""
        return f"{len(self.serving)} of {len(self.asked)} units serve {self.name}{failed}"

    def waiting(self) -> str:
        """Return the count, and what keeps those units that are not there yet."""
        states = by_text((unit.name, unit.state) for unit in self.awaited if unit.state)
        return (f"{self.count()}; {states}" if states else self.count()) + self.line_waits

    def label(self) -> str:
        """Return the step for people, for example `2/4`."""
        return label(self.spec, self.state)

    def _refusals(self, rule: str) -> str:
        """Return who refuses the target and why."""
        texts = by_text((unit.name, unit.failure or "") for unit in self.failing)
        count = f"{len(self.failing)} of {len(self.asked)} units refuse {self.name}, {rule}"
        return f"{count}: {texts}"

    def _is_on_target(self, unit: UnitFacts) -> bool:
        """Tell whether the unit was given the target and says that it serves it."""
        return unit.answered and unit.assigned == self.target == unit.serving

    @property
    def _speaks_of_target(self) -> bool:
        """Tell whether failures and assessment are about the target."""
        return self.facts.target in {None, self.target}


def _unit_reason(failing: tuple[UnitFacts, ...]) -> Reason:
    """Return CrashLoop when that is all there is, else UnitFailed."""
    crashed = all((unit.failure or "").startswith(Reason.CRASH_LOOP) for unit in failing)
    return Reason.CRASH_LOOP if crashed else Reason.UNIT_FAILED
