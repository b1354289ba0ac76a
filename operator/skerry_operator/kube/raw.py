"""The few things that every raw object has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry_operator.kube.cache import Key

Raw = dict[str, Any]
"""An object as the API server sends it."""


def metadata_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata."""
    metadata: Mapping[str, Any] = raw["metadata"]
    return metadata


def key_of(raw: Mapping[str, Any]) -> Key:
    """Return namespace and name."""
    metadata = metadata_of(raw)
    return (metadata.get("namespace", ""), metadata["name"])


def version_of(raw: Mapping[str, Any]) -> int:
    """Return the resourceVersion as a number; 0 when it is none, and so compares with nothing."""
    text = str(metadata_of(raw).get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0
