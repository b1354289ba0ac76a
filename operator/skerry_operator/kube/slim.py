"""Cuts from a large object what nobody here reads, before it is kept anywhere. Pure.

The API server takes objects of 1.5 MB, and everybody who may write in a namespace can label a
hundred of them as ours. So what is large is cut down as it comes in, object by object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from skerry_operator.constants import ANNOTATION_DIGEST, ANNOTATION_EXTRAS, ANNOTATION_NUDGE
from skerry_operator.kube.children import CONTENT, CONTENT_LIMIT, TOO_LARGE
from skerry_operator.kube.raw import Raw

LARGE = 64 * 1024
"""Text of an object that is cut. Those that Skerry makes are smaller, but for the assignments of
large fleets, which stay whole."""

_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
)
_ANNOTATIONS = (ANNOTATION_DIGEST, ANNOTATION_EXTRAS, ANNOTATION_NUDGE)
_BOOK = ("manager", "operation", "subresource", "time")
_MEMBERS = 32
"""Most members that are kept of a list of a large pod: containers, conditions."""
_TEXT = 1024


def slim(kind: str, raw: Mapping[str, Any]) -> Raw:
    """Return a large object with only what is read of it; what is then still too long is left out.

    Custom resources keep spec and status: their schemas bound both.
    """
    if kind == "Pod":
        return {"metadata": _metadata(raw), **_pod(raw)}
    if kind == "Node":
        return {"metadata": _metadata(raw), "spec": raw.get("spec") or {}, "status": _node(raw)}
    if kind in {"EdgeDeployment", "EdgeModel"}:
        annotations = (raw.get("metadata") or {}).get("annotations") or {}
        ours = {k: v for k, v in annotations.items() if len(k) + len(v) <= _TEXT}
        content = {name: raw[name] for name in ("spec", "status") if name in raw}
        return {"metadata": {**_metadata(raw), "annotations": ours}, **content}
    content = {name: raw[name] for name in CONTENT if name in raw}
    fits = len(json.dumps(content)) <= CONTENT_LIMIT
    # What was too long to keep must not look like an object that holds nothing.
    return {"metadata": _metadata(raw), **(content if fits else {TOO_LARGE: True})}


def _metadata(raw: Mapping[str, Any]) -> Raw:
    metadata = raw.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    return {
        **{name: metadata[name] for name in _METADATA if name in metadata},
        "annotations": {k: annotations[k][:_TEXT] for k in _ANNOTATIONS if k in annotations},
        "ownerReferences": list(metadata.get("ownerReferences") or ())[:_MEMBERS],
        "managedFields": [
            {name: entry[name] for name in _BOOK if name in entry}
            for entry in (metadata.get("managedFields") or ())[:_MEMBERS]
        ],
    }


def _node(raw: Mapping[str, Any]) -> Raw:
    status = raw.get("status") or {}
    return {k: status[k] for k in ("nodeInfo", "allocatable", "conditions") if k in status}


def _pod(raw: Mapping[str, Any]) -> Raw:
    """Return a pod that is far larger than any of ours: where it is, and that it is."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    containers = [
        {"resources": {"limits": _short(one.get("resources") or {}, "limits")}}
        for one in (spec.get("containers") or ())[:_MEMBERS]
    ]
    return {
        "spec": {"nodeName": spec.get("nodeName") or "", "containers": containers},
        "status": {k: status[k] for k in ("phase", "podIP") if k in status},
    }


def _short(resources: Mapping[str, Any], name: str) -> Raw:
    return dict(list((resources.get(name) or {}).items())[:_MEMBERS])
