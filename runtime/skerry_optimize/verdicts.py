"""The verdict of a job: how it is written, kept and judged again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from skerry_optimize.report import BuiltArtifact, JobPhase, JobReport
from skerry_runtime.contract import (
    MAX_VERDICT_BYTES,
    BuildOrder,
    BuildPhase,
    BuildVerdict,
    BuildWorth,
    Format,
    StoredBuild,
    clipped,
)

_PHASES = {JobPhase.SUCCEEDED: BuildPhase.SUCCEEDED, JobPhase.REFUSED: BuildPhase.REFUSED}
_FORMATS = {".onnx": Format.ONNX, ".ort": Format.ORT, ".tflite": Format.TFLITE}


class Note(BaseModel):
    """What the store keeps of a job that was done."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    verdict: BuildVerdict
    guards: Mapping[str, str] = Field(default_factory=dict, max_length=8)
    """What it was judged by."""


def format_of(name: str) -> Format:
    """Return the format of a file by its name's ending."""
    return next((form for end, form in _FORMATS.items() if name.endswith(end)), Format.CUSTOM)


def verdict_of(order: BuildOrder, report: JobReport, cpu: str, uri: str | None) -> BuildVerdict:
    """Return the verdict that a job's report comes to; `uri` is where its file was put."""
    made = report.artifact
    build = (
        StoredBuild(uri=uri, sha256=made.sha256, format=format_of(made.file))
        if made is not None and uri is not None
        else None
    )
    return BuildVerdict(
        key=order.key,
        phase=_PHASES[report.phase],
        message=report.message,
        seconds=report.seconds,
        build=build,
        worth=None if made is None else _worth(made, cpu),
    )


def _worth(made: BuiltArtifact, cpu: str) -> BuildWorth:
    return BuildWorth(
        size_bytes=made.size_bytes,
        size_ratio=made.size_ratio,
        accuracy=made.accuracy,
        accuracy_drop=made.accuracy_drop,
        latency_us=made.latency_us,
        latency_ratio=made.latency_ratio,
        peak_memory_bytes=made.peak_memory_bytes,
        cpu=clipped(cpu, 64) or None,
    )


def failed(order: BuildOrder, message: str, seconds: float = 0.0) -> BuildVerdict:
    """Return the verdict of a job that could not be tried."""
    return BuildVerdict(
        key=order.key, phase=BuildPhase.FAILED, message=message, seconds=max(0.0, seconds)
    )


def note_of(verdict: BuildVerdict, order: BuildOrder) -> bytes:
    """Return what the store is to keep."""
    note = Note(verdict=verdict, guards=order.guards)
    return note.model_dump_json(by_alias=True, exclude_none=True).encode()


def read_note(content: bytes, order: BuildOrder) -> BuildVerdict | None:
    """Return what was found out before, judged by the guards of today.

    None: nothing that can be read, or a build that was refused and is wanted now: its file was not
    kept.
    """
    try:
        note = Note.model_validate_json(content)
    except ValidationError:
        return None
    verdict = note.verdict
    if verdict.key != order.key or verdict.phase not in _PHASES.values():
        return None
    worth = verdict.worth
    if dict(note.guards) == dict(order.guards) or worth is None:
        return verdict.model_copy(update={"was_stored": True})
    problems = broken_by(worth, order.guards)
    if not problems and verdict.build is None:
        return None
    phase = BuildPhase.REFUSED if problems else BuildPhase.SUCCEEDED
    changed = {"phase": phase, "message": clipped("; ".join(problems)), "was_stored": True}
    return verdict.model_copy(update=changed | ({"build": None} if problems else {}))


def broken_by(worth: BuildWorth, guards: Mapping[str, str]) -> list[str]:
    """Return which limits the figures of a stored build break."""
    figures = {
        "maxAccuracyDrop": ("worse in the exam", worth.accuracy_drop),
        "maxSizeRatio": ("of its origin's bytes", worth.size_ratio),
        "maxLatencyRatio": ("of its origin's time", worth.latency_ratio),
    }
    return [
        f"{value:.4g} {what}, {name} is {guards[name]}"
        for name, (what, value) in figures.items()
        if name in guards and value is not None and value > float(Decimal(guards[name])) + 1e-12
    ]


def last_words(verdict: BuildVerdict) -> str:
    """Return the verdict as the kubelet keeps it: whole, whatever its texts are."""
    for limit in (1024, 512, 128, 0):
        text = verdict.model_copy(
            update={"message": clipped(verdict.message, limit) if limit else ""}
        ).model_dump_json(by_alias=True, exclude_none=True)
        if len(text.encode()) <= MAX_VERDICT_BYTES:
            return text
    raise AssertionError("the address of a build has bounds")
