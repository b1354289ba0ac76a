"""What pods said last, by pod. Pure: knows no clock, no network, no event loop.

A word counts until the pod is another (uid), was started again or was told something new (its
state), and for a pod that falls silent until SILENCE_S after it was spoken. Times are seconds of a
monotonic clock, given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from skerry_operator.decide.observed import Pod, speakers
from skerry_operator.decide.reported import UnitReport
from skerry_operator.reports.base import DeploymentKey, PodKey, Question

SILENCE_S = 10.0
"""How long a silent pod counts as it last said. A step and a rollback end when all units answer:
of 270 pods of which each loses one answer in sixty, all 270 hardly ever do."""
LOST_ANSWERS = 1
"""Answers that may be lost whatever the time: at rest the last word is always an old one."""

SILENT_AFTER = 3
"""Questions without an answer until people are told that a container runs and is out of reach."""

NEVER = float("-inf")


@dataclass(frozen=True)
class Attention:
    """What the last look said of a deployment: how closely its pods are to be followed."""

    is_under_way: bool = True
    """A rollout or rollback runs. So it is until a first look says otherwise."""
    with_counters: bool = True
    """Somebody compares numbers."""
    look_at: float = 0.0
    """When the next look is; settled pods are asked just before it."""
    pace_s: float = 1.0
    """Longest time between two questions to a pod that has not taken what it was given."""
    on_trial: str | None = None
    """Revision that is judged; None: all are."""


@dataclass(slots=True)
class Voice:
    """One pod's last word, and how it answers."""

    question: Question
    changed_at: float
    """When it was first seen in this state."""
    report: UnitReport | None = None
    spoke_at: float = NEVER
    """When the question was put that `report` answers: it is true of some moment after that."""
    asked_at: float = NEVER
    """When the last question that has ended was put, answered or not."""
    misses: int = 0
    """Questions without an answer since the last word."""
    unheard: int = 0
    """Those of them that were put while its container ran."""
    refused: str = ""
    """Why the last answer was not let in; empty when there was none, or a good one."""

    def word(self, now: float) -> UnitReport | None:
        """Return what counts as said now."""
        if self.report is None or self.misses == 0:
            return self.report
        is_new = now - self.spoke_at < SILENCE_S or self.misses <= LOST_ANSWERS
        # it may not have read what it was given: it is told again only for what it says now
        has_read = self.report.assigned == self.question.pod.revision_label
        return self.report if is_new and has_read else None

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing new is expected of the pod."""
        return self.report is not None and self.misses == 0 and self.report.is_settled

    def serves_other_than(self, revision: str | None) -> bool:
        """Tell whether the pod is known to serve another revision than this; no other than None."""
        serving = self.report.serving if self.report else None
        return serving is not None and revision is not None and serving.revision != revision


@dataclass(frozen=True)
class Hearing:
    """What a look is told of the pods of its deployment."""

    reports: Mapping[str, UnitReport] = field(default_factory=dict)
    """Unit -> what its pod said; a unit whose pod is silent is absent."""
    unconfirmed: frozenset[str] = frozenset()
    """Units whose word is older than the last write: no step ends on it."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Unit -> why its pod's answers are not let in."""
    is_complete: bool = True
    """Every pod was asked since it changed, and since the last write."""
    silent: frozenset[str] = frozenset()
    """Units whose pod gave no answer, several times in a row."""


@dataclass(frozen=True)
class Followed:
    """What is other than it was among the pods of a deployment."""

    fresh: tuple[Question, ...]
    """New pods, and those that were started again or told something new."""
    stirred: tuple[PodKey, ...]
    """Pods that changed otherwise: one that is ready now has something to say."""
    gone: tuple[PodKey, ...]


class _Circle:
    """The pods of one deployment."""

    def __init__(self) -> None:
        self.attention = Attention()
        self.voices: dict[PodKey, Voice] = {}
        self.wrote_at = NEVER
        self.open: set[PodKey] = set()
        """Pods that are expected to say more: not settled, or not heard since the last write."""

    def is_open(self, voice: Voice) -> bool:
        return not voice.is_settled or voice.spoke_at < self.wrote_at

    def is_asked(self, voice: Voice) -> bool:
        return voice.asked_at >= max(voice.changed_at, self.wrote_at)


class ReportTable:
    """The last word of every pod that is followed."""

    def __init__(self) -> None:
        self._circles: dict[DeploymentKey, _Circle] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Voice]:
        """Yield every pod with its last word; for people, who also want to see the silent ones."""
        for circle in tuple(self._circles.values()):
            yield from tuple(circle.voices.values())

    def get(self, question: Question) -> Voice | None:
        """Return the pod's voice, if the question speaks of the pod as it is now."""
        circle = self._circles.get(question.deployment)
        voice = circle.voices.get(question.key) if circle else None
        return voice if voice and voice.question.state == question.state else None

    def attention(self, deployment: DeploymentKey) -> Attention:
        """Return how closely the deployment is followed."""
        circle = self._circles.get(deployment)
        return circle.attention if circle else Attention()

    def follow(
        self, deployment: DeploymentKey, questions: Iterable[Question], now: float
    ) -> Followed:
        """Follow these pods of the deployment and no others.

        A pod that was started again or told something new is a new one: its word is forgotten.
        """
        circle = self._circles.setdefault(deployment, _Circle())
        wanted = {question.key: question for question in questions}
        gone = tuple(key for key in circle.voices if key not in wanted)
        for key in gone:
            del circle.voices[key]
            circle.open.discard(key)
        fresh: list[Question] = []
        stirred: list[PodKey] = []
        for key, question in wanted.items():
            known = circle.voices.get(key)
            if known is None or known.question.state != question.state:
                fresh.append(question)
                circle.voices[key] = Voice(question, changed_at=now)
                circle.open.add(key)
                self._size += known is None
            elif known.question.pod != question.pod:
                stirred.append(key)
                known.question = question
        self._size -= len(gone)
        return Followed(tuple(fresh), tuple(stirred), gone)

    def forget(self, deployment: DeploymentKey) -> list[PodKey]:
        """Follow the deployment no longer; return the pods that were."""
        circle = self._circles.pop(deployment, None)
        gone = list(circle.voices) if circle else []
        self._size -= len(gone)
        return gone

    def attend(self, deployment: DeploymentKey, attention: Attention) -> None:
        """Take what a look said of the deployment."""
        self._circles.setdefault(deployment, _Circle()).attention = attention

    def wrote(self, deployment: DeploymentKey, now: float) -> None:
        """Note that something was written: what was said before confirms it for nobody."""
        circle = self._circles.setdefault(deployment, _Circle())
        circle.wrote_at = now
        circle.open = set(circle.voices)

    def voices(self, deployment: DeploymentKey) -> tuple[Voice, ...]:
        """Return the pods of a deployment with their last words."""
        circle = self._circles.get(deployment)
        return tuple(circle.voices.values()) if circle else ()

    def is_unconfirmed(self, voice: Voice) -> bool:
        """Tell whether the pod has not answered since the last write."""
        circle = self._circles.get(voice.question.deployment)
        return circle is not None and voice.spoke_at < circle.wrote_at

    def crowd(self, deployment: DeploymentKey) -> int:
        """Return how many pods of a deployment are expected to say more."""
        circle = self._circles.get(deployment)
        return len(circle.open) if circle else 0

    def is_complete(self, deployment: DeploymentKey) -> bool:
        """Tell whether every pod was asked since it changed, and since the last write."""
        circle = self._circles.get(deployment)
        return circle is None or all(map(circle.is_asked, circle.voices.values()))

    def heard(self, question: Question, report: UnitReport, asked_at: float, now: float) -> bool:
        """Take an answer, whoever brought it; return whether the deployment must be looked at.

        `asked_at` is a moment after which the report is true. One about another start of the pod,
        or given before the pod was told something new, is dropped.
        """
        voice = self.get(question)
        if voice is None or asked_at < voice.spoke_at:
            return False
        before = voice.word(now)
        voice.report, voice.spoke_at, voice.asked_at = report, asked_at, asked_at
        was_refused, voice.misses, voice.refused = voice.refused, 0, ""
        voice.unheard = 0
        return self._is_news(voice, before, now) or bool(was_refused)

    def missed(self, question: Question, asked_at: float, now: float, refused: str = "") -> bool:
        """Note that a pod gave no answer that counts; return as `heard` does."""
        voice = self.get(question)
        if voice is None:
            return False
        before, told = voice.word(now), voice.refused
        voice.asked_at, voice.refused = asked_at, refused
        voice.misses += 1
        voice.unheard += voice.question.pod.is_started
        return self._is_news(voice, before, now) or told != refused

    def hearing(self, deployment: DeploymentKey, pods: Iterable[Pod], now: float) -> Hearing:
        """Return what counts as said by the units of these pods now.

        Each unit is spoken for by one pod, the same as everywhere else; while that one has said
        nothing, no other stands in for it.
        """
        circle = self._circles.get(deployment, _Circle())
        keys = {u: (deployment[0], pod.name, pod.uid) for u, pod in speakers(pods).items()}
        voices = {u: circle.voices[key] for u, key in keys.items() if key in circle.voices}
        words = {unit: word for unit, voice in voices.items() if (word := voice.word(now))}
        return Hearing(
            reports=words,
            unconfirmed=frozenset(u for u in words if voices[u].spoke_at < circle.wrote_at),
            refused={unit: voice.refused for unit, voice in voices.items() if voice.refused},
            is_complete=self.is_complete(deployment),
            silent=frozenset(
                u for u, one in voices.items() if u not in words and one.unheard >= SILENT_AFTER
            ),
        )

    def _is_news(self, voice: Voice, before: UnitReport | None, now: float) -> bool:
        """Tell whether a decision can follow from what the pod says now.

        At rest that is whatever changes but numbers. Under way looks come by themselves, and each
        may write a status: only a new refusal, and the last answer that is waited for, hurry them.
        """
        circle = self._circles[voice.question.deployment]
        was_open = bool(circle.open)
        (circle.open.add if circle.is_open(voice) else circle.open.discard)(voice.question.key)
        after = voice.word(now)
        if not circle.attention.is_under_way:
            return _essence(before) != _essence(after)
        is_refusal = after is not None and after.is_refusing
        is_new_refusal = is_refusal and not (before is not None and before.is_refusing)
        return is_new_refusal or (was_open and not circle.open)


def _essence(report: UnitReport | None) -> object:
    """Return what of a report can change a decision about a deployment at rest."""
    if report is None:
        return None
    progress = report.progress
    return (
        report.serving,
        report.assigned,
        report.assignment,
        report.assignment_error,
        report.failures,
        (progress.revision, progress.phase) if progress else None,
    )
