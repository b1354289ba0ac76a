"""The field reference: complete, and readable as a table."""

from __future__ import annotations

import re

import pytest

from skerry_operator.crdgen.definitions import KINDS
from skerry_operator.crdgen.docs import reference


@pytest.fixture(scope="module")
def page() -> str:
    return reference(KINDS)


def row(page: str, path: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| `{path}` "))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_row_tells_type_need_default_and_meaning(page: str) -> None:
    assert row(page, "spec.rollout.maxUnavailable") == [
        "`spec.rollout.maxUnavailable`",
        "integer, 1 to 10000",
        "",
        "`1`",
        "Units per site whose pods may be replaced at one time.",
    ]
    assert row(page, "spec.modelRef.name")[2] == "yes"


def test_an_enum_lists_its_words(page: str) -> None:
    assert row(page, "spec.rollout.onFailure")[1] == r"`Rollback` \| `Pause`"


def test_lists_and_maps_say_what_they_hold(page: str) -> None:
    assert row(page, "spec.rollout.steps")[1] == "list of at most 32: object"
    assert row(page, "spec.placement.nodeSelector")[1] == "map of at most 16 texts"


def test_the_fields_of_list_items_are_there(page: str) -> None:
    assert row(page, "spec.rollout.analysis.metrics[].name")[2] == "yes"
    assert row(page, "spec.variants[].source.uri")[2] == "yes"


def test_rules_are_listed_as_people_read_them(page: str) -> None:
    assert "- port and grpcPort must differ" in page


def test_every_row_has_as_many_cells_as_its_head(page: str) -> None:
    width = 0
    for line in page.splitlines():
        cells = len(re.split(r"(?<!\\)\|", line))
        if line.startswith("|"):
            width = width or cells
            assert cells == width, line
        else:
            width = 0
