"""`skerry status` and `skerry history` in words and as JSON. Pure."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Any

from skerry_operator.api.base import Condition
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    EdgeDeploymentStatus,
    FailedRevision,
)
from skerry_operator.constants import ConditionType
from skerry_operator.ctl.story import Event, Story, amiss
from skerry_operator.ctl.table import INDENT, NOTHING, page, section, table
from skerry_operator.decide.told.downloads import download_text, prefetch_text


def status_text(story: Story) -> str:
    """Return how the deployment is, for people."""
    status = story.status
    return page(
        _head(story),
        section("Cells", _cells(status)),
        section("Signed by", _signers(status)),
        section("Conditions that are not as they should be", _conditions(status.conditions)),
        section(f"Rejected nodes ({status.rejected_count})", _rejected(status)),
        section("Failed revisions", _failed(story)),
        section("Events", _events(story.events)),
    )


def status_line(story: Story) -> str:
    """Return how the deployment is, in one line, for those who follow it."""
    status, units = story.status, story.status.units
    step = f" step {status.step}" if status.step else ""
    counts = f"{units.updated}/{units.eligible} units updated"
    progressing = story.condition(ConditionType.PROGRESSING)
    message = progressing.message if progressing else ""
    return f"{status.phase or 'Unknown'}{step}, {counts}: {message}".rstrip(": ")


def status_json(story: Story) -> dict[str, Any]:
    """Return how the deployment is, for scripts; fields are only ever added."""
    metadata, status = story.deployment.metadata, story.status.to_dict()
    return {
        "namespace": metadata.namespace,
        "name": metadata.name,
        "wantedRevision": story.wanted,
        "stable": _revision_json(story, story.status.stable_revision),
        "target": _revision_json(story, story.status.target_revision),
        "status": status,
        "events": [asdict(event) for event in story.events],
    }


def history_text(story: Story) -> str:
    """Return what was stable and what failed, newest first."""
    promoted = [
        (entry.revision, entry.version, _time(entry.promoted_at)) for entry in story.status.history
    ]
    if not promoted and not story.status.failed_revisions:
        return f"{story.title}: no revision was promoted and none failed"
    return page(
        section("Stable revisions", table(["REVISION", "VERSION", "PROMOTED AT"], promoted)),
        section("Failed revisions", _failed(story)),
    )


def history_json(story: Story) -> dict[str, Any]:
    """Return what was stable and what failed, newest first, for scripts."""
    return {
        "stable": [entry.to_dict() for entry in story.status.history],
        "failed": [
            {**entry.to_dict(), "version": story.version_of(entry.revision)}
            for entry in story.status.failed_revisions
        ],
    }


def _head(story: Story) -> str:
    status, units = story.status, story.status.units
    step = f", step {status.step}" if status.step else ""
    stale = "" if story.is_current else " (the operator has not seen the newest spec yet)"
    counts = (
        f"{units.eligible} eligible, {units.serving} serving, {units.updated} on the target, "
        f"{units.failed} failed, {units.offline} offline"
    )
    interim = status.interim_revision
    return "\n".join(
        (
            f"EdgeDeployment {story.title}: {status.phase or 'Unknown'}{step}{stale}",
            f"{INDENT}stable  {_revision(story, status.stable_revision)}",
            *((f"{INDENT}interim {_revision(story, interim)}",) if interim else ()),
            f"{INDENT}target  {_revision(story, status.target_revision)}",
            f"{INDENT}units   {counts}",
            *([f"{INDENT}fetch   {download_text(status.download)}"] if status.download else []),
            *([f"{INDENT}ahead   {prefetch_text(status.prefetch)}"] if status.prefetch else []),
            *([f"{INDENT}images  {status.upgrade.message}"] if status.upgrade else []),
            *([f"{INDENT}service {status.service}"] if status.service else []),
        )
    )


def _revision(story: Story, revision: str | None) -> str:
    version = story.version_of(revision)
    return f"{revision or NOTHING}{f' (version {version})' if version else ''}"


def _revision_json(story: Story, revision: str | None) -> dict[str, Any] | None:
    return {"revision": revision, "version": story.version_of(revision)} if revision else None


def _cells(status: EdgeDeploymentStatus) -> str:
    head = ["CELL", "PROFILE", "VARIANT", "PROVIDER", "UPDATED", "LONGEST OUTAGE"]
    rows = [
        (
            cell.name,
            cell.profile,
            cell.variant,
            cell.provider,
            f"keeps {cell.keeps}" if cell.keeps else f"{cell.updated}/{cell.units}",
            _outage(cell.max_outage_ms),
        )
        for cell in status.cells
    ]
    return table(head, rows)


def _outage(length_ms: int | None) -> str | None:
    """Return for example `none`, `413 ms` or `12.5 s`; None: nothing was measured."""
    if length_ms is None:
        return None
    if length_ms == 0:
        return "none"
    return f"{length_ms} ms" if length_ms < 10_000 else f"{length_ms / 1000:.1f} s"


def _signers(status: EdgeDeploymentStatus) -> str:
    """Return whose keys vouched for what serves."""
    rows = [(cell.name, key) for cell in status.cells for key in cell.signed_by or ()]
    return table(["CELL", "KEY"], rows)


def _conditions(conditions: tuple[Condition, ...]) -> str:
    """Return what is amiss; conditions that say the same are one."""
    wrong = groupby(amiss(conditions), key=lambda one: (one.reason, one.message))
    return "\n".join(
        f"{INDENT}{', '.join(f'{one.type}={one.status}' for one in same)}: {reason}: {message}"
        for (reason, message), same in wrong
    )


def _rejected(status: EdgeDeploymentStatus) -> str:
    rows = [(node.node, node.reason, node.message) for node in status.rejected_nodes]
    return table(["NODE", "REASON", "MESSAGE"], rows)


def _failed(story: Story) -> str:
    rows = [_failure(story, entry) for entry in story.status.failed_revisions]
    return table(["REVISION", "VERSION", "FAILED AT", "REASON", "MESSAGE"], rows)


def _failure(story: Story, entry: FailedRevision) -> tuple[object, ...]:
    version = story.version_of(entry.revision)
    return entry.revision, version, _time(entry.at), entry.reason, entry.message


def _events(events: tuple[Event, ...]) -> str:
    rows = [
        (event.when, event.type, event.reason, _counted(event.message, event.count))
        for event in events
    ]
    return table(["WHEN", "TYPE", "REASON", "MESSAGE"], rows)


def _counted(message: str, count: int) -> str:
    return f"{message} ({count} times)" if count > 1 else message


def _time(value: Any) -> str:
    return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
