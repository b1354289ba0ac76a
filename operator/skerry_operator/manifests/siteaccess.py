"""How the pods of a cell reach the caches of their sites, as a part of the assignment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from skerry_operator.decide.observed import Observed, speakers
from skerry_operator.decide.sites import SiteCaches, most_common, site_of
from skerry_runtime.contract import CacheAccess, RevisionContent

MAX_TICKETS = 4096


def unit_sites(observed: Observed, label: str, units: Iterable[str]) -> dict[str, str]:
    """Return the site of each unit whose node is known: it is one, or its pod runs there."""
    nodes = {node.name: node for node in observed.nodes}
    pods = speakers(observed.pods)
    found = {}
    for unit in units:
        name = unit if unit in nodes else pods[unit].node if unit in pods else ""
        if name in nodes:
            found[unit] = site_of(nodes[name], label)
    return found


def cache_access(
    caches: SiteCaches,
    namespace: str,
    sites: Mapping[str, str],
    contents: Iterable[RevisionContent],
) -> CacheAccess | None:
    """Return how units reach their caches; None where none of their sites has one."""
    urls = {site: caches.urls[site] for site in sorted({*sites.values()}) if site in caches.urls}
    if not urls:
        return None
    usual = most_common(sites.values())
    return CacheAccess(
        ca=caches.ca,
        sites=urls,
        site=usual,
        units={unit: site for unit, site in sorted(sites.items()) if site != usual},
        tickets={name: caches.ticket(namespace, name) for name in _files(contents)[:MAX_TICKETS]},
    )


def _files(contents: Iterable[RevisionContent]) -> list[str]:
    models = [model for content in contents for model in content.models.values()]
    exams = {model.golden.sha256 for model in models if model.golden}
    signatures = (model.signature for model in models if model.signature)
    bundles = {one.sha256 for one in signatures if one.sha256}
    return sorted({file.sha256 for model in models for file in model.files} | exams | bundles)
