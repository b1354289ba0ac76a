"""The door: what a pod may send, and what is kept of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOW, busy, make_report, refusing, serving
from counted import counted, counters
from skerry_operator.decide.observed import Pod
from skerry_operator.reports import door
from skerry_operator.reports.base import BODY_LIMIT, Question, ReadError, ReadResult
from skerry_operator.reports.door import let_in
from skerry_runtime.contract import ExamResult, GoldenMetric, StatusReport, SwapPhase

V1 = "v1-1111111111"
WHO = Question(("edge", "digits"), Pod("p", "n", "cell", "t"))
EXAM = ExamResult(metric=GoldenMetric.ACCURACY, value=0.97, threshold=0.9, passed=True, samples=360)


def whole() -> dict[str, Any]:
    """A report with everything in it, as it comes over the wire."""
    report = make_report(
        "n",
        serving(V1),
        busy(V1, SwapPhase.SERVING),
        refusing("v1-2222222222"),
        deployment="edge/digits",
        counters=(counted(V1, counters(100), counters(10)),),
        restarts={V1: 1},
    )
    raw: dict[str, Any] = json.loads(report.model_dump_json(by_alias=True))
    raw["serving"]["models"]["digits"]["exam"] = json.loads(EXAM.model_dump_json(by_alias=True))
    raw["assigned"] = V1
    raw["lastSwap"] = {"at": 1.0, "outageMs": 2.0}
    return raw


def sent(raw: Any) -> bytes:
    return raw if isinstance(raw, bytes) else json.dumps(raw).encode()


def refused(raw: Any) -> ReadError:
    with pytest.raises(ReadError) as found:
        let_in(sent(raw), WHO, NOW.timestamp(), with_counters=True)
    return found.value


def changed(path: str, value: Any) -> dict[str, Any]:
    raw = whole()
    *parents, last = path.split(".")
    inner: Any = raw
    for parent in parents:
        inner = inner[int(parent) if parent.isdecimal() else parent]
    inner[last] = value
    return raw


def test_an_honest_report_is_let_in_with_what_decisions_need() -> None:
    said = let_in(sent(whole()), WHO, NOW.timestamp() - 5, with_counters=True)
    assert said.serving
    assert (said.serving.revision, said.assigned, said.is_settled) == (V1, V1, True)
    assert said.serving.exam
    assert said.serving.exam.samples == 360
    assert said.counters[0].total.requests == 100
    assert (said.restarts, said.clock_ahead_s) == (1, 5)


def test_numbers_are_kept_only_while_somebody_compares_them() -> None:
    said = let_in(sent(whole()), WHO, NOW.timestamp(), with_counters=False)
    assert said.counters == ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("serving.models.digits.exam.samples", -1),
        ("serving.models.digits.exam.samples", 10**400),
        ("serving.models.digits.exam.value", float("nan")),
        ("serving.models.digits.acceleration.delegatedPercent", float("inf")),
        ("serving.since", 1e300),
        ("counters.0.total.requests", 10**400),
        ("counters.0.total.requests", -1),
        ("counters.0.total.failures", {"a": -5}),
        ("counters.0.total.failures", {str(n): 1 for n in range(100)}),
        ("counters.0.lastMinute.latency", {"counts": [1] * 1000}),
        ("counters.0.lastMinute.latency", {"counts": [-1]}),
        ("restarts", {V1: -1}),
        ("restarts", {str(n): 1 for n in range(100)}),
        ("failures", [{}] * 20),
        ("now", float("nan")),
        ("assigned", "v" * 300),
    ],
)
def test_a_number_or_list_beyond_its_bounds_is_refused_and_named(path: str, value: Any) -> None:
    error = refused(changed(path, value))
    assert error.result is ReadResult.GARBAGE
    assert path.split(".", 1)[0] in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"counters": [' + b"{}," * 20_000 + b"{}]}",
        b"\xff\xfe",
        b"1" * 60_000,
    ],
    ids=["nothing", "html", "null", "deep list", "deep object", "long list", "bytes", "a number"],
)
def test_what_is_no_report_is_refused(body: bytes) -> None:
    assert refused(body).result is ReadResult.GARBAGE


def test_a_long_body_is_refused_unread() -> None:
    assert refused(sent(whole()) + b" " * BODY_LIMIT).result is ReadResult.TOO_LARGE


@pytest.mark.parametrize(("path", "value"), [("unit", "another"), ("deployment", "edge/other")])
def test_a_stranger_is_refused(path: str, value: str) -> None:
    assert refused(changed(path, value)).result is ReadResult.STRANGER


def test_a_pod_that_read_no_assignment_yet_is_believed() -> None:
    assert let_in(sent(changed("deployment", None)), WHO, 0, with_counters=True).unit == "n"


@pytest.mark.parametrize(
    ("path", "value"),
    [("progress.phase", "Dreaming"), ("failures.0.reason", "MoonTooBright"), ("news", {"a": [1]})],
)
def test_words_and_fields_of_a_newer_runtime_are_no_reason_to_refuse(path: str, value: Any) -> None:
    assert let_in(sent(changed(path, value)), WHO, 0, with_counters=True).serving


def test_texts_of_a_pod_are_cut_and_do_nothing_to_a_terminal() -> None:
    said = let_in(
        sent(changed("failures.0.message", "\x1b[2J\u202eevil\n" + "x" * 5000)),
        WHO,
        0,
        with_counters=True,
    )
    assert said.failures[0].message.isprintable()
    assert len(said.failures[0].message) == door.MESSAGE_LIMIT


def test_what_is_refused_is_told_on_one_printable_line() -> None:
    error = refused(changed("restarts", {"\x1b[2J\n" * 20: -1}))
    assert str(error).isprintable()
    assert len(str(error)) <= door.PROBLEM_LIMIT


def test_every_field_that_the_door_reads_is_one_of_the_contract() -> None:
    document = StatusReport.model_json_schema(by_alias=True)
    named = {name for model in (document, *document["$defs"].values()) for name in _names(model)}
    read = door._Report.model_json_schema(by_alias=True)
    wanted = {name for model in (read, *read["$defs"].values()) for name in _names(model)}
    assert wanted <= named


def _names(model: dict[str, Any]) -> Iterable[str]:
    return model.get("properties", {})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_no_value_anywhere_does_more_than_be_refused(value: Any) -> None:
    for path in ("serving", "progress.trials", "counters.0.total", "failures", "restarts", "now"):
        with suppress(ReadError):
            let_in(sent(changed(path, value)), WHO, 0, with_counters=True)


def test_a_pod_at_rest_takes_less_than_a_kibibyte() -> None:
    raw = {**whole(), "failures": []}
    said = let_in(sent(raw), WHO, NOW.timestamp(), with_counters=False)
    texts = (V1, "n", "1.0.0", "fp32", "", "CPUExecutionProvider")
    shared = {id(sys.intern(text)) for text in texts}
    assert _size(said, shared) < 1024


def _size(value: Any, known: set[int]) -> int:
    """Return the bytes of a value and all that is in it, interned texts aside."""
    if value is None or id(value) in known:
        return 0
    known.add(id(value))
    parts: Iterable[Any] = ()
    if is_dataclass(value):
        parts = (getattr(value, one.name) for one in fields(value))
    elif isinstance(value, tuple):
        parts = value
    return sys.getsizeof(value) + sum(_size(part, known) for part in parts)
