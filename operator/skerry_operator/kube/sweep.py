"""Finds what the watches missed to tell: objects that are gone.

A watch that had to start anew lists what exists; what was deleted in between is in no list and
gets no event. The names that exist (metadata only) are compared with the cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from skerry_operator.kube.cache import Entry, Table
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.paths import collection_path
from skerry_operator.kube.raw import version_of

ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE = 500


@dataclass(frozen=True)
class Existing:
    """What exists of a kind at one version of the datastore."""

    version: int
    uids: frozenset[str]


def list_existing(
    client: KubeClient, kind: str, namespaces: Iterable[str], selector: str
) -> Existing:
    """Return what exists in the namespaces; an empty name means everywhere. Blocking.

    Raises:
        KubeError: a list failed.
    """
    found = [_list_one(client, collection_path(kind, name), selector) for name in namespaces]
    oldest = min((one.version for one in found), default=0)
    return Existing(oldest, frozenset().union(*(one.uids for one in found)))


def _list_one(client: KubeClient, path: str, selector: str) -> Existing:
    query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
    uids: set[str] = set()
    while True:
        page = client.get(path, query, ACCEPT)
        uids.update(item["metadata"]["uid"] for item in page.get("items") or ())
        token = page["metadata"].get("continue")
        if not token:
            return Existing(version_of(page), frozenset(uids))
        query["continue"] = token


def gone(table: Table[Any], existing: Existing) -> tuple[Entry[Any], ...]:
    """Return the cached objects that do not exist; one newer than the list may well."""
    return tuple(
        entry
        for entry in table
        if entry.uid not in existing.uids and 0 < entry.version <= existing.version
    )
