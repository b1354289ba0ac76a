"""The stage between the exam and the switch: the prepared model answers in the shadow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import Agreement, FailureReason, Shadow
from skerry_runtime.registry import ServingModel
from skerry_runtime.shadow import Mirror

NOTHING_BESIDE = Agreement(message="no other model served beside it: a new pod or Sequential swap")

_LOOK_S = 0.05


async def shadow(
    wanted: Shadow,
    mirror: Mirror,
    serving: ServingModel,
    worker: Worker,
    tell: Callable[[Agreement], None],
) -> Agreement:
    """Let `serving` pass requests on until enough are compared, or the time is over.

    Args:
        wanted: how many, how long, and how much must agree.
        mirror: compares; closed in the end, whatever happens.
        serving: the model that clients get.
        worker: waits for the last run of the shadow.
        tell: is given what was found so far.

    Raises:
        Refused: OutputDisagrees, when all samples are there and too few agree.
    """
    deadline = time.monotonic() + wanted.timeout_s
    serving.shadow = mirror
    try:
        while not mirror.is_full and time.monotonic() < deadline:
            tell(mirror.agreement)
            await asyncio.sleep(_LOOK_S)
    finally:
        serving.shadow = None
        await worker.run(mirror.close)
    return _judged(mirror.agreement, wanted)


def _judged(found: Agreement, wanted: Shadow) -> Agreement:
    """Return what was found; too few samples are no refusal, but say so."""
    if found.compared < wanted.samples:
        text = f"{found.compared} of {wanted.samples} in {wanted.timeout_s:g} s: too few requests"
        return found.model_copy(update={"message": found.message or text})
    share = found.agreed / found.compared
    if share >= wanted.threshold:
        return found
    why = f"; it failed on {found.errors} of them: {found.message}" if found.errors else ""
    raise Refused(
        FailureReason.OUTPUT_DISAGREES,
        f"{found.agreed} of {found.compared} live answers agree with what serves: "
        f"{share:.4g} is under {wanted.threshold:g}{why}",
        agreement=found,
    )
