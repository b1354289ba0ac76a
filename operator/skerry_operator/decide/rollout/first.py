"""The time before anything is stable: a first deployment, and what serves although it failed."""

from __future__ import annotations

from collections import Counter

from skerry_operator.api.v1alpha1.edgedeployment_status import FailedRevision
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import Verdict
from skerry_operator.decide.rollout.look import Look
from skerry_operator.decide.rollout.state import clip

FIRST_PREFIX = "first deployment: nothing to roll back to"
WHY_LIMIT = 700
"""Longest text of a failure here: the remedy behind it must not be cut off."""


def first_failed(entry: FailedRevision) -> str:
    """Return what became of a first deployment, and what to do."""
    return f"{FIRST_PREFIX}: {_why(entry)}"


def interim_failed(entry: FailedRevision, interim: str) -> str:
    """Return what became of a revision that was tried beside what serves without being stable."""
    return f"{entry.revision} was taken back, {interim} serves and never was stable: {_why(entry)}"


def _why(entry: FailedRevision) -> str:
    remedy = "change the model or the spec, or try it again with `skerry retry`"
    if entry.reason == Reason.DEADLINE_EXCEEDED:
        remedy = f"it becomes stable by itself once it serves everywhere; else {remedy}"
    return f"{entry.reason}: {clip(entry.message, WHY_LIMIT)}; {remedy}"


def interim_of(look: Look) -> str | None:
    """Return what a rollout that begins now goes back to, where nothing is stable.

    That is what it was, else what most units serve. It never passed, but clients get answers of it.
    """
    if look.state.stable is not None:
        return None
    known = look.facts.restorable - {look.facts.wanted}
    if look.state.interim in known:
        return look.state.interim
    serving = Counter(unit.serving for unit in look.facts.units if unit.serving in known)
    return max(serving, key=lambda revision: (serving[revision], revision or ""), default=None)


def serves_after_all(look: Look) -> bool:
    """Tell whether nothing but the deadline speaks against a target.

    The numbers are good, no more units refuse it than are tolerated, and in every cell that can be
    reached one serves it.
    """
    if look.assessment.verdict is not Verdict.SUCCESSFUL:
        return False
    if len(look.failing) > look.spec.failure_limit:
        return False
    covered = {unit.cell for unit in look.serving if unit.is_confirmed}
    return bool(covered) and covered >= {unit.cell for unit in look.reachable}


def is_late(look: Look) -> bool:
    """Tell whether a first deployment that ran into its deadline has come to serve since then."""
    state, wanted = look.state, look.facts.wanted
    entry = look.refusal
    if state.stable is not None or state.target != wanted or entry is None:
        return False
    ran_out = entry.reason == Reason.DEADLINE_EXCEEDED
    return ran_out and look.facts.abort != wanted and serves_after_all(look)
