"""The units of a step: evenly over cells and sites, canaries first, nobody displaced."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sim import V1, V2, unit, units
from skerry_operator.decide.rollout.choose import choose, uncovered_cells

ONE_OF_EACH = [unit(f"a{i}", cell="a") for i in range(8)] + [
    unit(f"b{i}", cell="b") for i in range(2)
]


def cells(chosen: frozenset[str]) -> str:
    return "".join(sorted(name[0] for name in chosen))


def by_hash(count: int) -> list[str]:
    """Names in the order in which units that are alike are taken."""
    names = (f"n{index}" for index in range(count))
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", "a"),
        ("3", "aab"),
        ("10%", "ab"),
        ("50%", "aaaab"),
        ("75%", "aaaaaabb"),
        ("100%", "aaaaaaaabb"),
    ],
)
def test_every_cell_is_taken_to_about_the_same_share(text: str, expected: str) -> None:
    assert cells(choose(ONE_OF_EACH, text, V2)) == expected


def test_no_units_means_nobody() -> None:
    assert choose([], "1", V2) == frozenset()


def test_canary_nodes_come_first_whatever_their_site() -> None:
    fleet = [unit(f"n{i}", site=f"s{i % 3}", canary=i == 7) for i in range(9)]
    assert choose(fleet, "1", V2) == {"n7"}


def test_sites_take_turns_within_a_cell() -> None:
    fleet = [unit(f"x{i}", site="x") for i in range(6)] + [unit(f"y{i}", site="y") for i in (1, 2)]
    assert cells(choose(fleet, "2", V2)) == "xy"
    assert cells(choose(fleet, "50%", V2)) == "xxxy"


def test_sites_take_turns_also_where_one_site_comes_first_by_its_names() -> None:
    names = by_hash(6)
    fleet = [unit(name, site="x" if place < 4 else "y") for place, name in enumerate(names)]
    assert choose(fleet, "2", V2) == {names[0], names[4]}


def test_a_unit_that_has_the_target_is_never_displaced_by_a_new_node() -> None:
    fleet = [*units(4, V1), unit("held", V2)]
    assert choose([*fleet, unit("new-canary", canary=True)], "1", V2) == {"held"}


def test_a_unit_that_has_the_target_stands_for_its_cell_whatever_its_name() -> None:
    names = by_hash(6)
    fleet = [*(unit(name, V1) for name in names[:5]), unit(names[5], V2)]
    assert choose(fleet, "1%", V2) == {names[5]}


def test_an_offline_unit_is_not_picked_and_not_counted() -> None:
    fleet = [*units(2), *(unit(f"off{i}", reachable=False) for i in range(8))]
    assert choose(fleet, "50%", V2) <= {"n0", "n1"}
    assert len(choose(fleet, "50%", V2)) == 1


def test_an_offline_unit_keeps_the_target_and_another_one_is_picked() -> None:
    fleet = [unit("off", V2, reachable=False), *units(3, V1)]
    assert len(choose(fleet, "1", V2)) == 2


def test_a_cell_that_joins_gets_its_unit_although_the_percentage_is_met() -> None:
    fleet = [unit("a1", V2, cell="a"), unit("a2", V2, cell="a"), unit("b1", cell="b")]
    assert choose(fleet, "50%", V2) == {"a1", "a2", "b1"}


def test_a_count_is_literal_on_a_site_with_one_box_of_each_kind() -> None:
    fleet = [unit("a1", cell="a"), unit("b1", cell="b"), unit("c1", cell="c", canary=True)]
    assert choose(fleet, "1", V2) == {"c1"}
    assert choose(fleet, "1%", V2) == {"a1", "b1", "c1"}


def test_a_cell_without_a_chosen_unit_is_uncovered_unless_all_its_units_are_offline() -> None:
    fleet = [unit("a1", cell="a"), unit("b1", cell="b"), unit("c1", cell="c", reachable=False)]
    assert uncovered_cells(fleet, frozenset({"a1"})) == {"b"}


fleets = st.lists(
    st.builds(
        unit,
        name=st.uuids().map(str),
        on=st.sampled_from([None, V1, V2]),
        cell=st.sampled_from("abc"),
        site=st.sampled_from("xyz"),
        canary=st.booleans(),
        reachable=st.booleans(),
    ),
    max_size=30,
)
texts = st.one_of(st.integers(1, 30).map(str), st.integers(1, 100).map("{}%".format))


@given(fleets, texts)
@settings(max_examples=150)
def test_a_choice_covers_its_cells_and_stays_the_same_when_it_is_carried_out(
    fleet: list, text: str
) -> None:
    chosen = choose(fleet, text, V2)
    done = [
        unit(**{**vars(one), "on": V2 if one.name in chosen else V1, "assigned": V2})
        if one.name in chosen
        else one
        for one in fleet
    ]
    assert not (text.endswith("%") and uncovered_cells(fleet, chosen))
    assert choose(done, text, V2) == chosen
    assert choose(list(reversed(fleet)), text, V2) == chosen


@given(fleets, st.integers(1, 99))
@settings(max_examples=100)
def test_a_later_step_never_takes_the_target_from_a_unit(fleet: list, percent: int) -> None:
    assert choose(fleet, f"{percent}%", V2) <= choose(fleet, f"{percent + 1}%", V2)
