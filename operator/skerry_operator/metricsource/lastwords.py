"""What pods said last: stands in for an answer that was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from skerry_operator.decide.observed import Pod
from skerry_runtime.contract import StatusReport

SILENCE_S = 10.0
"""How long a silent pod counts as it last said. A step and a rollback end when all units answer in
one look: of 270 pods of which each misses one look in sixty, all 270 hardly ever do."""


@dataclass(frozen=True)
class Word:
    """One pod's last answer."""

    report: StatusReport
    at: datetime
    state: tuple[str, str, int, str]
    """Which start of which pod gave it, and what the pod had been told by then."""


Words = Mapping[str, Word]
"""Unit -> the last answer of its pod."""


def hear(
    before: Words, pods: Iterable[Pod], answers: Mapping[str, StatusReport], now: datetime
) -> Words:
    """Return what counts now: the new answers, and for silent pods their last one while it is new.

    What a pod said before it was started again, or told something new, is forgotten; so is what
    it said before it had read what it was given, lest it be told again for want of an answer.
    """
    words: dict[str, Word] = {}
    for pod in pods:
        state = (pod.name, pod.ip, pod.restarts, pod.nudge)
        answer, last = answers.get(pod.unit), before.get(pod.unit)
        if answer is not None:
            words[pod.unit] = Word(answer, now, state)
        elif last and last.state == state and _stands(last, pod, now):
            words[pod.unit] = last
    return words


def _stands(word: Word, pod: Pod, now: datetime) -> bool:
    is_new = (now - word.at).total_seconds() < SILENCE_S
    return is_new and word.report.assigned == pod.revision_label
