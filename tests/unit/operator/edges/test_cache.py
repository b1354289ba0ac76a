"""The cache never goes behind our own writes."""

from __future__ import annotations

import pytest

from skerry_operator.kube.cache import GUARD_S, Entry, Table

KEY = ("edge", "digits")
OWNER = ("edge", "digits")


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def table(time: Time) -> Table[str]:
    return Table(time)


def entry(version: int, value: str, uid: str = "u1") -> Entry[str]:
    return Entry(KEY, uid, version, value, OWNER)


def value(table: Table[str]) -> str | None:
    found = table.get(KEY)
    return found.value if found else None


def test_an_object_that_says_nothing_new_wakes_nobody(table: Table[str]) -> None:
    assert table.seen(entry(1, "a"))
    assert not table.seen(entry(2, "a"))
    assert table.seen(entry(3, "b"))


def test_the_echo_of_an_own_write_wakes_nobody(table: Table[str]) -> None:
    table.seen(entry(1, "a"))
    table.wrote(entry(2, "b"))
    assert not table.seen(entry(2, "b"))
    assert value(table) == "b"


def test_an_older_copy_does_not_undo_an_own_write(table: Table[str]) -> None:
    table.seen(entry(1, "stage 1"))
    table.wrote(entry(5, "stage 2"))
    assert not table.seen(entry(3, "stage 1, labelled"))
    assert value(table) == "stage 2"


def test_a_newer_copy_is_believed_at_once(table: Table[str]) -> None:
    table.wrote(entry(5, "ours"))
    assert table.seen(entry(6, "theirs"))
    assert value(table) == "theirs"


def test_after_a_while_an_older_copy_is_believed_for_the_datastore_may_be_restored(
    table: Table[str], time: Time
) -> None:
    table.wrote(entry(5, "ours"))
    time.now = GUARD_S + 0.1
    assert table.seen(entry(2, "restored"))


def test_another_object_of_the_same_name_is_believed_at_once(table: Table[str]) -> None:
    table.wrote(entry(5, "ours"))
    assert table.seen(entry(4, "new", uid="u2"))
    assert value(table) == "new"


def test_a_late_answer_to_a_write_does_not_bring_a_deleted_object_back(table: Table[str]) -> None:
    table.seen(entry(1, "a"))
    table.discard(KEY, "u1")
    table.wrote(entry(2, "b"))
    assert not table.seen(entry(1, "a"))
    assert value(table) is None


def test_a_late_answer_does_not_hide_what_the_watch_already_told(table: Table[str]) -> None:
    table.seen(entry(7, "newer"))
    table.wrote(entry(5, "ours"))
    assert value(table) == "newer"


def test_the_deletion_of_an_earlier_object_leaves_its_successor(table: Table[str]) -> None:
    table.seen(entry(1, "old", uid="u1"))
    table.seen(entry(2, "new", uid="u2"))
    assert table.discard(KEY, "u1") is None
    assert value(table) == "new"


def test_objects_are_found_by_owner_in_the_order_of_their_names(table: Table[str]) -> None:
    for name in ("b", "a", "c"):
        table.seen(Entry(("edge", name), name, 1, name, OWNER))
    table.seen(Entry(("edge", "b"), "b", 2, "b", ("edge", "other")))
    assert [one.value for one in table.owned_by(OWNER)] == ["a", "c"]
    table.discard(("edge", "a"))
    table.discard(("edge", "c"))
    assert table.owned_by(OWNER) == ()


def test_a_version_that_is_no_number_compares_with_nothing(table: Table[str]) -> None:
    table.wrote(entry(5, "ours"))
    assert table.seen(entry(0, "theirs"))
