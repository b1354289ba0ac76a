"""A node as placement reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Taint:
    """A taint of a node."""

    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True)
class Node:
    """A node, reduced to what placement reads."""

    name: str
    arch: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, float] = field(default_factory=dict)
    """Base units: cores, bytes, devices."""
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    reachable: bool = True
    """The Ready condition is True: its kubelet reports. A node that is not is offline."""
    memo: dict[object, object] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What was worked out about this very value; holds no fact of its own."""
