"""The rollout engine and a fleet in memory as a system whose every state can be looked at.

One event is one thing that may happen between two looks, or a look with what becomes of it: all
its writes, only the status, or the assignment of only one cell more. Times are kept as ages, and
no older than anything that the engine measures, so that a state that comes again is known.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from datetime import datetime

from rollout_rules import hold
from rollout_sim import BAD, GOOD, HELD, V1, V2, V3, Device, FakeFleet, settled
from skerry_operator.api.v1alpha1.edgedeployment import OnFailure, OnUncovered, Rollout, Step
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import Reason
from skerry_operator.decide.rollout import engine as rollout
from skerry_operator.decide.rollout.engine import EngineState, Transition

SPEC = Rollout(
    steps=(Step(units="1", soak="5s"), Step(pause=True), Step(units="100%", soak="0s")),
    progress_deadline="20s",
)
TICK_S = 5.0
OLDEST_S = 60
"""Older than deadline and soak together: from there on the age of a time changes nothing."""


def first_fleet() -> FakeFleet:
    """Three units in two cells that never had a model."""
    devices = {"n0": Device("a"), "n1": Device("a"), "n2": Device("b")}
    return FakeFleet(devices, spec=SPEC)


def stable_fleet(**spec: object) -> FakeFleet:
    """The same units, with V1 as stable."""
    fleet = replace(first_fleet(), spec=SPEC.model_copy(update=spec), state=settled())
    for device in fleet.devices.values():
        device.default = device.serving = V1
    return fleet


def starts() -> dict[str, FakeFleet]:
    """Return where the search begins: at rest, under way, and under every policy."""
    canary = stable_fleet()
    canary.wanted = V2
    canary.run(3)
    late = first_fleet()
    late.devices["n2"].responsive = False  # alone in its cell
    late.run(22)
    return {
        "at rest": stable_fleet(),
        "a first deployment that ran into its deadline": late,
        "a first deployment": first_fleet(),
        "a canary": canary,
        "onFailure Pause": stable_fleet(on_failure=OnFailure.PAUSE),
        "failureLimit 1": stable_fleet(failure_limit=1),
        "onUncovered Exclude": stable_fleet(on_uncovered=OnUncovered.EXCLUDE),
    }


class EngineSystem:
    """The engine among all that can happen to it."""

    def key(self, fleet: FakeFleet) -> Hashable:
        state, ended = fleet.state, fleet.state.rollout
        return (
            (state.stable, state.interim),
            state.target,
            tuple((past.revision, past.retry) for past in state.failed),
            tuple(past.revision for past in state.history),
            (ended.stage, ended.step, ended.best_serving, ended.reason),
            tuple(
                _age(fleet.now, at)
                for at in (ended.progress_at, ended.soak_started_at, ended.paused_at)
            ),
            tuple(
                (one.reachable, one.responsive, one.default, one.entry, one.serving)
                for one in fleet.devices.values()
            ),
            (fleet.wanted, fleet.verdict.verdict, frozenset(fleet.broken)),
            (fleet.promote, fleet.abort, fleet.spec.paused, fleet.spec.retry),
            (
                fleet.spec.on_failure,
                fleet.spec.failure_limit,
                fleet.spec.on_uncovered,
                fleet.narrow,
            ),
        )

    def events(self, fleet: FakeFleet) -> Iterator[tuple[str, Callable[[], FakeFleet]]]:
        for name, event in _EVENTS.items():
            yield name, lambda event=event: event(fleet.copy())  # type: ignore[misc]

    def calm(self, fleet: FakeFleet) -> FakeFleet:
        """One more look at a fleet whose every unit answers, and that serves stable at need."""
        after = fleet.copy()
        for device in after.devices.values():
            device.reachable = device.responsive = True
        after = _look(after)
        after.broken -= {after.state.base}  # type: ignore[arg-type]
        after.pass_time(0)
        return after

    def is_at_rest(self, fleet: FakeFleet) -> bool:
        state = fleet.state
        if state.rollout.stage is not Stage.IDLE:
            return state.rollout.paused_at is not None  # a person or numbers are waited for
        if state.stable is not None:
            serving = {
                device.serving
                for device in fleet.devices.values()
                if device.cell != "b" or state.stable not in fleet.narrow
            }
            assert all(one.serving or not one.assigned for one in fleet.devices.values())
            assert serving == {state.stable}, f"at rest with {state.stable}, and {serving} serve"
        elif fleet.wanted == state.target and fleet.wanted not in fleet.broken:
            return not _has_come_late(fleet)  # then a look goes on with it
        return True


def _has_come_late(fleet: FakeFleet) -> bool:
    """Tell whether what only ran into its deadline serves, and nobody and no number forbids it."""
    entry = fleet.state.failure_of(fleet.wanted)
    if entry is None or fleet.spec.paused or fleet.abort == fleet.wanted or fleet.verdict != GOOD:
        return False
    return entry.reason == Reason.DEADLINE_EXCEEDED and entry.retry == fleet.spec.retry


def _age(now: datetime, at: datetime | None) -> int | None:
    return None if at is None else min(OLDEST_S, round((now - at).total_seconds()))


def _decided(fleet: FakeFleet) -> Transition:
    """Look, let the rules be checked, and write the status."""
    before, seen = fleet.state, fleet.facts()
    result = rollout.step(fleet.spec, before, seen)
    assert rollout.step(fleet.spec, before, seen) == result, "the same facts, another decision"
    hold(fleet.spec, before, seen, result)
    fleet.state = result.state
    return result


def _look(fleet: FakeFleet) -> FakeFleet:
    fleet.apply(_decided(fleet))
    fleet.pass_time(TICK_S)
    return fleet


def _look_at_once(fleet: FakeFleet) -> FakeFleet:
    """Look and write, and no unit has followed yet."""
    fleet.apply(_decided(fleet))
    return fleet


def _die_after_the_status(fleet: FakeFleet) -> FakeFleet:
    _decided(fleet)
    fleet.pass_time(TICK_S)
    return fleet


def _die_after_one_cell(fleet: FakeFleet) -> FakeFleet:
    result = _decided(fleet)
    others = {name: one for name, one in fleet.devices.items() if one.cell != "a"}
    fleet.devices = {name: one for name, one in fleet.devices.items() if one.cell == "a"}
    fleet.apply(result)
    fleet.devices |= others
    fleet.pass_time(TICK_S)
    return fleet


def _wait(seconds: float) -> Callable[[FakeFleet], FakeFleet]:
    def event(fleet: FakeFleet) -> FakeFleet:
        fleet.pass_time(seconds)
        return fleet

    return event


def _set(**fields: object) -> Callable[[FakeFleet], FakeFleet]:
    return lambda fleet: replace(fleet, **fields)  # type: ignore[arg-type]


def _spec(**fields: object) -> Callable[[FakeFleet], FakeFleet]:
    return lambda fleet: replace(fleet, spec=fleet.spec.model_copy(update=fields))


def _annotate(name: str) -> Callable[[FakeFleet], FakeFleet]:
    """What `skerry promote` and `skerry abort` do: name the target."""
    return lambda fleet: replace(fleet, **{name: fleet.state.target})  # type: ignore[arg-type]


def _turn(revision: str) -> Callable[[FakeFleet], FakeFleet]:
    """Every unit refuses the revision from now on, or takes it again."""
    return lambda fleet: replace(fleet, broken=fleet.broken ^ {revision})


def _device(name: str, **fields: object) -> Callable[[FakeFleet], FakeFleet]:
    def event(fleet: FakeFleet) -> FakeFleet:
        fleet.devices[name] = replace(fleet.devices[name], **fields)  # type: ignore[arg-type]
        return fleet

    return event


_EVENTS: dict[str, Callable[[FakeFleet], FakeFleet]] = {
    "look": _look,
    "look, no unit follows": _look_at_once,
    "look, die after the status": _die_after_the_status,
    "look, die after one cell": _die_after_one_cell,
    "no operator for 5 s": _wait(TICK_S),
    "no operator for a minute": _wait(60),
    "the spec asks for V1": _set(wanted=V1),
    "the spec asks for V2": _set(wanted=V2),
    "the spec asks for V3": _set(wanted=V3),
    "numbers are bad": _set(verdict=BAD),
    "numbers are missing": _set(verdict=HELD),
    "numbers are good": _set(verdict=GOOD),
    "units turn on V1": _turn(V1),
    "units turn on V2": _turn(V2),
    "V2 has no build for n2": _set(narrow=frozenset({V2})),
    "n0 is lost": _device("n0", reachable=False),
    "n0 returns": _device("n0", reachable=True, responsive=True),
    "n2 is silent": _device("n2", responsive=False),
    "n0 crashes": _device("n0", serving=None),
    "promote": _annotate("promote"),
    "abort": _annotate("abort"),
    "pause": _spec(paused=True),
    "resume": _spec(paused=False),
    "retry": _spec(retry="again"),
    "the status is wiped": _set(state=EngineState()),
}
