"""Reads the cell's assignment: a file in a ConfigMap volume, replaced by a link's swap."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.machine import Nothing, Order
from skerry_runtime.agent.refusal import clipped
from skerry_runtime.contract import ASSIGNMENT_FILE, SCHEMA, Assignment

_MAX_BYTES = 4 * 1024 * 1024
_MAX_REVISION_CHARS = 80


class Unreadable(Exception):  # noqa: N818 (says what the file is)
    """The bytes are no assignment for this unit; the text says why."""


@dataclass(frozen=True)
class Reading:
    """One look at the file that found news."""

    digest: str | None
    """sha256 of the bytes; None when there is no file."""
    error: str | None = None
    order: Order | None = None
    """What the file asks of this unit; None when it cannot be told."""
    deployment: str | None = None
    cell: str | None = None


def parse(content: bytes, unit: str) -> Reading:
    """Return what the bytes ask of the unit; an error is part of the answer."""
    digest = hashlib.sha256(content).hexdigest()
    try:
        assignment = _validated(content)
        order = order_of(assignment, unit)
    except Unreadable as err:
        return Reading(digest, clipped(str(err)))
    return Reading(digest, None, order, assignment.deployment, assignment.cell)


def order_of(assignment: Assignment, unit: str) -> Order:
    """Return what the assignment asks of the unit.

    Raises:
        Unreadable: it names a revision that it does not describe.
    """
    revision = assignment.revision_of(unit)
    if revision is None:
        return Nothing()
    if revision not in assignment.revisions:
        raise Unreadable(f"revision {revision!r} is assigned to {unit} but not described")
    if not 0 < len(revision) <= _MAX_REVISION_CHARS:
        raise Unreadable(f"a revision's name has 1 to {_MAX_REVISION_CHARS} characters")
    return Goal(revision, assignment.revisions[revision], assignment.execution)


def _validated(content: bytes) -> Assignment:
    if len(content) > _MAX_BYTES:
        raise Unreadable(f"the assignment is larger than {_MAX_BYTES} bytes")
    try:
        assignment = Assignment.model_validate_json(content)
    except ValidationError as err:
        raise Unreadable(f"no valid assignment: {_first_error(err)}") from err
    if assignment.schema_ > SCHEMA:
        raise Unreadable(f"schema {assignment.schema_} is newer than this runtime's ({SCHEMA})")
    return assignment


def _first_error(err: ValidationError) -> str:
    first = err.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


class AssignmentFile:
    """Looks at the file again and again; a look at an unchanged file is a `stat`."""

    def __init__(self, folder: Path, unit: str) -> None:
        self._path = folder / ASSIGNMENT_FILE
        self._unit = unit
        self._seen: tuple[int, ...] | None = None

    def look(self) -> Reading | None:
        """Return what the file says, or None when it has not changed since the last look."""
        signature = self._signature()
        if signature == self._seen:
            return None
        self._seen = signature
        return self._read()

    def _signature(self) -> tuple[int, ...]:
        """Identify the file behind the links; a swapped link leads to another inode."""
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def _read(self) -> Reading:
        try:
            with self._path.open("rb") as file:
                return parse(file.read(_MAX_BYTES + 1), self._unit)
        except OSError as err:
            return Reading(None, f"{ASSIGNMENT_FILE} cannot be read: {err.strerror}")
