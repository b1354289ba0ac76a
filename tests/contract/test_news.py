"""A word of a newer version is taken, kept and told apart from the known ones."""

from __future__ import annotations

from enum import StrEnum

import pytest
from pydantic import ValidationError

from skerry_runtime.contract.base import KNOWN_WORDS_ONLY, ContractModel, Open, is_known


class Light(StrEnum):
    RED = "Red"
    GREEN = "Green"


class Crossing(ContractModel):
    light: Open[Light]
    before: Open[Light] | None = None


def test_a_word_that_is_not_known_keeps_its_text_and_equals_no_member() -> None:
    crossing = Crossing.model_validate({"light": "Amber", "before": "Red"})
    assert str(crossing.light) == "Amber"
    assert all(crossing.light != light for light in Light)
    assert (is_known(crossing.light), crossing.before) == (False, Light.RED)


def test_a_word_that_is_not_known_is_written_as_it_was_read() -> None:
    text = '{"light":"Amber","before":null}'
    assert Crossing.model_validate_json(text).model_dump_json() == text


def test_known_words_are_the_members_themselves() -> None:
    crossing = Crossing.model_validate({"light": "Red"})
    assert crossing.light is Light.RED
    assert is_known(crossing.light)


@pytest.mark.parametrize("word", ["", "x" * 65, 7, None, ["Red"]])
def test_what_is_no_word_at_all_is_refused(word: object) -> None:
    with pytest.raises(ValidationError, match="'Red' or 'Green'"):
        Crossing.model_validate({"light": word})


def test_a_strict_reader_takes_known_words_only() -> None:
    with pytest.raises(ValidationError, match="'Red' or 'Green'"):
        Crossing.model_validate({"light": "Amber"}, context=KNOWN_WORDS_ONLY)


def test_news_are_in_no_schema() -> None:
    schema = Crossing.model_json_schema()
    assert schema["$defs"]["Light"]["enum"] == ["Red", "Green"]
