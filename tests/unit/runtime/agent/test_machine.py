"""The decisions, one sentence each: situation in, action out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_runtime.agent.machine import (
    PASSING,
    Abandon,
    Action,
    Attempt,
    Compare,
    Examine,
    Fetch,
    Load,
    Milestone,
    Nothing,
    Probe,
    Refusal,
    ServedRevision,
    Settle,
    Situation,
    Switch,
    Unload,
    Verify,
    Wait,
    backoff_s,
    decide,
)
from skerry_runtime.agent.memory import Room, choose_mode
from skerry_runtime.contract import FailureReason, Shadow, SwapMode
from unit.runtime.agent.support import goal

V1, V2, V3 = goal("v1"), goal("v2"), goal("v3")
S1 = ServedRevision("v1", V1.sha256)
TRIED = goal("v2", shadow=Shadow(samples=9, timeout_s=9, threshold=0.9))
EXAMINED = Attempt(TRIED, Milestone.EXAMINED)
BAD_EXAM = Refusal(FailureReason.EXAM_FAILED)
NOT_FOUND = Refusal(FailureReason.FETCH_FAILED, again_at=130.0)
NO_MEMORY_FOR_NOW = Refusal(FailureReason.INSUFFICIENT_MEMORY)
"""As after a restart: when it may be tried again is not remembered."""


def situation(**facts: object) -> Situation:
    return Situation(now=100.0, **facts)


def disk(*goals: object) -> frozenset[str]:
    return frozenset(g.key for g in goals)


CASES: list[tuple[str, Situation, Action]] = [
    ("nothing known and nothing on disk waits", situation(), Wait()),
    (
        "no assignment yet brings the last revision up from disk",
        situation(fallbacks=(V1,), on_disk=disk(V1)),
        Verify(V1),
    ),
    ("no assignment keeps what serves", situation(serving=S1, fallbacks=(V1,)), Wait()),
    ("a first revision is fetched", situation(order=V1), Fetch(V1)),
    ("a revision on disk is not fetched", situation(order=V1, on_disk=disk(V1)), Verify(V1)),
    (
        "verified files are probed",
        situation(order=V1, on_disk=disk(V1), attempt=Attempt(V1, Milestone.VERIFIED)),
        Probe(V1),
    ),
    (
        "a model that passed the probe before is loaded at once",
        situation(
            order=V1, on_disk=disk(V1), proven=disk(V1), attempt=Attempt(V1, Milestone.VERIFIED)
        ),
        Load(V1),
    ),
    (
        "a probed model is loaded",
        situation(order=V1, on_disk=disk(V1), attempt=Attempt(V1, Milestone.PROBED)),
        Load(V1),
    ),
    (
        "a loaded model is examined",
        situation(order=V1, on_disk=disk(V1), attempt=Attempt(V1, Milestone.LOADED)),
        Examine(V1),
    ),
    (
        "an examined model is switched to",
        situation(order=V1, on_disk=disk(V1), attempt=Attempt(V1, Milestone.EXAMINED)),
        Switch(V1),
    ),
    (
        "a model on trial answers in the shadow of the one that serves",
        situation(order=TRIED, serving=S1, on_disk=disk(TRIED), attempt=EXAMINED),
        Compare(TRIED),
    ),
    (
        "what was compared is switched to",
        situation(
            order=TRIED,
            serving=S1,
            on_disk=disk(TRIED),
            attempt=replace(EXAMINED, reached=Milestone.SHADOWED),
        ),
        Switch(TRIED),
    ),
    (
        "a model on trial that is alone has nothing to be compared with",
        situation(order=TRIED, on_disk=disk(TRIED), attempt=EXAMINED),
        Switch(TRIED),
    ),
    (
        "another assignment ends the shadow",
        situation(order=V1, serving=S1, attempt=EXAMINED),
        Abandon(),
    ),
    (
        "the end of the trial changes nothing for what serves",
        situation(order=goal("v2"), serving=ServedRevision("v2", TRIED.sha256)),
        Wait(),
    ),
    ("the assigned revision serves: nothing to do", situation(order=V1, serving=S1), Wait()),
    (
        "a new retry text for what serves changes nothing",
        situation(order=goal("v1", retry="again"), serving=S1),
        Wait(),
    ),
    (
        "another file under the revision that serves is a swap",
        situation(order=goal("v1", b"other"), serving=S1),
        Fetch(goal("v1", b"other")),
    ),
    ("another revision is fetched beside what serves", situation(order=V2, serving=S1), Fetch(V2)),
    (
        "a fetch that failed waits for its next try",
        situation(order=V2, serving=S1, attempt=Attempt(V2, tries=1, retry_at=104.0)),
        Wait(104.0),
    ),
    (
        "a wait ends early where what serves settles meanwhile",
        situation(
            order=V2,
            serving=replace(S1, settles_at=102.0),
            attempt=Attempt(V2, tries=1, retry_at=104.0),
        ),
        Wait(102.0),
    ),
    (
        "a fetch that failed is tried again in time",
        situation(order=V2, serving=S1, attempt=Attempt(V2, tries=1, retry_at=99.0)),
        Fetch(V2),
    ),
    (
        "an attempt at what is no longer assigned is abandoned",
        situation(order=V3, serving=S1, attempt=Attempt(V2, Milestone.LOADED), on_disk=disk(V2)),
        Abandon(),
    ),
    (
        "an attempt is abandoned when the assignment returns to what serves",
        situation(order=V1, serving=S1, attempt=Attempt(V2, Milestone.EXAMINED)),
        Abandon(),
    ),
    (
        "an attempt is abandoned when nothing is assigned any more",
        situation(order=Nothing(), attempt=Attempt(V2)),
        Abandon(),
    ),
    (
        "changed content of the same revision starts the attempt anew",
        situation(order=goal("v2", retry="again"), attempt=Attempt(V2, Milestone.PROBED)),
        Abandon(),
    ),
    ("nothing assigned unloads", situation(order=Nothing(), serving=S1), Unload()),
    ("nothing assigned and nothing serving waits", situation(order=Nothing()), Wait()),
    (
        "a refused revision leaves what serves alone",
        situation(order=V2, serving=S1, on_disk=disk(V1, V2), refused={V2.key: BAD_EXAM}),
        Wait(),
    ),
    (
        "a refused revision with nothing serving brings the last good one back",
        situation(order=V2, fallbacks=(V1,), on_disk=disk(V1, V2), refused={V2.key: BAD_EXAM}),
        Verify(V1),
    ),
    (
        "a last good revision that is refused itself is passed over",
        situation(
            order=V3,
            fallbacks=(V2, V1),
            on_disk=disk(V1, V2),
            refused={V3.key: BAD_EXAM, V2.key: BAD_EXAM},
        ),
        Verify(V1),
    ),
    (
        "a restart with the assigned revision not on disk serves the last good one first",
        situation(order=V2, fallbacks=(V1,), on_disk=disk(V1)),
        Verify(V1),
    ),
    (
        "a restart with the assigned revision on disk needs no detour",
        situation(order=V2, fallbacks=(V1,), on_disk=disk(V1, V2)),
        Verify(V2),
    ),
    (
        "a fetch in backoff gives way to the last good revision while nothing serves",
        situation(order=V2, fallbacks=(V1,), on_disk=disk(V1), attempt=Attempt(V2, retry_at=120.0)),
        Abandon(),
    ),
    (
        "a damaged file that cannot be removed is not hashed again and again",
        situation(order=V2, serving=S1, on_disk=disk(V2), attempt=Attempt(V2, retry_at=120.0)),
        Wait(120.0),
    ),
    (
        "a revision that never passed its exam waits for ever when nothing serves",
        situation(order=V2, refused={V2.key: BAD_EXAM}),
        Wait(),
    ),
    (
        "a source that refused is asked again later when nothing serves",
        situation(order=V2, refused={V2.key: Refusal(FailureReason.FETCH_FAILED, 130.0)}),
        Wait(130.0),
    ),
    (
        "its second chance comes in time",
        situation(order=V2, refused={V2.key: Refusal(FailureReason.FETCH_FAILED, 99.0)}),
        Fetch(V2),
    ),
    (
        "a second chance under way is carried on",
        situation(
            order=V2,
            on_disk=disk(V2),
            attempt=Attempt(V2, Milestone.PROBED),
            refused={V2.key: Refusal(FailureReason.FETCH_FAILED, 130.0)},
        ),
        Load(V2),
    ),
    (
        "a source that refused is asked again later while an older model serves",
        situation(order=V2, serving=S1, refused={V2.key: NOT_FOUND}),
        Wait(130.0),
    ),
    (
        "its second chance comes in time, too, and costs what serves nothing",
        situation(
            order=V2,
            serving=S1,
            fallbacks=(V1,),
            on_disk=disk(V1),
            refused={V2.key: replace(NOT_FOUND, again_at=99.0)},
        ),
        Fetch(V2),
    ),
    (
        "after a restart a second chance waits until the last good one serves",
        situation(
            order=V2, fallbacks=(V1,), on_disk=disk(V1, V2), refused={V2.key: NO_MEMORY_FOR_NOW}
        ),
        Verify(V1),
    ),
    (
        "a second chance for which the old model had to go is carried on without it",
        situation(
            order=V2,
            fallbacks=(V1,),
            on_disk=disk(V1, V2),
            attempt=Attempt(V2, Milestone.LOADED),
            refused={V2.key: NO_MEMORY_FOR_NOW},
        ),
        Examine(V2),
    ),
    (
        "what serves needs no second chance, whatever is remembered of it",
        situation(order=V1, serving=S1, refused={V1.key: NOT_FOUND}),
        Wait(),
    ),
    (
        "a refusal counts for that content only: a new retry text opens it again",
        situation(order=goal("v2", retry="again"), serving=S1, refused={V2.key: BAD_EXAM}),
        Fetch(goal("v2", retry="again")),
    ),
    (
        "what served long enough settles before anything else",
        situation(order=V2, serving=replace(S1, settles_at=100.0)),
        Settle(),
    ),
    (
        "what serves is looked at again when it settles",
        situation(order=V1, serving=replace(S1, settles_at=107.0)),
        Wait(107.0),
    ),
]


@pytest.mark.parametrize(
    ("facts", "action"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_decide(facts: Situation, action: Action) -> None:
    assert decide(facts) == action


GOALS = st.sampled_from([V1, V2, V3])
SITUATIONS = st.builds(
    Situation,
    now=st.just(100.0),
    order=st.one_of(GOALS, st.just(Nothing())),
    serving=st.one_of(
        st.none(),
        GOALS.map(lambda g: ServedRevision(g.revision, g.sha256)),
    ),
    attempt=st.one_of(
        st.none(),
        st.builds(
            Attempt, GOALS, st.sampled_from(Milestone), st.integers(0, 3), st.floats(90, 110)
        ),
    ),
    on_disk=st.frozensets(GOALS.map(lambda g: g.key)),
    proven=st.frozensets(GOALS.map(lambda g: g.key)),
    fallbacks=st.lists(GOALS, unique=True, max_size=2).map(tuple),
    refused=st.dictionaries(
        GOALS.map(lambda g: g.key),
        st.builds(Refusal, st.sampled_from(FailureReason), st.floats(90, 110)),
    ),
)


@given(SITUATIONS)
def test_what_serves_is_only_taken_away_when_nothing_is_assigned(s: Situation) -> None:
    assert not isinstance(decide(s), Unload) or isinstance(s.order, Nothing)


@given(SITUATIONS)
def test_a_refused_goal_is_touched_for_a_passing_reason_only_and_in_its_time(s: Situation) -> None:
    action = decide(s)
    touched = getattr(action, "goal", None)
    if touched is None or s.serving is None or touched.key not in s.refused:
        return
    refusal = s.refused[touched.key]
    assert refusal.reason in PASSING
    is_under_way = s.attempt is not None and s.attempt.goal.key == touched.key
    assert is_under_way or refusal.again_at <= s.now


@pytest.mark.parametrize("reason", sorted(PASSING))
def test_whatever_may_pass_is_not_the_end_though_an_older_model_serves(
    reason: FailureReason,
) -> None:
    refused = {V2.key: Refusal(reason)}
    action = decide(
        situation(order=V2, serving=S1, fallbacks=(V1,), on_disk=disk(V1), refused=refused)
    )
    assert action == Fetch(V2)


@given(SITUATIONS)
def test_an_attempt_is_only_carried_on_by_its_own_goal(s: Situation) -> None:
    touched = getattr(decide(s), "goal", None)
    assert touched is None or s.attempt is None or touched.key == s.attempt.goal.key


@given(SITUATIONS)
def test_abandoning_never_leads_to_abandoning(s: Situation) -> None:
    if decide(s) == Abandon():
        assert decide(replace(s, attempt=None)) != Abandon()


@pytest.mark.parametrize(
    ("asked", "room", "mode"),
    [
        (SwapMode.AUTO, Room(10, 10, 0), SwapMode.OVERLAP),
        (SwapMode.AUTO, Room(10, 9, 1), SwapMode.SEQUENTIAL),
        (SwapMode.AUTO, Room(10, 8, 1), None),
        (SwapMode.OVERLAP, Room(10, 10, 0), SwapMode.OVERLAP),
        (SwapMode.OVERLAP, Room(10, 9, 9), None),
        (SwapMode.SEQUENTIAL, Room(10, 100, 0), SwapMode.SEQUENTIAL),
        (SwapMode.SEQUENTIAL, Room(10, 9, 1), SwapMode.SEQUENTIAL),
        (SwapMode.SEQUENTIAL, Room(10, 8, 1), None),
    ],
)
def test_choose_mode(asked: SwapMode, room: Room, mode: SwapMode | None) -> None:
    assert choose_mode(asked, room) is mode


@given(tries=st.integers(1, 10_000), jitter=st.floats(0, 1))
def test_a_backoff_stays_within_its_bounds(tries: int, jitter: float) -> None:
    assert 0.75 <= backoff_s(tries, 1.0, 30.0, jitter) <= 30.0


def test_a_backoff_doubles() -> None:
    assert [backoff_s(n, 1.0, 30.0, 0.0) for n in (1, 2, 3, 6)] == [1.0, 2.0, 4.0, 30.0]


def test_a_shadow_is_no_part_of_what_a_goal_is() -> None:
    assert TRIED.key == goal("v2").key
