"""The form of the benches: what is written, and what is shown of a goal."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from bench import form
from bench.compare import compared
from bench.form import at_least, at_most, figure, line, publish


def test_a_value_at_its_limit_meets_the_goal() -> None:
    assert at_most("a", 1.2, 1.2).ok is True
    assert at_least("a", 3.0, 3.0).ok is True


def test_a_value_beyond_its_limit_misses_the_goal_however_little() -> None:
    row = at_most("p99", 250.000001, 250, "ms")
    assert row.ok is False
    assert line(row).endswith("<= 250    missed")


def test_what_was_not_measured_neither_meets_nor_misses() -> None:
    row = at_least("ratio", None, 3)
    assert row.ok is None
    assert "not measured" in line(row)


def test_a_figure_without_a_goal_says_nothing_of_one() -> None:
    assert (figure("RSS", 101.23456, "MiB").value, figure("RSS", 1.0).ok) == (101.2, None)


def test_large_counts_keep_all_their_digits() -> None:
    assert figure("updates", 123456.0).value == 123456.0


def test_the_file_holds_load_and_rows_beside_what_the_bench_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(form, "FOLDER", tmp_path / "build" / "bench")
    rows = [at_most("a", 2.0, 1.0, "s"), at_most("b", 1.0, 1.0), at_most("c", None, 1.0)]
    content = json.loads(publish("some", rows, {"nodes": 60}).read_text())
    assert len(content["load"]) == 3
    assert content["nodes"] == 60
    assert content["rows"][0] == {
        "name": "a",
        "value": 2.0,
        "unit": "s",
        "goal": "<= 1",
        "ok": False,
    }
    printed = capsys.readouterr().out
    assert "1 of 3 goals met, 1 not measured" in printed
    assert "written to build/bench/some.json" in printed


def test_two_runs_are_compared_by_name_and_new_rows_are_shown_too() -> None:
    before = {"a": {"value": 2.0, "goal": None, "ok": None}}
    after = {**before, "a": {"value": 1.0, "goal": "<= 1", "ok": True}, "b": {"value": 3.0}}
    _, a, b = compared(before, after)
    assert a.split() == ["a", "2", "1", "0.50", "<=", "1", "ok"]
    assert b.split() == ["b", "-", "3"]


@pytest.mark.parametrize(
    "bench", sorted(path.stem for path in Path(form.__file__).parent.glob("*.py"))
)
def test_every_bench_finds_what_it_imports(bench: str) -> None:
    importlib.import_module(f"bench.{bench}")
