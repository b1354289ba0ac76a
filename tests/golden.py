"""Golden cases: a folder with `observed.yaml` (a fleet, and what happened to it before) and
`expected.yaml` (the whole plan that follows). `pytest --update-golden` writes the latter anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from builders import (
    cordoned,
    having,
    make_deployment,
    make_node,
    offline,
)
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.planned import Manifest, Plan
from skerry_runtime.contract import ASSIGNMENT_FILE
from world import World

GOLDEN = Path(__file__).parent / "golden"


def cases(folder: str) -> list[str]:
    return sorted(path.parent.name for path in (GOLDEN / folder).glob("*/observed.yaml"))


def load_world(path: Path) -> World:
    """Build the fleet of an observed.yaml, and let its story happen."""
    raw = yaml.safe_load(path.read_text("utf-8"))
    world = World(
        deployment=make_deployment(**raw.get("spec", {})),
        model=_model(raw.get("model")),
        nodes=tuple(_node(node) for node in raw["nodes"]),
    )
    for event in raw.get("story", []):
        for word, value in event.items():
            _STORY[word](world, value)
    return world


def assert_matches(plan: Plan, path: Path, *, update: bool) -> None:
    """Compare a plan with its expected.yaml, or write that file.

    Raises:
        AssertionError: they differ.
    """
    found = yaml.safe_dump(plan_as_dict(plan), sort_keys=False, width=100, allow_unicode=True)
    if update:
        path.write_text(found, "utf-8")
    assert yaml.safe_load(found) == yaml.safe_load(path.read_text("utf-8"))


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain data; an assignment is shown as the object that its text holds."""
    return {
        "records": [_body(item) for item in plan.records],
        "status": plan.status.to_dict() if plan.status else None,
        "objects": [_body(item) for item in plan.objects],
        "nudges": [[one.pod, one.revision, one.digest] for one in plan.nudges],
        "prune": [f"{one.kind}/{one.name}" for one in plan.prune],
        "events": [
            f"{'Warning' if e.warning else 'Normal'} {e.reason}: {e.message}" for e in plan.events
        ],
        "requeueAfterS": plan.requeue_after_s,
        "watchUnits": plan.watch_units,
    }


def _body(item: Manifest) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(json.dumps(item.body))
    if item.ref.kind == "ConfigMap":
        body["data"][ASSIGNMENT_FILE] = json.loads(body["data"][ASSIGNMENT_FILE])
    return body


def _node(raw: dict[str, Any]) -> Node:
    options = [having(name, count) for name, count in raw.get("has", {}).items()]
    options += [offline] * bool(raw.get("offline")) + [cordoned] * bool(raw.get("cordoned"))
    node = make_node(raw["name"], *options, arch=raw.get("arch", "amd64"))
    node.labels.update(raw.get("labels", {}))  # type: ignore[attr-defined]
    return node


def _model(raw: dict[str, Any] | None) -> EdgeModel | None:
    return (
        None
        if raw is None
        else EdgeModel.model_validate(
            {"metadata": {"name": "digits", "uid": "model-uid", "generation": 1}, "spec": raw}
        )
    )


def _set_model(world: World, raw: dict[str, Any] | None) -> None:
    world.model = _model(raw)


_STORY = {
    "settle": lambda world, _: world.settle(),
    "turns": lambda world, count: [world.turn() for _ in range(count)],
    "until": lambda world, stage: world.turn_until(Stage(stage)),
    "before": lambda world, stage: world.turn_before(Stage(stage)),
    "model": _set_model,
    "change": lambda world, spec: world.change(**spec),
    "refuse": lambda world, pair: world.refusals.add(tuple(pair)),
    "lose": lambda world, name: world.change_node(name, offline),
}
"""Words of a story: what happens, one after the other."""
