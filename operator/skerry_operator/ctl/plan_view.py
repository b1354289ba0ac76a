"""`skerry plan` in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment_status import RejectedNode
from skerry_operator.ctl.answer import Exit
from skerry_operator.ctl.foresee import Foresight
from skerry_operator.ctl.table import INDENT, page, section, table


def plan_text(foresight: Foresight) -> str:
    """Return what would come of the manifests, for people."""
    return page(
        _head(foresight),
        section(f"Units without a build ({len(foresight.uncovered)})", _uncovered(foresight)),
        section("Cells", _cells(foresight)),
        section(f"Rejected nodes ({len(foresight.rejected)})", _nodes(foresight.rejected)),
        section("Better hardware that is not used", _nodes(foresight.passed_over)),
        section("Objects at the operator's next look", _objects(foresight)),
        section("Where the operator may plan otherwise", _notes(foresight)),
    )


def plan_json(foresight: Foresight) -> dict[str, Any]:
    """Return what would come of the manifests, for scripts; fields are only ever added."""
    namespace, _, name = foresight.title.partition("/")
    return {
        "namespace": namespace,
        "name": name,
        "valid": not foresight.is_invalid,
        "stableRevision": foresight.stable,
        "wantedRevision": foresight.wanted,
        "ready": foresight.ready,
        "held": foresight.is_held,
        "uncoveredUnits": [
            {"unit": one.name, "keeps": one.keeps, "reason": one.why} for one in foresight.uncovered
        ],
        "upgrade": foresight.upgrade,
        "windows": foresight.windows,
        "cells": [asdict(cell) for cell in foresight.cells],
        "rejectedNodes": [node.to_dict() for node in foresight.rejected],
        "unusedHardware": [node.to_dict() for node in foresight.passed_over],
        "notes": list(foresight.notes),
        "objects": {what: list(names) for what, names in foresight.objects.items()},
    }


def exit_of(foresight: Foresight) -> Exit:
    """Return the exit status that a plan deserves."""
    if foresight.is_invalid:
        return Exit.REFUSED
    if foresight.is_held:
        return Exit.NOT_READY
    return Exit.OK if foresight.cells else Exit.NO_NODE


def _head(foresight: Foresight) -> str:
    lines = [f"EdgeDeployment {foresight.title}: {_revisions(foresight)}"]
    if foresight.ready:
        lines.append(f"{INDENT}then    {foresight.ready}")
    if foresight.upgrade and foresight.upgrade not in foresight.ready:
        lines.append(f"{INDENT}images  {foresight.upgrade}")
    if foresight.windows:
        lines.append(f"{INDENT}windows {foresight.windows}")
    return "\n".join(lines)


def _revisions(foresight: Foresight) -> str:
    stable, wanted = foresight.stable, foresight.wanted
    if wanted is None or foresight.is_invalid:
        return "nothing can be planned"
    if stable is None:
        return f"first deployment of revision {wanted}"
    return f"revision {stable} stays" if stable == wanted else f"revision {stable} -> {wanted}"


def _uncovered(foresight: Foresight) -> str:
    rows = [(one.name, one.keeps, foresight.fate, one.why) for one in foresight.uncovered]
    return table(["UNIT", "HAS", "THEN IT", "REASON"], rows)


def _cells(foresight: Foresight) -> str:
    head = ["CELL", "PROFILE", "ARCH", "VARIANT", "UNITS", "CHANGE", "IMAGE", "WHY NEW PODS"]
    rows = [
        (cell.name, cell.profile, cell.arch, cell.variant, cell.units, cell.change, cell.image)
        for cell in foresight.cells
    ]
    if not any(cell.why for cell in foresight.cells):
        return table(head[:-1], rows)
    whys = [cell.why for cell in foresight.cells]
    return table(head, [(*row, why) for row, why in zip(rows, whys, strict=True)])


def _notes(foresight: Foresight) -> str:
    return "\n".join(f"{INDENT}{note}" for note in foresight.notes)


def _nodes(nodes: Iterable[RejectedNode]) -> str:
    rows = [(node.node, node.reason, node.message) for node in nodes]
    return table(["NODE", "REASON", "MESSAGE"], rows)


def _objects(foresight: Foresight) -> str:
    rows = [(what, name) for what, names in foresight.objects.items() for name in names]
    return table(["CHANGE", "OBJECT"], rows)
