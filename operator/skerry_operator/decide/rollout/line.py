"""How units may use the line that models come over: a rate, and what is not to be fetched now."""

from __future__ import annotations

from datetime import datetime

from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.rollout.look import (
    heeds_download_windows,
    index_of,
    is_immediate,
    steps_of,
)
from skerry_operator.decide.rollout.state import EngineState
from skerry_operator.decide.windows import outlook
from skerry_runtime.contract import MAX_COUNT, DownloadRules


def download_rules(spec: Rollout, state: EngineState, now: datetime) -> DownloadRules | None:
    """Return what the pods are told; None: nothing.

    Open or shut is the operator's word, so that a board without a clock can obey it. Only what is
    on trial waits: what was stable before may be all that keeps a unit without a model.
    """
    asked = spec.download
    if asked.max_rate is None and not asked.windows:
        return None
    rate = None if asked.max_rate is None else max(1, min(int(quantity(asked.max_rate)), MAX_COUNT))
    is_open = outlook(asked.windows, now).is_open or not heeds_download_windows(spec, state)
    return DownloadRules(bytes_per_s=rate, shut=() if is_open else (state.target or "",))


def fetched_ahead(spec: Rollout, state: EngineState) -> str | None:
    """Return the revision that units fetch before it is their turn; None: none.

    What was stable before goes to everyone at once, and is mostly there already.
    """
    is_on_trial = state.rollout.stage in {Stage.STEPPING, Stage.SOAKING, Stage.PAUSED}
    if not spec.prefetch or not is_on_trial or state.target is None or state.base is None:
        return None
    has_failed = state.failure_of(state.target) is not None
    return None if has_failed or is_immediate(state) else state.target


def may_try_ahead(spec: Rollout, state: EngineState) -> bool:
    """Tell whether a step has brought what is on trial to units: of every cell, at least one."""
    steps = steps_of(spec, state)
    taken = steps[: index_of(state, steps)]
    return state.rollout.stage is Stage.SOAKING or any(step.units is not None for step in taken)
