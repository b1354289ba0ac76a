"""What is remembered over a restart."""

from __future__ import annotations

from skerry_runtime.agent.state import MAX_HISTORY, Kept, NodeState, RefusalRecord
from skerry_runtime.contract import Agreement, Failure, FailureReason
from unit.runtime.agent.support import goal

V1, V2, V3, V4, V5 = (goal(f"v{n}") for n in range(1, 6))


def record(key: str, revision: str = "v") -> RefusalRecord:
    failure = Failure(revision=revision, reason=FailureReason.EXAM_FAILED, message="", at=0.0)
    return RefusalRecord(key=key, failure=failure)


def names(kept: tuple[Kept, ...]) -> list[str]:
    return [k.revision for k in kept]


def test_the_current_and_the_last_good_one_are_kept() -> None:
    state = NodeState().with_served(V1).with_settled().with_served(V2).with_served(V3)
    assert names(state.to_keep) == ["v3", "v1"]


def test_with_no_good_one_the_one_before_is_kept() -> None:
    assert names(NodeState().with_served(V1).with_served(V2).to_keep) == ["v2", "v1"]


def test_going_back_keeps_the_one_that_was_left() -> None:
    state = NodeState().with_served(V1).with_settled().with_served(V2).with_served(V1)
    assert names(state.to_keep) == ["v1", "v2"]
    assert state.is_settled(V1.key)


def test_the_good_one_outlives_any_number_of_short_lived_ones() -> None:
    state = NodeState().with_served(V1).with_settled()
    for short_lived in (V2, V3, V4, V5):
        state = state.with_served(short_lived)
    assert names(state.to_keep) == ["v5", "v1"]


def test_a_crash_is_counted_before_it_happens() -> None:
    state = NodeState().with_activation(V2)
    assert state.activation
    assert state.activation.crashes == 1
    after = state.after_restart(0.0)
    assert after.model_copy(update={"restarts": {}}) == state


def test_two_crashes_refuse_the_revision_and_leave_the_one_before() -> None:
    state = NodeState().with_served(V1).with_settled().with_activation(V2).with_served(V2)
    state = state.after_restart(0.0).with_activation(V2).after_restart(7.0)
    assert [r.failure.reason for r in state.refusals] == [FailureReason.SELF_REVERTED]
    assert state.refusals[0].key == V2.key
    assert names(state.to_keep) == ["v1"]
    assert state.activation is None


def test_a_revision_that_proved_itself_is_not_counted() -> None:
    state = NodeState().with_served(V1).with_settled().with_activation(V1)
    assert state.activation is None


def test_a_new_retry_text_begins_a_new_count() -> None:
    state = NodeState().with_activation(V2).with_activation(goal("v2", retry="again"))
    assert state.activation
    assert state.activation.crashes == 1


def test_an_orderly_end_is_no_crash() -> None:
    state = NodeState().with_activation(V2).without_activation().with_activation(V2)
    assert state.activation
    assert state.activation.crashes == 1


def test_refusals_are_bounded_latest_first_and_one_per_goal() -> None:
    state = NodeState()
    for number in [*range(12), 5]:
        state = state.with_refusal(record(str(number)))
    assert [r.key for r in state.refusals] == [str(n) for n in (5, 11, 10, 9, 8, 7, 6, 4, 3, 2)]


def test_what_serves_is_forgiven_under_every_retry_text() -> None:
    first, again = record("k1", "v2"), record("k2", "v2")
    state = NodeState(refusals=(again, record("k3", "v3"), first))
    assert [r.key for r in state.without_refusals_of("v2").refusals] == ["k3"]


def test_a_revision_that_crashed_twice_says_under_which_retry_text() -> None:
    state = NodeState().with_activation(goal("v2", retry="again"))
    refused = state.after_restart(1.0).with_activation(goal("v2", retry="again")).after_restart(2.0)
    assert refused.refusals[0].failure.retry == "again"


def test_settling_says_nothing_of_another_revision_that_is_activated() -> None:
    state = NodeState().with_served(V1).with_activation(V2).with_settled()
    assert state.activation
    assert state.activation.key == V2.key


def test_a_refusal_says_nothing_of_another_revision_that_is_activated() -> None:
    state = NodeState().with_activation(V1).with_refusal(record(V2.key))
    assert state.activation
    assert state.with_refusal(record(V1.key)).activation is None


def test_restarts_are_counted_on_what_served_or_was_activated() -> None:
    state = NodeState().with_activation(V1).with_served(V1).with_settled()
    state = state.after_restart(0.0).after_restart(0.0)
    assert state.restarts == {"v1": 2}
    state = state.with_activation(V2).after_restart(0.0)
    assert state.restarts == {"v1": 2, "v2": 1}


def test_a_restart_on_the_way_counts_when_the_revision_serves_in_the_end() -> None:
    state = NodeState().with_served(V1).with_settled().with_activation(V2).after_restart(0.0)
    state = state.with_activation(V2).with_served(V2)
    assert state.restarts == {"v2": 1}


def test_a_revision_that_is_given_anew_counts_from_zero() -> None:
    state = NodeState().with_served(V1).with_settled().after_restart(0.0)
    state = state.with_activation(V2).with_served(V2).with_settled().after_restart(0.0)
    assert state.restarts == {"v1": 1, "v2": 1}
    assert state.with_activation(V1).with_served(V1).restarts == {"v2": 1}


def test_a_revision_that_starts_again_keeps_its_restarts_and_its_shadow() -> None:
    shadow = Agreement(compared=200, agreed=199)
    state = NodeState().with_served(V2, shadow).with_settled().after_restart(0.0)
    assert state.agreement_of(V2) == shadow
    state = state.with_activation(V2).with_served(V2, state.agreement_of(V2))
    assert (state.restarts, state.agreement_of(V2)) == ({"v2": 1}, shadow)


def test_the_memory_of_restarts_is_bounded_by_the_history() -> None:
    state = NodeState()
    for given in (V1, V2, V3, V4, V5):
        state = state.with_served(given).after_restart(0.0)
    assert len(state.restarts) <= MAX_HISTORY + 1
