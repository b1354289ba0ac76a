"""The whole plan and a cluster in memory as a system whose every state can be looked at.

Where `rollout_model` asks the engine alone, this one has objects, pods that are replaced, and an
operator that dies after every single write of a plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

from builders import CPU, VULKAN, labelled, make_deployment, make_model, make_node, make_variant
from skerry_operator.api.v1alpha1.edgedeployment import OnUncovered
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import (
    ANNOTATION_ABORT,
    ANNOTATION_PROMOTE,
    ConditionType,
    Reason,
)
from skerry_operator.decide.planned import Plan
from skerry_runtime.contract import StatusReport
from world import World

UNITS = ("n0", "n1", "n2")
ROLLOUT: dict[str, Any] = {
    "steps": [{"units": "1", "soak": "4s"}, {"units": "100%", "soak": "0s"}],
    "progressDeadline": "12s",
}
NEW_IMAGE = "registry.example/skerry-runtime:2"
FOR_GPUS = make_model("4.0.0", make_variant(version="4", runsOn=["gpu"]))
TICK_S = 4.0
OLDEST_S = 40
LOOKS_AT_ONCE = 4
"""Promoting, promoted, the former target's snapshot cleared away, and nothing."""


def stable_world(**rollout: Any) -> World:
    """Three units, two at one site, with version 1 as stable."""
    sites = {"n0": "harbour", "n1": "harbour", "n2": "hill"}
    spec = {"placement": {"siteLabel": "site"}, "rollout": ROLLOUT | rollout}
    nodes = tuple(make_node(name, labelled(site=site)) for name, site in sites.items())
    world = World(make_deployment(**spec), make_model(), nodes, profiles=(CPU,))
    world.settle()
    return world


def starts() -> dict[str, World]:
    """Return where the search begins: at rest, and in the middle of both ways to update."""
    in_place, new_pods = stable_world(), stable_world()
    in_place.model = make_model("2.0.0")
    in_place.turn(TICK_S)
    new_pods.change(runtime={"image": NEW_IMAGE})
    new_pods.turn(TICK_S)
    return {
        "at rest": stable_world(),
        "a swap under way": in_place,
        "new pods under way": new_pods,
        "a promotion with a straggler": promoting_world(),
        "failureLimit 1": stable_world(failureLimit=1),
        "two kinds of hardware": mixed_world(),
        "units without a build of stable": excluding_world(),
    }


def mixed_world(**rollout: Any) -> World:
    """The same, but that n2 has a GPU."""
    world = stable_world(**rollout)
    world.profiles = (VULKAN, CPU)
    world.change_node("n2", labelled(gpu="mali"))
    world.settle()
    assert [cell.units for cell in world.status.cells] == [2, 1]
    return world


def excluding_world() -> World:
    """Version 4 is stable, which runs on GPUs only: n0 and n1 keep version 1."""
    world = mixed_world(onUncovered="Exclude")
    world.model = FOR_GPUS
    world.settle()
    assert world.served() == {"n0": "1.0.0", "n1": "1.0.0", "n2": "4.0.0"}
    return world


def promoting_world() -> World:
    """n0 and n1 came back after the last step; n0's new pod does not start, so n1 has no turn."""
    world = stable_world(steps=[{"units": "100%", "soak": "4s"}])
    world.nodes = tuple(replace(one, reachable=one.name == "n2") for one in world.nodes)
    world.change(runtime={"image": NEW_IMAGE})
    world.turn_until(Stage.SOAKING)
    world.turn_before(Stage.IDLE)
    world.nodes = tuple(replace(one, reachable=True) for one in world.nodes)
    world.turn(TICK_S)
    world.broken_units = {"n0"}
    assert world.status.rollout.stage is Stage.PROMOTING
    return world


class PlanSystem:
    """The plan among all that can happen to it."""

    def key(self, world: World) -> Hashable:
        status, ended = world.status, world.status.rollout
        return (
            (status.stable_revision, status.interim_revision, status.target_revision),
            tuple((past.revision, past.retry) for past in status.failed_revisions),
            tuple(past.revision for past in status.history),
            (ended.stage, ended.step, ended.best_serving, ended.reason),
            tuple(
                None if at is None else min(OLDEST_S, round((world.now - at).total_seconds()))
                for at in (ended.progress_at, ended.soak_started_at, ended.paused_at)
            ),
            frozenset((key, one.digest) for key, one in world.objects.items()),
            frozenset((pod.name, pod.ready, pod.revision_label) for pod in world.pods.values()),
            frozenset(
                (unit, one.serving and one.serving.revision, one.assigned, len(one.failures))
                for unit, one in world.reports.items()
            ),
            tuple(node.reachable for node in world.nodes),
            (frozenset(world.refusals), frozenset(world.refused)),
            (frozenset(world.broken_images), frozenset(world.broken_units)),
            (world.model and world.model.spec.version, world.deployment.spec.runtime.image),
            frozenset(world.deployment.spec.placement.node_selector.items()),
            (world.deployment.spec.rollout.retry, world.deployment.spec.rollout.failure_limit),
            frozenset(world.deployment.metadata.annotations.items()),
        )

    def events(self, world: World) -> Iterator[tuple[str, Callable[[], World]]]:
        made = world.plan()
        yield "look", lambda: _look(world, made)
        writes = len(world.writes(made))
        for count in range(1, writes):
            yield (
                f"look, die after {count} of {writes} writes",
                lambda count=count: _after(world, made, count),  # type: ignore[misc]
            )
        for name, event in _EVENTS.items():
            yield name, lambda event=event: event(copy_of(world))  # type: ignore[misc]

    def calm(self, world: World) -> World:
        nodes = tuple(replace(node, reachable=True) for node in world.nodes)
        after = replace(copy_of(world), nodes=nodes)
        return _after(after, after.plan())

    def is_at_rest(self, world: World) -> bool:
        if world.status.rollout.stage is not Stage.IDLE:
            return False
        made = world.plan()
        if made.watch_units or world.writes(made):
            return False
        ready = next(one for one in world.status.conditions if one.type == ConditionType.READY)
        astray = {
            unit: report for unit, report in world.reports.items() if not _is_at(world, report)
        }
        refusing = sum(bool(report.failures) for report in astray.values())
        tolerated = world.deployment.spec.rollout.failure_limit
        is_whole = set(world.served()) == set(UNITS) and len(astray) == refusing <= tolerated
        is_whole = is_whole or not astray
        kept = sum(cell.units for cell in world.status.cells if cell.keeps)
        is_whole = is_whole or (set(world.served()) == set(UNITS) and len(astray) <= kept)
        assert is_whole or ready.status == "False", f"Ready, and {world.served()} serve"
        return True


def _is_at(world: World, report: StatusReport) -> bool:
    """Tell whether the unit serves stable."""
    served = report.serving
    return served is not None and served.revision == world.status.stable_revision


def copy_of(world: World) -> World:
    """Return a world of its own that is equal."""
    return replace(
        world,
        objects=dict(world.objects),
        pods=dict(world.pods),
        reports=dict(world.reports),
        refusals=set(world.refusals),
        refused=set(world.refused),
        broken_images=set(world.broken_images),
        broken_units=set(world.broken_units),
        events=[],
    )


def _after(world: World, made: Plan, most: int | None = None) -> World:
    """Return the world in which a plan, or so many of its writes, was carried out."""
    after = copy_of(world)
    after.carry_out(made, most)
    after.pods_follow()
    after.turn_seconds(TICK_S)
    return after


def _look(world: World, made: Plan) -> World:
    """Carry the plan out, and let the rules be checked."""
    assert world.plan() == made, "the same facts, another plan"
    written = copy_of(world)
    written.carry_out(made)
    _hold(world, written)
    _settle(written)
    return _after(world, made)


def _settle(world: World) -> None:
    """Assert that plans end by themselves while nothing else happens: no look is a busy loop.

    What one writes is a fact for the next: that a unit was given something else, for example.
    """
    for _ in range(LOOKS_AT_ONCE):
        made = world.plan()
        if not world.writes(made):
            assert not made.events, "what is not written is told"
            return
        world.carry_out(made)
    raise AssertionError(f"{LOOKS_AT_ONCE} plans at the same instant all write")


def _hold(world: World, after: World) -> None:
    """Assert all that must hold of one plan."""
    stable = after.status.stable_revision
    # stable is never lost, nor what it takes to go back to it
    assert stable is not None or world.status.stable_revision is None
    if stable != world.status.stable_revision:
        assert set(after.events) & {Reason.PROMOTED, Reason.ADOPTED}
    assert stable is None or f"ControllerRevision/digits-{stable}" in after.objects
    _hold_assignments(world, after)
    _hold_availability(world, after)


def _hold_assignments(before: World, after: World) -> None:
    """At most one target beside stable is given anew, and none that failed."""
    status, retry = after.status, after.deployment.spec.rollout.retry
    refused = {past.revision for past in status.failed_revisions if past.retry == retry}
    stable = status.stable_revision
    had, defaults = _given(before), _defaults(before)
    for unit, revision in _given(after).items():
        if revision != had.get(unit):
            known = {stable, status.target_revision, defaults.get(unit)}
            assert revision in known, f"{unit} is given {revision}"
            assert revision == stable or revision not in refused, f"{unit} is given {revision} anew"
        assert revision is not None or had.get(unit) is None, f"{unit} loses its model"
    for cell in after.observed().cells:
        kept = (
            {stable} if _has_build(after, stable, cell.name) else {cell.assignment.default} - {None}
        )
        assert stable is None or kept & set(cell.assignment.revisions), "no way back"
    target, known = status.target_revision, {past.revision for past in before.status.history}
    if target not in {before.status.target_revision, *known}:
        _hold_coverage(before, after, target)


def _hold_coverage(before: World, after: World, target: str | None) -> None:
    """What has no build for units that serve is begun only where the spec says so."""
    rollout, reachable = after.deployment.spec.rollout, _reachable_units(before)
    bare = {
        unit
        for cell in before.observed().cells
        for unit in UNITS
        if unit in reachable
        and cell.name in _cells_of(before, unit)
        and not _has_build(after, target, cell.name)
    }
    is_let = rollout.on_uncovered is not OnUncovered.HOLD or len(bare) <= rollout.failure_limit
    assert is_let or before.status.stable_revision is None, f"no build for {sorted(bare)}"


def _reachable_units(world: World) -> set[str]:
    return {node.name for node in world.nodes if node.reachable}


def _cells_of(world: World, unit: str) -> set[str]:
    return {one.cell for one in world.observed().templates if unit in one.nodes}


def _has_build(world: World, revision: str | None, cell: str) -> bool:
    """Tell whether a revision has a build for a cell; one that nobody knows counts as if."""
    snapshot = world.observed().snapshots.get(revision or "")
    return snapshot is None or snapshot.model.version != "4.0.0" or "gpu" in cell


def _defaults(world: World) -> dict[str, str | None]:
    """Unit -> the default of its cell's file."""
    cells = {cell.name: cell.assignment.default for cell in world.observed().cells}
    return {unit: cells.get(name) for unit in UNITS for name in _cells_of(world, unit)}


def _given(world: World) -> dict[str, str | None]:
    cells = world.observed().cells
    return {unit: cell.assignment.revision_of(unit) for cell in cells for unit in UNITS}


def _hold_availability(before: World, after: World) -> None:
    """No more units of a site than maxUnavailable are without a model because of the plan."""
    limit = after.deployment.spec.rollout.max_unavailable
    had, has = _homes(before), _homes(after)
    site = {node.name: node.labels["site"] for node in before.nodes}
    reachable = {node.name for node in before.nodes if node.reachable}
    serving = set(before.served()) & reachable
    moved = {unit for unit in serving if had.get(unit) and not had[unit] & has.get(unit, set())}
    down = Counter(site[unit] for unit in reachable - serving)
    for place, count in Counter(site[unit] for unit in moved).items():
        assert count + down[place] <= limit, f"{sorted(moved)} lose their pods at {place}"


def _homes(world: World) -> dict[str, set[str]]:
    """Unit -> the DaemonSets that name its node."""
    found: dict[str, set[str]] = {}
    for template in world.observed().templates:
        for unit in template.nodes:
            found.setdefault(unit, set()).add(template.name)
    return found


def _wait(world: World) -> World:
    world.turn_seconds(60)
    return world


def _set(**fields: Any) -> Callable[[World], World]:
    return lambda world: replace(world, **fields)


def _image(image: str) -> Callable[[World], World]:
    def event(world: World) -> World:
        world.change(runtime={"image": image})
        return world

    return event


def _selector(**labels: str) -> Callable[[World], World]:
    def event(world: World) -> World:
        world.change(placement={"siteLabel": "site", "nodeSelector": labels})
        return world

    return event


def _retry(world: World) -> World:
    world.change(rollout=world.deployment.spec.rollout.to_dict() | {"retry": "again"})
    return world


def _annotate(name: str) -> Callable[[World], World]:
    def event(world: World) -> World:
        value = world.status.target_revision or ""
        metadata = world.deployment.metadata.model_copy(update={"annotations": {name: value}})
        deployment = world.deployment.model_copy(update={"metadata": metadata})
        return replace(world, deployment=deployment)

    return event


def _reachable(name: str, is_it: bool) -> Callable[[World], World]:
    def event(world: World) -> World:
        world.change_node(name, lambda node: replace(node, reachable=is_it))
        return world

    return event


def _crash(world: World) -> World:
    """The pod of n0 is gone for a moment, and its report with it."""
    world.reports.pop("n0", None)
    world.pods = {
        name: replace(pod, ready=False) if pod.unit == "n0" else pod
        for name, pod in world.pods.items()
    }
    return world


_EVENTS: dict[str, Callable[[World], World]] = {
    "no operator for a minute": _wait,
    "the model is version 1": _set(model=make_model()),
    "the model is version 2": _set(model=make_model("2.0.0")),
    "the model is version 3": _set(model=make_model("3.0.0")),
    "the model is version 4, for GPUs only": _set(model=FOR_GPUS),
    "the model is deleted": _set(model=None),
    "another image": _image(NEW_IMAGE),
    "the image does not start": _set(broken_images={NEW_IMAGE}),
    "the image starts": _set(broken_images=set()),
    "nothing starts on n1": _set(broken_units={"n1"}),
    "n0 refuses version 2": _set(refusals={("n0", "2.0.0")}),
    "all refuse version 2": _set(refusals={(unit, "2.0.0") for unit in UNITS}),
    "n0 is lost": _reachable("n0", False),
    "n0 returns": _reachable("n0", True),
    "n0 crashes": _crash,
    "the selector matches nothing": _selector(site="nowhere"),
    "promote": _annotate(ANNOTATION_PROMOTE),
    "abort": _annotate(ANNOTATION_ABORT),
    "retry": _retry,
}
