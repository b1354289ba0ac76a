"""A fleet in plain Python that obeys the rollout engine, for tests: no cluster, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from skerry_operator.api.v1alpha1.edgedeployment import Rollout, Step
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    EdgeDeploymentStatus,
    FailedRevision,
    HistoryEntry,
    RolloutStatus,
    Stage,
)
from skerry_operator.decide.facts import Assessment, RolloutFacts, Uncovered, UnitFacts, Verdict
from skerry_operator.decide.rollout.engine import EngineState, Transition, step, subject_of
from skerry_operator.decide.rollout.hold import hold

T0 = datetime(2026, 1, 1, tzinfo=UTC)
V1, V2, V3 = "v1-1111111111", "v1-2222222222", "v1-3333333333"
GOOD = Assessment(Verdict.SUCCESSFUL, "all is well")
HELD = Assessment(Verdict.RUNNING, "ErrorRate in cell a has 3 of 50 requests", "ErrorRate", True)
BAD = Assessment(
    Verdict.FAILED,
    "LatencyP95 in cell a is 212 ms, limit 50 ms (214 requests)",
    "LatencyP95",
)
QUICK = Rollout(
    steps=(Step(units="1", soak="10s"), Step(units="50%", soak="10s"), Step(units="100%")),
    progress_deadline="60s",
)


def unit(name: str = "n1", on: str | None = None, **changes: object) -> UnitFacts:
    """Return a reachable unit that answers, is given `on`, and serves it."""
    base = UnitFacts(
        name=name, cell="a", site="", reachable=True, assigned=on, serving=on, answered=True
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def units(count: int, on: str | None = None, **changes: object) -> tuple[UnitFacts, ...]:
    """Return units n0, n1, ... that all look the same."""
    return tuple(unit(f"n{index}", on, **changes) for index in range(count))


def facts(units: Iterable[UnitFacts], wanted: str = V2, **changes: object) -> RolloutFacts:
    """Return facts at T0 with a good verdict of the wanted revision."""
    base = RolloutFacts(
        now=T0,
        wanted=wanted,
        units=tuple(units),
        assessment=GOOD,
        restorable=frozenset({V1, V2, V3}),
        target=wanted,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def later(seconds: float) -> datetime:
    """Return a time after T0."""
    return T0 + timedelta(seconds=seconds)


def settled(stable: str = V1, **changes: object) -> EngineState:
    """Return the state of a deployment at rest."""
    entry = HistoryEntry(revision=stable, version="1", promoted_at=T0)
    base = EngineState(stable=stable, target=stable, history=(entry,))
    return replace(base, **changes)  # type: ignore[arg-type]


def rolling(stage: Stage = Stage.STEPPING, **fields: object) -> EngineState:
    """Return the state of a rollout from V1 to V2 that began at T0."""
    rollout = RolloutStatus(
        stage=stage,
        from_revision=V1,
        started_at=T0,
        step_started_at=T0,
        progress_at=T0,
    ).model_copy(update=fields)
    return settled(target=V2, rollout=rollout)


def failed(revision: str = V2, retry: str = "") -> FailedRevision:
    """Return what is remembered of a failure."""
    return FailedRevision(
        revision=revision, reason="MetricFailed", message="212 ms", at=T0, retry=retry
    )


def stored(state: EngineState) -> EngineState:
    """Return the state after it was written to the status as JSON and read again."""
    text = state.for_status(EdgeDeploymentStatus()).model_dump_json(by_alias=True)
    return EngineState.from_status(EdgeDeploymentStatus.model_validate_json(text))


@dataclass
class Device:
    """One node of the fake fleet."""

    cell: str
    site: str = ""
    canary: bool = False
    reachable: bool = True
    responsive: bool = True
    default: str | None = None
    """Of its cell's assignment, as the cluster holds it."""
    entry: str | None = None
    serving: str | None = None

    @property
    def assigned(self) -> str | None:
        """Revision that the cluster gives it."""
        return self.entry or self.default


@dataclass
class FakeFleet:
    """Nodes, the cluster's assignments and the status: all that outlives an operator."""

    devices: dict[str, Device]
    spec: Rollout = QUICK
    wanted: str = V1
    state: EngineState = field(default_factory=EngineState)
    now: datetime = T0
    verdict: Assessment = GOOD
    broken: set[str] = field(default_factory=set)
    """Revisions that every device refuses."""
    promote: str | None = None
    """Annotation of a person."""
    abort: str | None = None
    """Annotation of a person."""
    narrow: frozenset[str] = frozenset()
    """Revisions that have no build for the units of cell b."""

    @classmethod
    def of(cls, count: int, cells: int = 1) -> FakeFleet:
        """Return a fleet of some devices, spread over cells."""
        names = (f"n{index}" for index in range(count))
        return cls({name: Device(f"c{i % cells}") for i, name in enumerate(names)})

    def facts(self) -> RolloutFacts:
        """Return what the engine is told now."""
        subject = subject_of(self.state, self.wanted)
        bare = self._uncovered()
        return facts(
            [
                self._unit(name, device, subject)
                for name, device in self.devices.items()
                if self._has_build(self._tried(bare), device)
            ],
            self.wanted,
            uncovered=bare,
            now=self.now,
            target=subject,
            assessment=self.verdict,
            promote=self.promote,
            abort=self.abort,
        )

    def _has_build(self, revision: str | None, device: Device) -> bool:
        return device.cell != "b" or revision not in self.narrow

    def _uncovered(self) -> tuple[Uncovered, ...]:
        """Return who has a model, and none with the wanted revision."""
        if self.wanted == self.state.stable:
            return ()
        return tuple(
            Uncovered(name, device.cell, device.assigned, "NoVariantFor", device.reachable)
            for name, device in self.devices.items()
            if device.assigned and not self._has_build(self.wanted, device)
        )

    def _tried(self, bare: tuple[Uncovered, ...]) -> str:
        """Return whose builds say who is eligible, as the plan does."""
        state, stable = self.state, self.state.stable
        past = state.failure_of(self.wanted)
        is_refused = past is not None and past.retry == self.spec.retry
        is_held = self.wanted != state.target and hold(self.spec, state, self.wanted, bare)
        return stable if stable is not None and (is_refused or is_held) else self.wanted

    def copy(self) -> FakeFleet:
        """Return a fleet of its own that is equal."""
        devices = {name: replace(device) for name, device in self.devices.items()}
        return replace(self, devices=devices, broken=set(self.broken))

    def _unit(self, name: str, device: Device, subject: str) -> UnitFacts:
        answered = device.reachable and device.responsive
        refuses = answered and device.assigned == subject and subject in self.broken
        return UnitFacts(
            name=name,
            cell=device.cell,
            site=device.site,
            canary=device.canary,
            reachable=device.reachable,
            assigned=device.assigned,
            serving=device.serving if answered else None,
            answered=answered,
            failure="ExamFailed: 0.1 is below 0.95" if refuses else None,
        )

    def look(self, *, dies: bool = False) -> Transition:
        """Reconcile once: status first, then the assignments unless the operator dies between."""
        transition = step(self.spec, self.state, self.facts())
        self.state = stored(transition.state)
        if not dies:
            self.apply(transition)
        return transition

    def apply(self, transition: Transition) -> None:
        """Write the assignments."""
        for name, device in self.devices.items():
            wanted = transition.desired.get(name)
            if self._has_build(transition.default, device):
                device.default = transition.default
            if not self._has_build(wanted, device):  # it keeps what its file said before
                wanted = device.default
            device.entry = wanted if wanted not in {None, device.default} else None

    def pass_time(self, seconds: float) -> None:
        """Let time pass: reachable devices do what they were given."""
        self.now += timedelta(seconds=seconds)
        for device in self.devices.values():
            if device.reachable and device.assigned and device.assigned not in self.broken:
                device.serving = device.assigned

    def run(self, seconds: float, every: float = 1.0) -> list[Transition]:
        """Reconcile at an interval for some time."""
        seen = []
        for _ in range(round(seconds / every)):
            seen.append(self.look())
            self.pass_time(every)
        return seen

    def serving(self) -> set[str | None]:
        """Return what the reachable devices serve."""
        return {device.serving for device in self.devices.values() if device.reachable}


def reasons(transitions: Iterable[Transition]) -> list[str]:
    """Return the reasons of all events, in order."""
    return [note.reason for transition in transitions for note in transition.events]
