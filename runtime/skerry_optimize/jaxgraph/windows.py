"""Windows that slide over the axes behind the second: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skerry_optimize.jaxgraph.registry import GraphNode


@dataclass(frozen=True)
class Sweep:
    """How a kernel moves; each tuple has an entry for each of its axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    """Before and behind."""

    @property
    def reach(self) -> tuple[int, ...]:
        """Return what the kernel spans, holes counted."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def window(node: GraphNode, sizes: Sequence[int], kernel: Sequence[int]) -> Sweep:
    """Return how the node's kernel moves over axes of these sizes."""
    rank = len(sizes)
    strides = tuple(node.get("strides", (1,) * rank))
    dilations = tuple(node.get("dilations", (1,) * rank))
    bare = Sweep(tuple(kernel), strides, dilations, ((0, 0),) * rank)
    match node.get("auto_pad", "NOTSET"):
        case "VALID":
            return bare
        case "NOTSET":
            given = node.get("pads", (0,) * 2 * rank)
            pads = tuple((int(given[n]), int(given[n + rank])) for n in range(rank))
        case upper_or_lower:
            lower = upper_or_lower == "SAME_LOWER"
            pads = tuple(
                _same(size, stride, reach, lower=lower)
                for size, stride, reach in zip(sizes, strides, bare.reach, strict=True)
            )
    return Sweep(bare.kernel, strides, dilations, pads)


def _same(size: int, stride: int, reach: int, *, lower: bool) -> tuple[int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + reach - size)
    less, more = total // 2, total - total // 2
    return (more, less) if lower else (less, more)
