"""No text of the cluster makes a terminal do anything."""

from __future__ import annotations

import json

import pytest

from skerry_operator.ctl import cli
from skerry_operator.ctl.answer import Answer, Declined
from skerry_operator.ctl.table import as_json, printable, table

NASTY = "1.0\x1b[31m\u202egnp.exe\u2066 \x9b2J\x7f\r\b"


def test_what_a_terminal_obeys_is_shown_and_not_sent() -> None:
    shown = printable(NASTY)
    assert shown.isprintable()
    assert shown.startswith(r"1.0\u001b[31m\u202egnp")


def test_people_s_letters_stay_what_they_are() -> None:
    text = "modèle 猫 \N{SNOWMAN}\nsecond line"
    assert printable(text) == text


def test_json_says_the_same_as_before() -> None:
    text = printable(as_json({"version": NASTY}))
    assert json.loads(text) == {"version": NASTY}
    assert text.replace("\n", "").isprintable()


def test_a_line_end_in_a_cell_makes_no_row() -> None:
    assert table(["A"], [["one\ntwo"]]).count("\n") == 1


@pytest.mark.parametrize("command", ["status", "history"])
def test_every_command_prints_through_it(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli._COMMANDS, command, lambda _: Answer(NASTY))
    cli.main([command, "digits"])
    assert capsys.readouterr().out.rstrip("\n").isprintable()


def test_refusals_are_printed_through_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> Answer:
        raise Declined(NASTY)

    monkeypatch.setitem(cli._COMMANDS, "status", refuse)
    cli.main(["status", "digits"])
    assert capsys.readouterr().err.rstrip("\n").isprintable()
