"""Supplies: what a pod has to mount so that it can fetch its models.

A pod that has more of them than its revision needs is as good as one that has just those. So a
pod is made with the Secrets of all revisions that the deployment keeps, and a way back needs no
new pod. Claims are another thing: a pod whose claim is gone does not start, so it has its own only.
"""

from __future__ import annotations

from collections.abc import Iterable

from skerry_operator.api.addresses import PVC
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.api.v1alpha1.edgemodel_source import ModelSource, Source
from skerry_operator.decide.revision import Snapshot

SECRET = "secret/"  # noqa: S105 (a prefix)
"""A supply is this and the name of a Secret, ..."""
CLAIM = "claim/"
"""... or this and the name of a PersistentVolumeClaim."""
MAX_SUPPLIES = 64
"""Most that a pod is made with; a revision's own come first."""


def own_supplies(snapshot: Snapshot) -> frozenset[str]:
    """Return what the sources of a revision's models need, whichever variant a cell has."""
    sources = [
        source
        for kept in snapshot.models
        for source in (
            *(variant.source for variant in kept.spec.variants),
            *((kept.spec.golden.source,) if kept.spec.golden else ()),
        )
    ]
    of_sources = [supply for source in sources for supply in _of_source(source)]
    variants = [variant for kept in snapshot.models for variant in kept.spec.variants]
    return frozenset([*of_sources, *(supply for one in variants for supply in _of_trust(one))])


def _of_trust(variant: Variant) -> Iterable[str]:
    if variant.encryption:
        yield f"{SECRET}{variant.encryption.key_ref.name}"
    if variant.signature and variant.signature.uri:
        yield from _claim(variant.signature.uri)


def _of_source(source: Source) -> Iterable[str]:
    if source.secret_ref:
        yield f"{SECRET}{source.secret_ref.name}"
    files = source.files if isinstance(source, ModelSource) else ()
    for uri in (source.uri, *(file.uri for file in files)):
        yield from _claim(uri)


def _claim(uri: str) -> Iterable[str]:
    if uri.startswith(PVC):
        yield f"{CLAIM}{uri.removeprefix(PVC).partition('/')[0]}"


def supplies_for(snapshot: Snapshot, kept: Iterable[Snapshot]) -> tuple[str, ...]:
    """Return what a pod is made with that begins with this revision, sorted."""
    own = own_supplies(snapshot)
    known = frozenset[str]().union(*map(own_supplies, kept)) - own
    others = {supply for supply in known if supply.startswith(SECRET)}
    return tuple(sorted([*own, *sorted(others)[: max(0, MAX_SUPPLIES - len(own))]]))
