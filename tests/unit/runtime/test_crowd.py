"""Who gives way at a port that is full."""

from __future__ import annotations

import pytest

from skerry_runtime.rest.crowd import A_REQUEST, AN_ANSWER, NOTHING, Crowd, Places


class Guest:
    """A connection that does nothing."""

    def __init__(self, name: str, address: str, loss: int = NOTHING, deadline: float = 0) -> None:
        self.name = name
        self.address = address
        self.loss = loss
        self.deadline = deadline

    def __repr__(self) -> str:
        return self.name

    def expire(self, now: float) -> None:
        raise NotImplementedError

    close_if_idle = abort = expire  # type: ignore[assignment]


def surplus(places: Places, *guests: Guest) -> str | None:
    """Return the name of who goes when the last of these comes."""
    crowd = Crowd(places)
    for guest in guests:
        crowd.add(guest)  # type: ignore[arg-type]
    gone = crowd.surplus(guests[-1])  # type: ignore[arg-type]
    return None if gone is None else str(gone)


def test_nobody_goes_while_there_is_room() -> None:
    assert surplus(Places(2), Guest("one", "a"), Guest("new", "b")) is None


def test_who_would_end_first_makes_room() -> None:
    one, two = Guest("one", "a", deadline=9), Guest("two", "a", deadline=3)
    assert surplus(Places(2), one, two, Guest("new", "a", deadline=1)) == "two"


def test_the_address_with_most_connections_loses_one_first() -> None:
    alone = Guest("alone", "a", deadline=1)
    crowd = [Guest("b1", "b", deadline=5), Guest("b2", "b", deadline=4)]
    assert surplus(Places(3), alone, *crowd, Guest("new", "c")) == "b2"


def test_an_idle_connection_goes_before_a_request_of_whoever_has_more() -> None:
    busy = [Guest(f"b{n}", "b", A_REQUEST) for n in range(3)]
    assert surplus(Places(4), Guest("idle", "a"), *busy, Guest("new", "c")) == "idle"


def test_a_half_sent_request_makes_room_for_who_has_fewer_connections() -> None:
    busy = [Guest(f"b{n}", "b", A_REQUEST, deadline=n) for n in range(3)]
    assert surplus(Places(3), *busy, Guest("new", "c")) == "b0"
    assert surplus(Places(3), *busy, Guest("new", "b")) == "new"


def test_an_answer_that_is_being_made_is_never_taken_away() -> None:
    busy = [Guest(f"b{n}", "b", AN_ANSWER) for n in range(3)]
    assert surplus(Places(3), *busy, Guest("new", "c")) == "new"


@pytest.mark.parametrize("loss", [NOTHING, A_REQUEST, AN_ANSWER])
def test_where_newcomers_go_first_everybody_else_gives_way(loss: int) -> None:
    places = Places(2, newcomers_first=True)
    guests = [Guest("one", "a", loss, deadline=1), Guest("two", "a", loss, deadline=2)]
    assert surplus(places, *guests, Guest("new", "a")) == "one"


def test_an_address_over_its_share_loses_its_own_first() -> None:
    places = Places(9, most_each=2)
    guests = [Guest("other", "a", deadline=0), Guest("b1", "b", deadline=2)]
    assert surplus(places, *guests, Guest("b2", "b", deadline=1), Guest("new", "b")) == "b2"


def test_the_counts_follow_who_leaves() -> None:
    crowd = Crowd(Places(9, most_each=1))
    first, second = Guest("first", "a"), Guest("second", "a")
    crowd.add(first)  # type: ignore[arg-type]
    crowd.remove(first)  # type: ignore[arg-type]
    crowd.remove(first)  # type: ignore[arg-type]
    crowd.add(second)  # type: ignore[arg-type]
    assert crowd.surplus(second) is None  # type: ignore[arg-type]
    assert len(crowd) == 1
