"""Structured pruning: whole channels go, with all weights that belong to them.

Which ones is decided by the L2 norm of their weights, as torch.nn.utils.prune.ln_structured(n=2,
dim=0) does: round(share x channels) of each layer, the smallest first. Channels that are bound to
each other over several layers count as one, with the norm of all their weights together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import checker

from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import (
    INVALID,
    Weights,
    first_line,
    put_weights,
    shapes_of,
    weights_of,
    with_shapes,
)
from skerry_optimize.prune.channels import ChannelMap, Cut, Maker, map_channels, unshared


@dataclass(frozen=True)
class Slimmed:
    """What came of it."""

    model: onnx.ModelProto
    channels: dict[str, tuple[int, int]]
    """Layer -> its channels before and after."""


def prune_structured(model: onnx.ModelProto, share: float) -> Slimmed:
    """Return the model with that share of its channels less.

    The input and the output of the model keep their channels; what is bound to an operator that
    nobody knows here, too.

    Raises:
        StepRefused: no channel can go; the message names what keeps them.
    """
    slim = unshared(model)
    weights = weights_of(slim)
    known = map_channels(slim, shapes_of(slim), weights)
    gone = chosen(known, weights, share)
    if not gone:
        raise StepRefused(f"prune: no channel can be taken out: {_obstacles(known)}")
    put_weights(slim, _cut(known, weights, gone))
    _set_groups(slim, known, gone)
    return Slimmed(_checked(slim), _counts(known, gone))


def chosen(known: ChannelMap, weights: dict[str, Weights], share: float) -> frozenset[int]:
    """Return the channels that go, each by the number that stands for it."""
    gone: set[int] = set()
    for makers in _bound(known):
        roots = list(dict.fromkeys(known.root(n) for maker in makers for n in maker.numbers))
        norms = _norms(known, makers, weights)
        free = sorted((r for r in roots if known.why_fixed(r) is None), key=lambda r: norms[r])
        wanted = round(share * len(roots))
        for root in free:
            if wanted and _leaves_some(known, makers, gone | {root}):
                gone.add(root)
                wanted -= 1
    return frozenset(gone)


def _bound(known: ChannelMap) -> list[list[Maker]]:
    """Return the layers in groups that share channels."""
    groups: list[tuple[set[int], list[Maker]]] = []
    for maker in known.makers:
        roots, members = {known.root(number) for number in maker.numbers}, [maker]
        for other in [group for group in groups if group[0] & roots]:
            groups.remove(other)
            roots, members = roots | other[0], other[1] + members
        groups.append((roots, members))
    return [members for _, members in groups]


def _norms(
    known: ChannelMap, makers: Iterable[Maker], weights: dict[str, Weights]
) -> dict[int, float]:
    squares: dict[int, float] = {}
    for maker in makers:
        rows = np.moveaxis(weights[maker.weights], maker.axis, 0).astype(np.float64)
        sums = np.square(rows.reshape(len(rows), -1)).sum(axis=1)
        for number, square in zip(maker.numbers, sums, strict=True):
            root = known.root(number)
            squares[root] = squares.get(root, 0.0) + float(square)
    return {root: square**0.5 for root, square in squares.items()}


def _leaves_some(known: ChannelMap, makers: Iterable[Maker], gone: set[int]) -> bool:
    """Tell whether every layer keeps a channel: one without any would be a dead branch."""
    return all(any(known.root(n) not in gone for n in maker.numbers) for maker in makers)


def _kept(known: ChannelMap, numbers: Iterable[int], gone: frozenset[int]) -> list[int]:
    return [place for place, number in enumerate(numbers) if known.root(number) not in gone]


def _cut(
    known: ChannelMap, weights: dict[str, Weights], gone: frozenset[int]
) -> dict[str, Weights]:
    changed: dict[str, Weights] = {}
    for cut in known.cuts:
        changed[cut.weights] = _taken(
            known, changed.get(cut.weights, weights[cut.weights]), cut, gone
        )
    for name, numbers in known.sizes.items():
        shape = weights[name].copy()
        shape[-1] = len(_kept(known, numbers, gone))
        changed[name] = shape
    return changed


def _taken(known: ChannelMap, array: Weights, cut: Cut, gone: frozenset[int]) -> Weights:
    return np.take(array, _kept(known, cut.numbers, gone), axis=cut.axis)


def _set_groups(model: onnx.ModelProto, known: ChannelMap, gone: frozenset[int]) -> None:
    for place, numbers in known.depthwise.items():
        for one in model.graph.node[place].attribute:
            if one.name == "group":
                one.i = len(_kept(known, numbers, gone))


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        found = with_shapes(model)
        checker.check_model(found, full_check=True)
    except INVALID as err:
        raise StepRefused(
            f"prune: the graph does not fit together any more: {first_line(err)}"
        ) from err
    return found


def _counts(known: ChannelMap, gone: frozenset[int]) -> dict[str, tuple[int, int]]:
    return {
        maker.layer: (len(maker.numbers), len(_kept(known, maker.numbers, gone)))
        for maker in known.makers
    }


def _obstacles(known: ChannelMap) -> str:
    """Return what keeps the channels, for people."""
    reasons = {
        maker.layer: why
        for maker in known.makers
        if (why := next(filter(None, map(known.why_fixed, maker.numbers)), None))
    }
    if not reasons:
        return "no Conv, Gemm or MatMul has more channels than that leaves, or weights of its own"
    shown = [f"{layer}: {why}" for layer, why in list(reasons.items())[:5]]
    return "; ".join(shown) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
