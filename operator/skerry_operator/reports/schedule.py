"""Who is asked next. Pure: a state machine that is told the time.

Slots go round over namespaces, in a namespace over its deployments, in a deployment over its pods
in the order in which they became due. Nobody gets all slots: not a deployment, a namespace or a
node; and pods that were silent or slow have a few of their own, so that those who answer need
not wait behind them.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field

from skerry_operator.reports.base import DeploymentKey, PodKey, Question

SLOW_S = 0.5
"""A pod that took longer for its last answer is a slow one."""
SCANNED = 32
"""Pods of a deployment that are tried for one slot when their nodes have enough."""


@dataclass(frozen=True)
class Shares:
    """How many questions may be under way at one time."""

    in_all: int
    namespace: int
    deployment: int
    node: int
    slow: int
    """Of all, those to pods that were silent or slow."""
    slow_in_namespace: int

    @classmethod
    def of(cls, slots: int) -> Shares:
        """Divide so many slots."""
        return cls(
            in_all=slots,
            namespace=max(1, slots * 3 // 4),
            deployment=max(1, slots // 2),
            node=max(1, slots // 8),
            slow=max(1, slots // 2),
            slow_in_namespace=max(1, slots // 8),
        )


@dataclass(slots=True)
class _Turn:
    """When a pod is due."""

    question: Question
    at: float
    is_slow: bool = False
    is_ready: bool = False
    """Due, and in its deployment's line."""
    asking: Question | None = None
    """The question that is under way; a pod is asked one at a time."""
    is_hastened: bool = False
    """While it is under way another time was set."""


@dataclass
class _Line:
    """Pods of one deployment that are due."""

    brisk: deque[PodKey] = field(default_factory=deque)
    slow: deque[PodKey] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self.brisk or self.slow)


class Schedule:
    """Every pod that is followed, and when it is due."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._turns: dict[PodKey, _Turn] = {}
        self._heap: list[tuple[float, int, PodKey]] = []
        self._order = 0
        self._lines: dict[str, dict[DeploymentKey, _Line]] = {}
        """Namespace -> its deployments with pods that are due; the next one to be asked first."""
        self._asking: Counter[object] = Counter()
        """Namespace, deployment, node, or word for a class of pods -> questions under way."""
        self._slots: dict[int, tuple[Question, bool]] = {}
        """id of a question under way -> itself, and whether it is to a slow pod."""

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def under_way(self) -> int:
        """How many questions are under way."""
        return len(self._slots)

    def follow(self, question: Question, at: float) -> None:
        """Ask a pod that is new, or another than it was, at a time."""
        turn = self._turns.get(question.key)
        if turn is None:
            turn = self._turns[question.key] = _Turn(question, at)
        turn.question, turn.is_slow = question, False
        self._set(question.key, turn, at)

    def hasten(self, key: PodKey, at: float) -> None:
        """Ask a pod at the latest at a time."""
        turn = self._turns.get(key)
        if turn is not None and (at < turn.at or turn.asking is not None):
            self._set(key, turn, at)

    def drop(self, key: PodKey) -> None:
        """Ask a pod no longer; a question that is under way still has to end."""
        self._turns.pop(key, None)

    def take(self, now: float) -> Question | None:
        """Return the pod that is to be asked now; None: nobody, or no slot is free for who is."""
        self._ripen(now)
        if self.under_way >= self._shares.in_all:
            return None
        for namespace in tuple(self._lines):
            key = self._next_in(namespace)
            if key is not None:
                return self._start(key)
        return None

    def ended(self, question: Question, at: float, *, is_slow: bool) -> None:
        """Say that a question ended, and when to put the next one to the same pod."""
        self._count(*self._slots.pop(id(question)), -1)
        turn = self._turns.get(question.key)
        if turn is None or turn.asking is not question:
            return  # dropped meanwhile
        at = min(at, turn.at) if turn.is_hastened else at
        turn.asking, turn.is_hastened, turn.is_slow = None, False, is_slow
        self._set(question.key, turn, at)

    def next_at(self) -> float | None:
        """Return when the next pod becomes due that is not yet; None: none does."""
        while self._heap and not self._is_valid(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _set(self, key: PodKey, turn: _Turn, at: float) -> None:
        turn.at = at
        if turn.asking is not None:  # its time is set anew when that has ended
            turn.is_hastened = True
            return
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))
        if len(self._heap) > 4 * len(self._turns) + 64:
            self._heap = [item for item in self._heap if self._is_valid(item)]
            heapq.heapify(self._heap)

    def _is_valid(self, item: tuple[float, int, PodKey]) -> bool:
        turn = self._turns.get(item[2])
        return turn is not None and turn.at == item[0] and not (turn.is_ready or turn.asking)

    def _ripen(self, now: float) -> None:
        """Put pods that have become due into their deployments' lines."""
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)
            if self._is_valid(item):
                self._queue(item[2], self._turns[item[2]])

    def _queue(self, key: PodKey, turn: _Turn) -> None:
        turn.is_ready = True
        deployments = self._lines.setdefault(key[0], {})
        line = deployments.setdefault(turn.question.deployment, _Line())
        (line.slow if turn.is_slow else line.brisk).append(key)

    def _next_in(self, namespace: str) -> PodKey | None:
        """Return the next pod of a namespace; both it and the deployment go to the end."""
        if self._asking[namespace] >= self._shares.namespace:
            return None
        deployments = self._lines[namespace]
        for deployment in tuple(deployments):
            line = deployments[deployment]
            key = self._next_of(namespace, deployment, line)
            if key is not None or not line:
                del deployments[deployment]
                if line:
                    deployments[deployment] = line
            if key is not None or not deployments:
                del self._lines[namespace]
                if deployments:
                    self._lines[namespace] = deployments
            if key is not None:
                return key
        return None

    def _next_of(self, namespace: str, deployment: DeploymentKey, line: _Line) -> PodKey | None:
        if self._asking[deployment] >= self._shares.deployment:
            return None
        found = self._first_free(line.brisk)
        if found is not None or not line.slow:
            return found
        if self._asking["slow"] >= self._shares.slow:
            return None
        if self._asking["slow", namespace] >= self._shares.slow_in_namespace:
            return None
        return self._first_free(line.slow)

    def _first_free(self, waiting: deque[PodKey]) -> PodKey | None:
        """Take the first pod out whose node can be asked; others go to the end."""
        for _ in range(min(SCANNED, len(waiting))):
            key = waiting.popleft()
            turn = self._turns.get(key)
            if turn is None or not turn.is_ready:
                continue
            if self._asking["node", turn.question.node] < self._shares.node:
                return key
            waiting.append(key)
        return None

    def _start(self, key: PodKey) -> Question:
        turn = self._turns[key]
        turn.is_ready = False
        turn.asking = turn.question
        self._slots[id(turn.question)] = turn.question, turn.is_slow
        self._count(turn.question, turn.is_slow, 1)
        return turn.question

    def _count(self, question: Question, is_slow: bool, by: int) -> None:
        namespace = question.deployment[0]
        counted: list[object] = [namespace, question.deployment, ("node", question.node)]
        counted += ["slow", ("slow", namespace)] if is_slow else []
        for word in counted:
            self._asking[word] += by
            if not self._asking[word]:
                del self._asking[word]
