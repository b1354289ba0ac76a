"""One swap, action by action: what `machine` decided is done here, for one goal at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.journal import Journal
from skerry_runtime.agent.machine import PASSING, Attempt, Order, ServedRevision
from skerry_runtime.agent.memory import choose_mode
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Hung, OutOfRoom, Refused, Transient
from skerry_runtime.agent.report import Tracker, log_switch
from skerry_runtime.agent.shadowing import NOTHING_BESIDE, shadow
from skerry_runtime.agent.stages import Stages, fingerprint
from skerry_runtime.agent.switch import Candidate, Switchboard
from skerry_runtime.backends.base import Model, Remote
from skerry_runtime.contract import (
    Agreement,
    FailureReason,
    SwapMode,
    SwapPhase,
    TrustPolicy,
    size_text,
)
from skerry_runtime.shadow import Mirror

log = logging.getLogger(__name__)

_ENGINE_LOOK_S = 1.0
"""How often an engine in another process is asked whether it still has the model."""

_LOST_DRAIN_S = 1.0
"""How long requests on a lost model are waited for: they all fail."""


class Swap:
    """Carries a goal through the stages and across the switch."""

    def __init__(
        self, stages: Stages, board: Switchboard, journal: Journal, tuning: Tuning
    ) -> None:
        self._stages = stages
        self._board = board
        self._journal = journal
        self._tuning = tuning
        self._candidate: Candidate | None = None
        self._asked: dict[str, float] = {}
        self._fetched: set[str] = set()
        self._settles_at: float | None = None
        self._engine_look_at = 0.0
        self._stood_in = ""
        """Fingerprint of what passed its trial last with the CPU in the place of a taken device."""
        self._doubt_at: float | None = None
        """When what serves is to be judged by a new policy; None: it was."""
        self.tracker = Tracker()

    @property
    def serving(self) -> ServedRevision | None:
        """What answers requests, as `machine` sees it."""
        goal = self._board.serving
        return (
            ServedRevision(goal.revision, goal.sha256, self._settles_at, goal.name)
            if goal
            else None
        )

    def trust(self, policy: TrustPolicy) -> None:
        """Take in whose word counts; what that refused may be tried again at once."""
        if policy != self._stages.trust:
            self._stages.trust = policy
            self._journal.reopen(FailureReason.SIGNATURE_INVALID)
            self._doubt_at = 0.0

    def doubted(self, now: float) -> Goal | None:
        """Return what serves, if it was not looked at since the policy changed."""
        is_due = self._doubt_at is not None and now >= self._doubt_at
        return self._board.serving if is_due else None

    async def reconsider(self, goal: Goal) -> None:
        """Judge what serves by a new policy. Raises what `Stages.verify` raises."""
        self._doubt_at = time.monotonic() + self._tuning.slow_backoff_min_s
        vouched = await self._stages.verify(goal)
        await self._journal.record(goal, vouched=vouched)
        self._board.seal(self._stages.needs.found(goal).signed_by)
        self._doubt_at = None

    def ask(self, goal: Goal, at: float) -> None:
        """Note when the assignment asked for a goal; whatever was asked before is over."""
        self._asked = {goal.key: at}
        self._fetched.clear()

    def begin(self, goal: Goal) -> None:
        """Note the start of an attempt at a goal that no assignment asked for."""
        self._asked.setdefault(goal.key, time.monotonic())

    async def fetch(self, goal: Goal, attempt: int) -> None:
        """Bring the files to disk. Raises what `Stages.fetch` raises."""
        self.tracker.enter(goal, SwapPhase.FETCHING, attempt)
        self._fetched.add(goal.key)
        await self._stages.fetch(goal, self.tracker.bytes_arrived)

    async def verify(self, goal: Goal, attempt: int) -> None:
        """Check the files and write the manifest. Raises what `Stages.verify` raises."""
        self.tracker.enter(goal, SwapPhase.VERIFYING, attempt)
        vouched = await self._stages.verify(goal)
        await self._journal.record(goal, vouched=vouched)

    async def probe(self, goal: Goal, attempt: int) -> None:
        """Try the model in a child; where not even that fits beside the old one, unload first.

        What the model needs is not known before: where the child runs out of memory beside what
        serves, it is tried again alone.

        Raises:
            Refused: InsufficientMemory, or what `Stages.probe` raises.
        """
        self.tracker.enter(goal, SwapPhase.PROBING, attempt)
        mode, fits_beside = await self._plan(goal, with_probe=True)
        if mode is SwapMode.SEQUENTIAL and not fits_beside:
            await self._unload()
        if self._has_passed(goal):  # ahead
            return
        try:
            await self._try(goal)
        except OutOfRoom as err:
            if not self._may_make_room(goal, err):
                raise
            log.info("%s does not run beside what serves: %s", goal.revision, err)
            await self._unload()
            await self._try(goal)

    async def try_ahead(self, goal: Goal) -> bool:
        """Try a model in a child before its turn, if there is room beside what serves.

        What it finds spares the trial when the turn comes: of these very files, in this pod.

        Returns:
            Whether the model has passed.

        Raises:
            Refused, Transient: see `Stages.probe`; nothing is remembered of it.
        """
        if self._has_passed(goal):
            return True
        serving = self._board.serving
        if serving is None or self._stages.has_engine_beside:
            return False  # such an engine serves as well: nothing on trial may end it everywhere
        needs = self._stages.needs
        room = await self._stages.worker.run(needs.room, goal, serving, with_probe=True)
        if room.needed > room.available:
            return False
        await self._find_out(goal)
        return True

    def _has_passed(self, goal: Goal) -> bool:
        """Tell whether a trial could find nothing that one in this pod has not found."""
        is_stood_in = self._is_device_taken(goal) and self._stood_in == fingerprint(goal)
        return is_stood_in or self.is_proven(goal)

    def is_proven(self, goal: Goal) -> bool:
        """See `Stages.is_proven`."""
        return self._stages.is_proven(goal)

    def _is_device_taken(self, goal: Goal) -> bool:
        return goal.is_accelerated and self._board.serving is not None

    async def _try(self, goal: Goal) -> None:
        await self._find_out(goal)
        self.tracker.tried(self._stages.needs.found(goal))

    async def _find_out(self, goal: Goal) -> None:
        is_taken, proof = self._is_device_taken(goal), fingerprint(goal)
        found = await self._stages.probe(goal, is_device_taken=is_taken)
        await self._journal.record(goal, "" if is_taken else proof, found)
        if is_taken:
            self._stood_in = proof

    def _may_make_room(self, goal: Goal, err: OutOfRoom) -> bool:
        serving, may_unload = self._board.serving, goal.content.swap is not SwapMode.OVERLAP
        if serving is None or not may_unload:
            return False
        return self._stages.needs.would_unloading_help(serving, err)

    async def load(self, goal: Goal, attempt: int) -> None:
        """Open the model here, beside the old one or after it; a crash is counted beforehand.

        Raises:
            Refused: InsufficientMemory, or what `Stages.load` raises.
            Wedged, Transient: as `Stages.load`.
        """
        self.tracker.enter(goal, SwapPhase.LOADING, attempt)
        mode, _ = await self._plan(goal, with_probe=False)
        await self._journal.activating(goal)
        began = time.monotonic()
        if mode is SwapMode.SEQUENTIAL:
            await self._unload()
        model, mode = await self._open(goal, mode)
        self._candidate = Candidate(
            goal=goal,
            model=model,
            mode=mode,
            asked_at=self._asked.get(goal.key, began),
            load_began_at=began,
            is_fetched=goal.key in self._fetched,
            found=self._stages.needs.found(goal),
        )

    async def examine(self, goal: Goal, attempt: int) -> None:
        """Examine and warm up the loaded model.

        Raises:
            Refused: see `Stages.examine`.
            Transient: a revision that is known good, and an engine that ended: not its fault.
        """
        self.tracker.enter(goal, SwapPhase.EXAMINING, attempt)
        candidate = self._require_candidate()
        try:
            candidate.exam = await self._stages.examine(goal, candidate.model)
        except Refused as err:
            if self._is_known_good(goal) and await _is_lost(candidate.model):
                text = f"the engine lost the model in its exam: {err}"
                raise Transient(text, FailureReason.ENGINE_AWAY) from err
            raise

    async def compare(self, goal: Goal, attempt: int) -> None:
        """Let the loaded model answer in the shadow. Raises what `shadow` raises."""
        self.tracker.enter(goal, SwapPhase.SHADOWING, attempt)
        candidate, serving = self._require_candidate(), self._board.current
        if goal.content.shadow is None or serving is None:
            return
        mirror = Mirror(candidate.model, goal.content.shadow.samples)
        candidate.agreement = await shadow(
            goal.content.shadow, mirror, serving, self._stages.worker, self.tracker.compared
        )

    def _agreement_of(self, candidate: Candidate) -> Agreement | None:
        """Return how the shadow went: now, or before a restart; a wanted one that was not says so.

        A restart compares nothing: there is no other model in the process.
        """
        goal = candidate.goal
        known = candidate.agreement or self._journal.state.agreement_of(goal)
        return known or (NOTHING_BESIDE if goal.content.shadow else None)

    async def switch(self, goal: Goal) -> None:
        """Let the loaded model answer, and remember it."""
        candidate, self._candidate = self._require_candidate(), None
        candidate.agreement = self._agreement_of(candidate)
        record = self._board.switch(candidate)
        self._settles_at = (
            None if self._is_known_good(goal) else time.monotonic() + self._tuning.settle_s
        )
        log_switch(record)
        await self._journal.served(goal, candidate.agreement)

    async def rename(self, goal: Goal) -> None:
        """Let what serves answer to another name, once that is remembered for the next start."""
        await self._journal.record(goal)
        self._board.rename(goal)

    async def settle(self) -> None:
        """Count what serves as good."""
        self._settles_at = None
        await self._journal.settled()

    @property
    def is_stuck(self) -> bool:
        """Tell whether a call into an engine was left behind and still runs."""
        return self._stages.worker.has_leftovers

    @property
    def hung(self) -> str:
        """Revision whose load was left behind last."""
        return self._stages.hung

    async def sweep(self) -> None:
        """Take away what earlier lives of this process left in an engine beside it."""
        await self._stages.sweep()

    async def drop_lost(self) -> bool:
        """Serve nothing more when the engine has lost the model, which is then loaded again."""
        current, now = self._board.current, time.monotonic()
        if current is None or now < self._engine_look_at:
            return False
        self._engine_look_at = now + _ENGINE_LOOK_S
        if not await _is_lost(current.model):
            return False
        log.error("%s: the engine beside us has lost the model", current.served.revision)
        self._settles_at = None
        await self._board.unload(_LOST_DRAIN_S)
        return True

    async def stop_serving(self) -> None:
        """Serve nothing, because the assignment says so."""
        await self._unload()
        self._board.forget_outage()
        await self._journal.stood_down()

    async def abandon(self) -> None:
        """Close a model that will not be switched to."""
        candidate, self._candidate = self._candidate, None
        if candidate:
            await self._stages.close(candidate.model)
        await self._journal.withdrawn()

    async def prune(
        self, order: Order, attempt: Attempt | None, ahead: tuple[Goal, ...] = ()
    ) -> None:
        """Keep the current revision, the one to go back to, those being prepared and fetched ahead.

        What is fetched ahead never takes the place of another.
        """
        keep = [*self._journal.fallbacks(), *self._being_prepared(order, attempt), *ahead]
        with contextlib.suppress(OSError):
            await self._stages.worker.run(self._stages.slots.prune, keep)

    def _being_prepared(self, order: Order, attempt: Attempt | None) -> list[Goal]:
        under_way = [attempt.goal] if attempt else []
        if not isinstance(order, Goal):
            return under_way
        refusal = self._journal.refusal(order)
        is_open = refusal is None or refusal.failure.reason in PASSING
        return [*under_way, order] if is_open else under_way

    async def _plan(self, goal: Goal, *, with_probe: bool) -> tuple[SwapMode, bool]:
        """Return the mode, and whether the goal fits beside what serves.

        Raises:
            Refused: InsufficientMemory.
        """
        if self._board.is_dark:
            return SwapMode.SEQUENTIAL, True  # planned before the old model went
        if self._board.serving is None and self._is_known_good(goal):
            return SwapMode.OVERLAP, True  # it fitted before, and nothing can be lost
        room = await self._stages.worker.run(
            self._stages.needs.room, goal, self._board.serving, with_probe=with_probe
        )
        mode = choose_mode(goal.content.swap, room)
        if mode is None:
            text = (
                f"the model needs {size_text(room.needed)} ({room.how}), "
                f"{size_text(room.available)} are available and unloading what serves frees "
                f"{size_text(room.freed)}: raise the memory limit of the pod, or swap Sequential"
            )
            raise Refused(FailureReason.INSUFFICIENT_MEMORY, text)
        return mode, room.needed <= room.available

    async def _open(self, goal: Goal, mode: SwapMode) -> tuple[Model, SwapMode]:
        """Load; in Auto, once more alone when the serving model seems to hold the device."""
        if not self._may_be_held(goal, mode):
            return await self._load(goal), mode
        model: Model | None = None
        try:
            model = await self._load(goal)
        except Hung:
            raise  # what serves holds nothing that a hanging driver would be given
        except Refused as err:
            log.info("%s does not load beside what serves: %s", goal.revision, err)
        if model and not self._lost_device(model):
            return model, mode
        if model:
            await self._stages.close(model)
        await self._unload()
        return await self._load(goal), SwapMode.SEQUENTIAL

    async def _load(self, goal: Goal) -> Model:
        return await self._stages.load(goal, is_known_good=self._is_known_good(goal))

    def _is_known_good(self, goal: Goal) -> bool:
        return self._journal.state.is_settled(goal.key)

    def _may_be_held(self, goal: Goal, mode: SwapMode) -> bool:
        is_free_to_choose = goal.content.swap is SwapMode.AUTO and mode is SwapMode.OVERLAP
        return is_free_to_choose and goal.is_accelerated and self._board.serving is not None

    def _lost_device(self, model: Model) -> bool:
        """Tell whether the new model got nothing of a device that the old one uses."""
        served = self._board.served
        before = served.acceleration.delegated_percent if served and served.acceleration else 0.0
        return before > 0 and model.acceleration.delegated_percent == 0

    async def _unload(self) -> None:
        self._settles_at = None
        await self._board.unload(self._tuning.drain_s)

    def _require_candidate(self) -> Candidate:
        if self._candidate is None:
            raise RuntimeError("no model is loaded: the machine's stages are out of order")
        return self._candidate


async def _is_lost(model: Model) -> bool:
    """Tell whether the model is gone from an engine in another process."""
    return isinstance(model, Remote) and await asyncio.to_thread(model.is_lost)
