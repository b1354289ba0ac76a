"""What the operator asked of the API server, from the server's own audit log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bare_api import OPERATOR

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
READS = frozenset({"get", "list"})
"""Watches are streams that stay open: not counted."""

_POLICY = f"""\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {{level: Metadata, users: [{OPERATOR}]}}
  - {{level: None}}
"""


@dataclass(frozen=True)
class Request:
    """One request of the operator that the server has answered."""

    at: float
    """Unix seconds when it was answered."""
    verb: str
    kind: str
    """Plural, with its subresource: `edgedeployments/status`."""
    name: str


class Audit:
    """The log of one API server; only the operator's requests are in it."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "audit.log"
        self._policy = folder / "audit.yaml"

    def flags(self) -> tuple[str, ...]:
        """Write the policy; return the arguments of the API server."""
        self._policy.write_text(_POLICY)
        return f"--audit-policy-file={self._policy}", f"--audit-log-path={self._log}"

    def requests(self, since: float = 0.0, until: float = float("inf")) -> list[Request]:
        """Return what was answered in [since, until), both in Unix seconds."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        found = (_request(json.loads(line)) for line in lines)
        return [one for one in found if one and since <= one.at < until]


def _request(event: dict[str, object]) -> Request | None:
    target = event.get("objectRef")
    if event["stage"] != "ResponseComplete" or not isinstance(target, dict):
        return None
    kind = "/".join(filter(None, (target.get("resource"), target.get("subresource"))))
    at = datetime.fromisoformat(str(event["stageTimestamp"])).timestamp()
    return Request(at, str(event["verb"]), kind, str(target.get("name", "")))


def writes(requests: Iterable[Request]) -> Counter[str]:
    """Count the writes by kind."""
    return Counter(one.kind for one in requests if one.verb in WRITES)


def reads(requests: Iterable[Request]) -> Counter[str]:
    """Count gets and lists by kind."""
    return Counter(f"{one.verb} {one.kind}" for one in requests if one.verb in READS)
