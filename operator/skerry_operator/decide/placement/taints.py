"""Taints against tolerations, as the pods of a DaemonSet meet them."""

from __future__ import annotations

from collections.abc import Iterable

from skerry_operator.api.v1alpha1.edgedeployment import Toleration, TolerationOperator
from skerry_operator.decide.placement.nodes import Taint

_TOLERATED_BY_DAEMONSETS = frozenset(
    f"node.kubernetes.io/{name}"
    for name in (
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",  # the node's own field decides about that
    )
)


def untolerated(
    taints: Iterable[Taint], tolerations: tuple[Toleration, ...], *, placed: bool
) -> str | None:
    """Return the first taint that keeps the pods away as `key=value:Effect`, or None.

    A unit that is `placed` is driven away by NoExecute only.
    """
    effects = {"NoExecute"} if placed else {"NoExecute", "NoSchedule"}
    for taint in taints:
        if taint.effect not in effects or taint.key in _TOLERATED_BY_DAEMONSETS:
            continue
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            value = f"={taint.value}" if taint.value else ""
            return f"{taint.key}{value}:{taint.effect}"
    return None


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect is not None and toleration.effect != taint.effect:
        return False
    if toleration.operator is TolerationOperator.EXISTS:
        return toleration.key in (None, "", taint.key)
    return toleration.key == taint.key and (toleration.value or "") == taint.value
