"""Resize: along each axis, every new number is a fixed sum of old ones, so it is a matrix."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@operator("Resize", last=19, first=11)
def resize(
    node: GraphNode, x: Tensor, _: Tensor = None, scales: Tensor = None, sizes: Tensor = None
) -> Tensor:
    """Change the sizes of axes."""
    _require_known(node)
    axes = [axis % x.ndim for axis in node.get("axes", range(x.ndim))]
    for axis, (size, scale) in zip(axes, _wanted(node, x, axes, scales, sizes), strict=True):
        if size != x.shape[axis] or scale != 1:
            matrix = _matrix(node, x.shape[axis], size, scale).astype(np.float32)
            x = jnp.moveaxis(jnp.tensordot(matrix, x, axes=(1, axis)), 0, axis)
    return jnp.asarray(x)


def _require_known(node: GraphNode) -> None:
    if node.get("mode", "nearest") not in ("nearest", "linear"):
        raise node.refuse(f"has the mode {node.get('mode')!r}")
    if node.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise node.refuse("crops")
    if node.get("antialias", 0):
        raise node.refuse("smooths")


def _wanted(
    node: GraphNode, x: Tensor, axes: list[int], scales: Tensor, sizes: Tensor
) -> list[tuple[int, float]]:
    """Return the new size of each axis, and how many times the old one it is."""
    if scales is not None and node.static(scales, "scales").size:
        factors = [float(one) for one in node.static(scales, "scales")]
        return [(int(x.shape[a] * f), f) for a, f in zip(axes, factors, strict=True)]
    ends = [int(one) for one in node.static(sizes, "sizes")]
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    ratios = [end / x.shape[axis] for axis, end in zip(axes, ends, strict=True)]
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        return [(int(np.floor(x.shape[axis] * ratio + 0.5)), ratio) for axis in axes]
    return list(zip(ends, ratios, strict=True))


def _matrix(node: GraphNode, before: int, after: int, scale: float) -> Matrix:
    """Return [after, before]."""
    places = _places(node, np.arange(after, dtype=np.float64), before, after, scale)
    found = np.zeros((after, before))
    rows = np.arange(after)
    if node.get("mode", "nearest") == "nearest":
        found[rows, np.clip(_rounded(node, places), 0, before - 1).astype(int)] = 1
        return found
    places = np.clip(places, 0, before - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, before - 1)
    np.add.at(found, (rows, low), 1 - (places - low))
    np.add.at(found, (rows, high), places - low)
    return found


def _places(node: GraphNode, new: Matrix, before: int, after: int, scale: float) -> Matrix:
    """Return where each new number lies among the old ones."""
    match node.get("coordinate_transformation_mode", "half_pixel"):
        case "asymmetric":
            return new / scale
        case "align_corners":
            return new * (before - 1) / (after - 1) if after > 1 else new * 0
        case "pytorch_half_pixel":
            return (new + 0.5) / scale - 0.5 if after > 1 else new * 0
        case "half_pixel_symmetric":
            centre = before / 2 * (1 - after / (before * scale))
            return centre + (new + 0.5) / scale - 0.5
        case _:
            return (new + 0.5) / scale - 0.5


def _rounded(node: GraphNode, places: Matrix) -> Matrix:
    match node.get("nearest_mode", "round_prefer_floor"):
        case "floor":
            return np.floor(places)
        case "ceil":
            return np.ceil(places)
        case "round_prefer_ceil":
            return np.floor(places + 0.5)
        case _:
            return np.ceil(places - 0.5)
