"""What stays and what goes when room is needed."""

from __future__ import annotations

import random

import pytest

from skerry_runtime.cache.ledger import Allowance, Ledger, NoRoom


def ledger(capacity: int = 100, quota: int = 60, pin_s: float = 1000.0) -> Ledger:
    return Ledger(Allowance(capacity, quota, pin_s))


def bring(book: Ledger, name: str, size: int, namespace: str = "a") -> list[object]:
    gone = book.admit((namespace, name), 0, size, [])
    book.grow((namespace, name), size)
    book.land((namespace, name))
    return list(gone)


def test_what_was_used_longest_ago_goes_first() -> None:
    book = ledger(quota=100)
    for name in ("x", "y", "z"):
        bring(book, name, 30)
    book.use("x")
    assert bring(book, "new", 40) == ["y"]
    assert set(book.entries) == {"x", "z", "new"}


def test_what_is_pinned_stays_whoever_brings_something() -> None:
    book = ledger()
    bring(book, "kept", 50, "victim")
    book.pin("victim", "kept")
    for number in range(20):
        bring(book, f"n{number}", 50, "greedy")
    assert "kept" in book.entries
    with pytest.raises(NoRoom, match="larger"):
        bring(book, "large", 61, "greedy")


def test_above_its_quota_a_namespace_loses_its_own_files_and_nobody_elses() -> None:
    book = ledger(capacity=1000, quota=60)
    bring(book, "other", 30, "b")
    bring(book, "old", 40, "a")
    assert bring(book, "new", 40, "a") == ["old"]
    assert "other" in book.entries


def test_a_namespace_pins_no_more_than_its_quota() -> None:
    book = ledger(capacity=1000, quota=60)
    bring(book, "one", 40, "b")
    bring(book, "two", 40, "c")
    book.pin("a", "one")
    with pytest.raises(NoRoom, match="pinned"):
        book.pin("a", "two")
    book.pin("a", "one")  # again is no more


def test_what_two_namespaces_brought_counts_for_both() -> None:
    book = ledger()
    bring(book, "shared", 30, "a")
    bring(book, "shared", 30, "b")
    assert (book.brought_bytes("a"), book.brought_bytes("b"), book.used_bytes) == (30, 30, 30)


def test_a_pin_ends_after_the_time_that_the_cache_ran_and_not_by_a_clock() -> None:
    book = ledger(quota=100, pin_s=10)
    bring(book, "kept", 60)
    book.pin("a", "kept")
    again = ledger(quota=100, pin_s=10)
    again.restore({"kept": 60}, book.dump())
    assert again.is_pinned("kept")
    again.uptime_s += 11
    assert bring(again, "new", 60) == ["kept"]


def test_a_full_cache_of_pins_takes_nothing_and_loses_nothing() -> None:
    book = ledger(capacity=100, quota=60)
    for namespace in ("a", "b"):
        bring(book, namespace, 50, namespace)
        book.pin(namespace, namespace)
    before = book.dump()
    with pytest.raises(NoRoom, match="full"):
        book.admit(("c", "new"), 0, 10, [])
    assert book.dump() == before


def test_files_that_come_in_are_no_room_for_others() -> None:
    book = ledger(capacity=100, quota=100)
    book.admit(("a", "coming"), 0, 80, [])
    with pytest.raises(NoRoom):
        book.admit(("b", "new"), 0, 30, [("a", "coming")])
    assert book.admit(("b", "new"), 0, 30, []) == [("a", "coming")]


def test_whatever_happens_no_bound_is_passed_and_no_pinned_file_goes() -> None:
    dice = random.Random(7)
    book = ledger(capacity=500, quota=260)
    for _ in range(3000):
        namespace, name = dice.choice("abc"), f"f{dice.randrange(40)}"
        pinned = {one for one in book.entries if book.is_pinned(one)}
        try:
            if dice.random() < 0.7:
                if name not in book.entries:
                    bring(book, name, dice.randrange(1, 120), namespace)
            elif name in book.entries:
                book.pin(namespace, name)
        except NoRoom:
            pass
        book.uptime_s += 3
        assert book.used_bytes <= 500
        assert all(book.brought_bytes(one) <= 260 for one in "abc")
        assert all(book.pinned_bytes(one) <= 260 for one in "abc")
        assert pinned <= set(book.entries)
        book.uptime_s -= 3
        book.uptime_s += dice.choice([0, 0, 0, 5])


@pytest.mark.parametrize("known", [{}, {"files": {}, "pins": {"a": {"gone": 5.0}}}])
def test_a_lost_book_costs_pins_and_no_file(known: dict[str, object]) -> None:
    book = ledger()
    book.restore({"x": 30}, known)
    assert set(book.entries) == {"x"}
    assert not book.is_pinned("x")
