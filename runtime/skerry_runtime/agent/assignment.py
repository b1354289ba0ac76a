"""Reads the cell's assignment: a file in a ConfigMap volume, replaced by a link's swap."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import from_json

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.machine import Nothing, Order
from skerry_runtime.contract import (
    ASSIGNMENT_FILE,
    MAX_ASSIGNMENT_BYTES,
    SCHEMA,
    SCHEMA_OF_TRUST,
    CacheAccess,
    DownloadRules,
    Envelope,
    RevisionContent,
    TrustPolicy,
    clipped,
)


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
    download: DownloadRules | None = None
    """How the line may be used."""
    prepare: Goal | None = None
    """What to fetch ahead."""
    may_try_prepared: bool = False
    """It may be tried ahead, too: others serve it."""
    trust: TrustPolicy = field(default_factory=TrustPolicy)
    """Whose word counts here."""
    cache: CacheAccess | None = None
    """How the cache of the site is reached."""


def parse(content: bytes, unit: str) -> Reading:
    """Return what the bytes ask of the unit; an error is part of the answer."""
    digest = hashlib.sha256(content).hexdigest()
    try:
        assignment = _opened(content)
        order = order_of(assignment, unit)
    except Unreadable as err:
        return Reading(digest, clipped(str(err)))
    return Reading(
        digest=digest,
        error=None,
        order=order,
        deployment=assignment.deployment,
        cell=assignment.cell,
        download=assignment.download,
        prepare=_prepared(assignment, unit),
        may_try_prepared=bool(assignment.try_prepared),
        trust=assignment.trust or TrustPolicy(),
        cache=assignment.cache_access(),
    )


def _prepared(assignment: Envelope, unit: str) -> Goal | None:
    """Return what the unit may be given later; what cannot be read is not fetched ahead."""
    revision = assignment.prepare
    has_other = assignment.revision_of(unit) not in {None, revision}
    if revision is None or revision not in assignment.revisions or not has_other:
        return None
    try:
        return Goal(revision, assignment.content_of(revision), assignment.execution)
    except ValidationError:
        return None


def order_of(assignment: Envelope, unit: str) -> Order:
    """Return what the assignment asks of the unit; no other revision is read.

    Raises:
        Unreadable: it names a revision that it does not describe, or not so that it can be read.
    """
    revision = assignment.revision_of(unit)
    if revision is None:
        return Nothing()
    if revision not in assignment.revisions:
        raise Unreadable(f"revision {revision!r} is assigned to {unit} but not described")
    return Goal(revision, _content(assignment, revision), assignment.execution)


def _content(assignment: Envelope, revision: str) -> RevisionContent:
    try:
        return assignment.content_of(revision)
    except ValidationError as err:
        where = f"revisions.{revision}"
        raise Unreadable(f"no valid assignment: {_first_error(err, where)}") from err


def _opened(content: bytes) -> Envelope:
    if len(content) > MAX_ASSIGNMENT_BYTES:
        raise Unreadable(f"the assignment is larger than {MAX_ASSIGNMENT_BYTES} bytes")
    try:
        document = from_json(content)
        _require_schema(document)
        return Envelope.model_validate(document)
    except ValidationError as err:
        raise Unreadable(f"no valid assignment: {_first_error(err)}") from err
    except ValueError as err:
        raise Unreadable(f"no valid assignment: {err}") from err


def _require_schema(document: object) -> None:
    """Name another schema before its fields are missed."""
    schema = document.get("schema", SCHEMA) if isinstance(document, dict) else SCHEMA
    if schema not in (SCHEMA, SCHEMA_OF_TRUST):
        known = f"{SCHEMA} and {SCHEMA_OF_TRUST}"
        text = f"this runtime reads schema {known}, and not {schema!r:.20}: use an image of the"
        raise Unreadable(f"{text} operator's version")


def _first_error(err: ValidationError, where: str = "") -> str:
    """Return field, value and what is wrong with it."""
    first = err.errors(include_url=False)[0]
    place = ".".join(str(part) for part in (where, *first["loc"]) if part != "")
    is_plain = isinstance(first["input"], str | int | float | bool)
    value = f" = {first['input']!r:.80}" if is_plain and first["loc"] else ""
    return f"{place}{value}: {first['msg']}" if place else str(first["msg"])


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
                return parse(file.read(MAX_ASSIGNMENT_BYTES + 1), self._unit)
        except OSError as err:
            return Reading(None, f"{ASSIGNMENT_FILE} cannot be read: {err.strerror}")
