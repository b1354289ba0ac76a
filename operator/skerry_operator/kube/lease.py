"""Leader election by a coordination.k8s.io Lease: one process writes at a time.

The official client has one too, but it releases nothing on shutdown, gives no fence to the
writers, and compares the clocks of two machines. Here a Lease counts as abandoned when it was not
seen to change for its duration on *our* monotonic clock, as client-go does it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from skerry_operator.kube.client import TIMEOUT_S, Json, KubeClient
from skerry_operator.kube.errors import Conflict, Fenced, Forbidden, KubeError, NotFound
from skerry_operator.kube.paths import API_VERSIONS, collection_path, object_path

DURATION_S = 30
"""A Lease that was not renewed for so long can be taken."""

RENEW_S = 5.0
"""Time between renewals."""

RETRY_S = 2.0
"""Time between tries to get the Lease, or to renew it after an error."""

MARGIN_S = sum(TIMEOUT_S)
"""The holder begins no write in the last seconds before the Lease can be taken: so long a request
may be under way. What is left of the Lease has room for two renewals that fail."""

log = logging.getLogger(__name__)


class LeaseLost(Exception):  # noqa: N818 (says what happened)
    """The Lease is held by another process, or could not be renewed in time."""


@dataclass(frozen=True)
class LeaseName:
    """Where the Lease is, and who asks for it."""

    namespace: str
    name: str
    identity: str
    owner: str = ""
    """Deployment of the operator: with it the garbage collector takes the Lease; empty: nobody."""


@dataclass(frozen=True)
class Sighting:
    """A Lease of another process, and when it was first seen like this."""

    holder: str
    renewed: str
    duration_s: float
    seen_at: float

    def is_abandoned(self, now: float) -> bool:
        """Tell whether the Lease can be taken: given back, or not renewed for its duration."""
        return not self.holder or now >= self.seen_at + self.duration_s


def sight(spec: Mapping[str, Any], last: Sighting | None, now: float) -> Sighting:
    """Return the sighting of a Lease; an unchanged one keeps the time of the first."""
    holder, renewed = spec.get("holderIdentity") or "", str(spec.get("renewTime", ""))
    if last and (last.holder, last.renewed) == (holder, renewed):
        return last
    return Sighting(holder, renewed, float(spec.get("leaseDurationSeconds") or DURATION_S), now)


class Elector:
    """Holds the Lease for this process. Its `check` is the fence before every write."""

    def __init__(
        self,
        client: KubeClient,
        name: LeaseName,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._name = name
        self._now = now
        self._monotonic = monotonic
        self._held_until = float("-inf")
        self._sighting: Sighting | None = None
        self._owners: list[Json] | None = None
        # A thread of its own: a renewal must not wait behind a hundred applies.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lease")

    def check(self) -> None:
        """Return while the Lease is held for certain.

        Raises:
            Fenced: it is not, or may no longer be when a request arrives.
        """
        if self._monotonic() >= self._held_until:
            raise Fenced(f"the Lease {self._name.name} is not held")

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._in_thread(self._try_once):  # noqa: ASYNC110 (no event tells)
            await asyncio.sleep(RETRY_S)
        log.info("the Lease %s is held by %s", self._name.name, self._name.identity)

    async def keep(self) -> None:
        """Renew the Lease for ever.

        Raises:
            LeaseLost: it is gone.
        """
        while True:
            await asyncio.sleep(RENEW_S)
            while not await self._in_thread(self._try_once):
                self._give_up_if_lost()
                await asyncio.sleep(RETRY_S)

    async def release(self) -> None:
        """Give the Lease back, so that a successor starts at once."""
        if self._monotonic() < self._held_until:
            self._held_until = float("-inf")
            await self._in_thread(self._give_back)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, call: Callable[[], bool]) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call))

    def _give_up_if_lost(self) -> None:
        other = self._sighting.holder if self._sighting else ""
        if other not in ("", self._name.identity):
            self._held_until = float("-inf")
            raise LeaseLost(f"the Lease {self._name.name} is held by {other}")
        if self._monotonic() >= self._held_until:
            raise LeaseLost(f"the Lease {self._name.name} could not be renewed in time")

    def _try_once(self) -> bool:
        """Take or renew the Lease; False when another holds it or the server does not answer."""
        asked_at = self._monotonic()
        try:
            taken = self._take()
        except KubeError as error:
            log.warning("the Lease was not renewed: %s", error)
            return False
        if taken:
            self._held_until = asked_at + DURATION_S - MARGIN_S
        return taken

    def _take(self) -> bool:
        if self._owners is None:
            self._owners = self._find_owners()
        lease = self._read()
        if lease is None:
            return self._write(self._client.create_unfenced, None)
        self._sighting = sight(lease.get("spec") or {}, self._sighting, self._monotonic())
        is_ours = self._sighting.holder == self._name.identity
        if not is_ours and not self._sighting.is_abandoned(self._monotonic()):
            return False
        return self._write(self._client.replace_unfenced, lease)

    def _find_owners(self) -> list[Json]:
        """Return the Lease's owner references; one that cannot be read is done without.

        A Lease that a process makes again while it ends has an owner that is gone, and goes too.
        """
        path = f"/apis/apps/v1/namespaces/{self._name.namespace}/deployments/{self._name.owner}"
        try:
            found = self._client.get_lease(path) if self._name.owner else None
        except (Forbidden, NotFound) as error:
            log.warning("the Lease will outlive an uninstall, as its owner is not known: %s", error)
            return []
        return [_owner_reference(found["metadata"])] if found else []

    def _read(self) -> Json | None:
        path = object_path("Lease", self._name.namespace, self._name.name)
        try:
            return self._client.get_lease(path)
        except NotFound:
            return None

    def _write(self, send: Callable[[str, Json, str], Json], current: Json | None) -> bool:
        collection = collection_path("Lease", self._name.namespace)
        path = f"{collection}/{self._name.name}" if current else collection
        try:
            send(path, self._body(current, self._name.identity), "Lease")
        except Conflict:  # another process was faster
            return False
        return True

    def _give_back(self) -> bool:
        try:
            lease = self._read()
            if lease and (lease.get("spec") or {}).get("holderIdentity") == self._name.identity:
                path = object_path("Lease", self._name.namespace, self._name.name)
                self._client.replace_unfenced(path, self._body(lease, ""), "Lease")
        except KubeError as error:
            log.warning("the Lease was not given back: %s", error)
            return False
        return True

    def _body(self, current: Json | None, holder: str) -> Json:
        now = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata = {"name": self._name.name, "namespace": self._name.namespace}
        before = (current or {}).get("spec") or {}
        is_new = before.get("holderIdentity") != holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": now if is_new else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": (before.get("leaseTransitions") or 0) + (is_new and bool(holder)),
        }
        version = (current or {}).get("metadata", {}).get("resourceVersion")
        fenced = metadata | ({"resourceVersion": version} if version else {})
        owned = {"ownerReferences": self._owners} if self._owners else {}
        return {
            "apiVersion": API_VERSIONS["Lease"],
            "kind": "Lease",
            "metadata": fenced | owned,
            "spec": spec,
        }


def _owner_reference(metadata: Json) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
