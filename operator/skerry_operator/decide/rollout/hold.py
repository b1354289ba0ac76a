"""Whether a revision may be begun although it has no build for units that serve. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from skerry_operator.api.v1alpha1.edgedeployment import OnUncovered, Rollout
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import Uncovered
from skerry_operator.decide.rollout.look import Finding
from skerry_operator.decide.rollout.naming import some
from skerry_operator.decide.rollout.state import EngineState


def hold(
    spec: Rollout, state: EngineState, wanted: str, uncovered: Sequence[Uncovered]
) -> Finding | None:
    """Return why the wanted revision must not be begun; None: its builds do not keep it.

    The way back to a revision that was stable is never held: it may be what saves the others.
    """
    counted = [one for one in uncovered if one.counts]
    is_way_back = wanted == state.base or any(past.revision == wanted for past in state.history)
    if spec.on_uncovered is not OnUncovered.HOLD or state.base is None or is_way_back:
        return None
    if len(counted) <= spec.failure_limit:
        return None
    text = f"{wanted} is not begun: {lacking(spec, counted)}"
    return Finding(Reason.UNITS_UNCOVERED, text)


def lacking(spec: Rollout, counted: Sequence[Uncovered]) -> str:
    """Return how many units a revision has no build for, which, and what would help."""
    count = f"{len(counted)} units that serve" if len(counted) > 1 else "1 unit that serves"
    return (
        f"it has no build for {count}, {spec.failure_limit} tolerated: "
        f"{some([f'{one.name}: {one.why}' for one in counted])}. Add the build, or set "
        "spec.rollout.onUncovered to Exclude (they keep what they have) or to Allow (they lose "
        "their model)"
    )
