"""Every number, text and list of the contract has bounds, and a pod keeps to them."""

from __future__ import annotations

import json
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import annotated_types
import pytest
from pydantic import BaseModel, ValidationError

from serving.fakes import serving
from skerry_runtime import contract
from skerry_runtime.agent.assignment import parse
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.report import progress_of
from skerry_runtime.agent.state import MAX_REFUSALS, NodeState, RefusalRecord
from skerry_runtime.contract import (
    LATENCY_BOUNDS_MS,
    MAX_COUNT,
    MAX_REPORT_BYTES,
    Acceleration,
    Agreement,
    Assignment,
    ExamResult,
    Execution,
    Failure,
    FailureReason,
    StatusReport,
    SwapRecord,
    Trial,
    clipped,
)
from skerry_runtime.metrics import KEPT_REVISIONS, Metrics
from unit.runtime.agent.support import content

RECORD = Path(__file__).parents[1] / "record"
ASSIGNMENT = json.loads((RECORD / "assignment.json").read_text("utf-8"))
REPORT = json.loads((RECORD / "report.json").read_text("utf-8"))

MODELS = [
    model
    for model in vars(contract).values()
    if isinstance(model, type)
    and issubclass(model, contract.ContractModel)
    and model is not contract.ContractModel
]


def _leaves(document: Any, kind: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in items:
        if isinstance(value, dict | list):
            found += _leaves(value, kind, (*path, key))
        elif isinstance(value, kind) and not isinstance(value, bool):
            found.append((*path, key))
    return found


def _with(document: Any, path: tuple[Any, ...], text: str) -> str:
    """Return the document's text with a raw value in one place."""
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "@@"
    return json.dumps(copy).replace('"@@"', text)


def _numbers() -> list[Any]:
    documents = {"assignment": (Assignment, ASSIGNMENT), "report": (StatusReport, REPORT)}
    seen: dict[str, Any] = {}
    for name, (model, document) in documents.items():
        for path in _leaves(document, int | float):
            label = ".".join(str(key) for key in path if not isinstance(key, int))
            seen.setdefault(f"{name}.{label}", (model, document, path))
    return [pytest.param(*values, id=label) for label, values in seen.items()]


@pytest.mark.parametrize("value", ["1" + "0" * 400, "NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(("model", "document", "path"), _numbers())
def test_a_number_beyond_all_bounds_is_refused(
    model: type[BaseModel], document: Any, path: tuple[Any, ...], value: str
) -> None:
    with pytest.raises(ValidationError):
        model.model_validate_json(_with(document, path, value))


SIGNED = {"value", "threshold"}
"""Of an exam: any finite number."""


@pytest.mark.parametrize(("model", "document", "path"), _numbers())
def test_a_negative_number_is_refused(
    model: type[BaseModel], document: Any, path: tuple[Any, ...]
) -> None:
    if path[-1] not in SIGNED:
        with pytest.raises(ValidationError):
            model.model_validate_json(_with(document, path, "-1"))


def _is_bounded(annotation: Any, metadata: tuple[Any, ...] = ()) -> bool:
    """Tell whether every text and list in the annotation has a longest length."""
    if hasattr(annotation, "__metadata__"):
        return _is_bounded(annotation.__origin__, (*metadata, *annotation.__metadata__))
    if get_origin(annotation) in (Union, UnionType):
        return all(_is_bounded(one) for one in get_args(annotation) if one is not type(None))
    if annotation is str:
        return _has_length(metadata)
    if get_origin(annotation) in (tuple, dict):
        parts = [one for one in get_args(annotation) if one is not Ellipsis]
        return _has_length(metadata) and all(_is_bounded(one) for one in parts)
    return True


def _has_length(metadata: tuple[Any, ...]) -> bool:
    def one(found: Any) -> bool:
        if isinstance(found, annotated_types.MaxLen):
            return True
        if "Before" in type(found).__name__:  # texts for people are cut
            return True
        pattern = getattr(found, "pattern", None) or ""
        return (
            getattr(found, "max_length", None) is not None
            or pattern.endswith("{64}$")
            or any(
                isinstance(part, annotated_types.MaxLen) for part in getattr(found, "metadata", ())
            )
        )

    return any(one(found) for found in metadata)


@pytest.mark.parametrize("model", MODELS)
def test_every_text_and_list_has_a_longest_length(model: type[BaseModel]) -> None:
    loose = [
        name
        for name, field in model.model_fields.items()
        if not _is_bounded(field.annotation, tuple(field.metadata))
    ]
    assert loose == []


@pytest.mark.parametrize(("field", "value"), [("threads", -1), ("threads", 0), ("memoryBytes", -5)])
def test_a_negative_setting_is_refused_with_field_and_value(field: str, value: int) -> None:
    raw = json.loads(json.dumps(ASSIGNMENT))
    raw["revisions"]["r1-0a1b2c3d4e"]["models"]["digits"][field] = value
    error = parse(json.dumps(raw).encode(), "node-1").error
    assert error is not None
    assert f"models.digits.{field} = {value}: Input should be greater than" in error


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", ".x", "a//b", "a\\b", "a\nb", ""])
def test_a_file_never_leaves_its_models_folder(path: str) -> None:
    raw = json.loads(json.dumps(ASSIGNMENT))
    raw["revisions"]["r1-0a1b2c3d4e"]["models"]["digits"]["files"][0]["path"] = path
    assert "files.0.path" in (parse(json.dumps(raw).encode(), "node-1").error or "")


def test_texts_for_people_are_cut_and_hold_no_control_characters() -> None:
    text = clipped("a\x1b[31m\u202e\u2028b" + "ü" * 2000)
    assert text.startswith("a [31m  b")
    assert text.endswith("…")
    assert text.isprintable()
    assert len(text.encode()) <= contract.MAX_TEXT_BYTES


# --- the report at its fullest ---

LONG = '"' * 5000  # two bytes each in JSON
FIGURE = 1.2345678901234567e-300


def _trial() -> Trial:
    return Trial(
        exam=ExamResult(
            metric="MaxAbsError", value=FIGURE, threshold=FIGURE, passed=False, samples=MAX_COUNT
        ),
        agreement=Agreement(
            compared=MAX_COUNT,
            agreed=MAX_COUNT,
            errors=MAX_COUNT,
            max_abs_error=FIGURE,
            mean_ms=FIGURE,
            message=LONG,
        ),
    )


def _counted() -> Metrics:
    """Count as high as 63 bits go, in every bucket, with more kinds of failure than there are."""
    metrics = Metrics(monotonic=lambda: 1e6)
    for revision in range(KEPT_REVISIONS + 2):
        counts = metrics.activate(f"r1-{revision:077}")
        for tally in (counts._total, counts._this_second()):
            tally.requests = tally.rejected = MAX_COUNT
            tally.latency = [MAX_COUNT] * (len(LATENCY_BOUNDS_MS) + 1)
            tally.sum_ms = 1.2345678901234567e300
            for kind in range(40):
                tally.add_failure(f"A{kind:039}Error")
            tally.requests = MAX_COUNT
            tally.failures = dict.fromkeys(tally.failures, MAX_COUNT)
    return metrics


def test_the_fullest_report_is_within_what_a_reader_reads() -> None:
    revision = f"r1-{1:077}"
    records = [
        RefusalRecord(
            key=str(index),
            failure=Failure(
                revision=revision,
                reason=FailureReason.INSUFFICIENT_MEMORY,
                message=LONG,
                at=1e15,
                retry="\x01" * 256,
            ),
            trials={"digits": _trial()},
        )
        for index in range(MAX_REFUSALS + 5)
    ]
    state = NodeState()
    for record in records:
        state = state.with_refusal(record)
    acceleration = Acceleration(
        requested=("P" * 253,) * 16,
        effective="P" * 253,
        delegated_percent=1 / 3,
        nodes={f"{index:0253}": MAX_COUNT for index in range(16)},
        reason=LONG,
    )
    goal = Goal(revision, content(retry="\x01" * 256), Execution(profile="cpu"))
    served = serving(object(), revision).served
    model = served.model.model_copy(
        update={**dict(_trial()), "acceleration": acceleration, "version": "v" * 64}
    )
    report = StatusReport(
        unit="u" * 253,
        deployment="d" * 317,
        cell="c" * 253,
        runtime_version="1" * 64,
        boot_id="b" * 32,
        started_at=FIGURE,
        now=FIGURE,
        assignment="a" * 64,
        assignment_error=LONG,
        assigned=revision,
        serving=served.model_copy(update={"models": {"n" * 63: model}}),
        progress=progress_of(goal, None, state.refusals[0], None),
        failures=tuple(record.failure for record in state.refusals),
        on_disk=tuple(f"r1-{index:077}" for index in range(contract.MAX_COUNTED)),
        counters=_counted().counters(),
        restarts={f"r1-{index:077}": MAX_COUNT for index in range(contract.MAX_COUNTED)},
        last_swap=SwapRecord(
            from_revision=revision,
            to_revision=revision,
            mode="Sequential",
            total_ms=FIGURE,
            switch_ms=FIGURE,
            outage_ms=FIGURE,
            fetched=True,
            at=FIGURE,
        ),
        rss_bytes=MAX_COUNT,
    )
    text = report.model_dump_json(by_alias=True)
    assert len(text.encode()) <= MAX_REPORT_BYTES
    assert StatusReport.model_validate_json(text) == report
