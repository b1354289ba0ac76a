"""Reads and writes the objects of site caches, and makes their keys. Blocking."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skerry_operator.constants import ANNOTATION_DIGEST, LABEL_SITE
from skerry_operator.decide.planned import Manifest
from skerry_operator.kube.client import Json, KubeClient
from skerry_operator.kube.errors import Conflict
from skerry_operator.kube.paths import collection_path, object_path
from skerry_operator.manifests.sitecache import SITE_KINDS


@dataclass(frozen=True)
class FoundObject:
    """One object of a site cache as it is in the cluster."""

    kind: str
    name: str
    uid: str
    digest: str
    address: str = ""
    """Of a Service, where it is reached."""


def list_caches(client: KubeClient, namespace: str) -> tuple[FoundObject, ...]:
    """Return all objects of site caches.

    Raises:
        KubeError: a list failed.
    """
    return tuple(
        read_object(kind, item)
        for kind in SITE_KINDS
        for item in client.get(collection_path(kind, namespace), {"labelSelector": LABEL_SITE}).get(
            "items", ()
        )
    )


def read_object(kind: str, raw: Json) -> FoundObject:
    """Return what counts of an object."""
    metadata = raw["metadata"]
    digest = (metadata.get("annotations") or {}).get(ANNOTATION_DIGEST, "")
    address = (raw.get("spec") or {}).get("clusterIP") or ""
    return FoundObject(
        kind, metadata["name"], metadata["uid"], digest, address if kind == "Service" else ""
    )


def apply_caches(
    client: KubeClient,
    namespace: str,
    wanted: Iterable[Manifest],
    found: Iterable[FoundObject],
) -> tuple[FoundObject, ...]:
    """Write what differs, and delete what is not wanted; return what there is then.

    The volumes' claims are left alone: a site whose gateway comes back has its files.

    Raises:
        KubeError: something was not written.
    """
    there = {(one.kind, one.name): one for one in found}
    result = []
    for manifest in wanted:
        kind, name = manifest.ref.kind, manifest.ref.name
        current = there.pop((kind, name), None)
        if current is None or current.digest != manifest.digest:
            raw = client.apply(object_path(kind, namespace, name), manifest.body, kind)
            current = read_object(kind, raw)
        result.append(current)
    for one in there.values():
        client.delete(object_path(one.kind, namespace, one.name), one.kind, one.uid)
    return tuple(result)


def create_keys(client: KubeClient, namespace: str, name: str, keys: Mapping[str, bytes]) -> bool:
    """Make the Secret with the keys; false: there is one. It is never read, nor replaced.

    Raises:
        KubeError: it was not made.
    """
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in keys.items()},
    }
    try:
        client.create(collection_path("Secret", namespace), body, "Secret")
    except Conflict:
        return False
    return True


def owner_reference(client: KubeClient, namespace: str, name: str) -> Mapping[str, str]:
    """Return the reference of the ConfigMap that the caches go with.

    Raises:
        KubeError: it cannot be read.
    """
    metadata = client.get(object_path("ConfigMap", namespace, name))["metadata"]
    names = {key: metadata[key] for key in ("name", "uid")}
    return {"apiVersion": "v1", "kind": "ConfigMap", **names}
