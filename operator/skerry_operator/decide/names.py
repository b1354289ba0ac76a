"""Names that fit where Kubernetes wants short ones."""

from __future__ import annotations

import hashlib

LABEL_LIMIT = 63
"""Longest label value and Service name."""
CELL_LIMIT = 52
"""Longest cell name: a DaemonSet adds its template hash, and both are label values."""
_SUFFIX = 8


def bounded(text: str, limit: int = LABEL_LIMIT) -> str:
    """Return `text` when it is a DNS label of at most `limit`, else a short form with its hash.

    >>> bounded("digits")
    'digits'
    >>> bounded("a-very-long-name", limit=15)
    'a-very-6c158842'
    """
    label = text.replace(".", "-")
    if label == text and len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_SUFFIX]
    return f"{label[: limit - _SUFFIX - 1].rstrip('-')}-{digest}"


def cell_name(
    deployment: str, profile: str, arch: str, alternative: int = 0, choice: int = 0
) -> str:
    """Return the name of a cell.

    `alternative` tells resources of one profile apart, `choice` the variants of nodes whose memory
    differs.

    >>> cell_name("digits", "intel-gpu", "amd64")
    'digits-intel-gpu-amd64'
    >>> cell_name("digits", "intel-gpu", "amd64", 1)
    'digits-intel-gpu-amd64-r2'
    >>> cell_name("digits", "cpu", "arm64", choice=1)
    'digits-cpu-arm64-v2'
    """
    resource = f"-r{alternative + 1}" if alternative else ""
    variant = f"-v{choice + 1}" if choice else ""
    return bounded(f"{deployment}-{profile}-{arch}{resource}{variant}", CELL_LIMIT)


def unit_name(deployment: str, index: int) -> str:
    """Return the name of a unit that is no node: one of the deployment's replicas.

    >>> unit_name("digits", 2)
    'digits-2'
    """
    return bounded(f"{deployment}-{index}")
