"""Which nodes share a line, and which of them keeps the models for all of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from skerry_operator.constants import LABEL_GATEWAY
from skerry_operator.decide.placement.nodes import Node

NO_SITE = "default"
"""Site of all nodes without the site's label."""


@dataclass(frozen=True)
class SiteCaches:
    """The caches that there are, as pods are told of them."""

    label: str
    """Key of the node label that names the site."""
    ca: str
    """PEM of whom pods believe about a cache."""
    urls: Mapping[str, str]
    """Site -> address of its cache."""
    ticket: Callable[[str, str], str] = field(compare=False)
    """(namespace, sha256) -> the word that the namespace uses this file."""


def site_of(node: Node, label: str) -> str:
    """Return the site of a node."""
    return node.labels.get(label) or NO_SITE


def sites_with_gateway(nodes: Iterable[Node], label: str) -> dict[str, tuple[str, ...]]:
    """Return the sites that have a gateway, with the names of these."""
    found: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        if node.labels.get(LABEL_GATEWAY) == "true":
            found[site_of(node, label)].append(node.name)
    return {site: tuple(sorted(names)) for site, names in sorted(found.items())}


def most_common(sites: Iterable[str]) -> str | None:
    """Return the site of most units; of two with as many, the first by name."""
    counts = Counter(sites)
    return min(counts, key=lambda site: (-counts[site], site), default=None)
