"""One of a site fetches; nobody keeps the others from it for long."""

from __future__ import annotations

from itertools import count

from skerry_runtime.cache.claims import STILL_ASKING_S, ClaimDesk, ClaimPace

A1, A2, B1, C1 = ("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")


def desk(at_a_time: int = 1) -> ClaimDesk:
    numbers = count(1)
    pace = ClaimPace(at_a_time, turn_s=60, begin_s=30, window_s=10, window_bytes=100)
    return ClaimDesk(pace, lambda: f"t{next(numbers)}")


def test_one_claim_at_a_time_and_the_next_when_it_ends() -> None:
    claims = desk()
    first = claims.ask(A1, 0)
    assert first is not None
    assert claims.ask(A2, 1) is None
    assert claims.end(A1, first.token)
    assert claims.ask(A2, 2) is not None


def test_as_many_as_are_set_at_a_time() -> None:
    claims = desk(at_a_time=2)
    assert claims.ask(A1, 0)
    assert claims.ask(B1, 0)
    assert not claims.ask(C1, 0)


def test_a_claim_that_is_not_used_lapses() -> None:
    claims = desk()
    claims.ask(A1, 0)
    assert not claims.lapse(30)
    assert [one.key for one in claims.lapse(31)] == [A1]
    assert claims.ask(B1, 32)


def test_a_claim_below_the_rate_lapses_and_one_that_keeps_it_does_not() -> None:
    claims = desk()
    first = claims.ask(A1, 0)
    assert first is not None
    assert claims.begin(A1, first.token, 5)
    claims.note(A1, 100)
    assert not claims.lapse(15)
    claims.note(A1, 99)
    assert not claims.lapse(24)
    assert claims.lapse(25)


def test_nobody_feeds_with_the_token_of_another() -> None:
    claims = desk()
    first = claims.ask(A1, 0)
    assert first is not None
    assert not claims.begin(A1, "t9", 1)
    assert not claims.end(A1, "t9")
    assert claims.begin(A1, first.token, 1)
    assert not claims.begin(A1, first.token, 2)  # once


def test_a_namespace_waits_for_the_others_for_one_turn_at_most() -> None:
    claims = desk()
    first = claims.ask(A1, 0)
    assert first is not None
    claims.begin(A1, first.token, 0)
    for now in range(10, 70, 10):
        claims.note(A1, 1000)
        assert not claims.lapse(now)
        assert not claims.ask(B1, now)
    assert claims.ask(B1, 70)
    assert not claims.ask(("b", "2"), 71)  # no more than one beside them


def test_whoever_waits_longest_comes_next_also_against_one_who_has_many_files() -> None:
    claims = desk()
    first = claims.ask(A1, 0)
    assert first is not None
    assert not claims.ask(B1, 1)
    assert not claims.ask(A2, 2)
    claims.end(A1, first.token)
    assert not claims.ask(A2, 3)
    assert claims.ask(B1, 4)


def test_who_went_elsewhere_keeps_nobody_waiting() -> None:
    claims = desk()
    first = claims.ask(A1, 0)
    assert first is not None
    assert not claims.ask(B1, 1)
    claims.end(A1, first.token)
    assert claims.ask(C1, 2 + STILL_ASKING_S)


def test_a_wait_that_was_given_up_is_not_counted_later() -> None:
    claims = desk()
    claims.ask(A1, 0)
    claims.ask(B1, 1)
    assert not claims.ask(B1, 100)
