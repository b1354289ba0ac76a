"""The tenant who does nothing wrong: a deployment whose looks and rollbacks are timed."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fleet.people import People, model
from fleet.runtimes import SimulatedRuntimes
from skerry_operator.kube.paths import object_path

NAMESPACE = "tenant-b"
NAME = "digits"
ECHO = "echo"
UNITS = 5
WITHIN_S = 90.0
LOOKS = 5
"""Between two rollbacks."""
SPACING_S = 0.6
"""Between two looks: the operator holds back for half a second what events ask for sooner."""
BAD = "+fails-later"
ROLLOUT = {
    "steps": [{"units": "1", "soak": "3s"}, {"units": "100%", "soak": "0s"}],
    "analysis": {
        "interval": "1s",
        "metrics": [{"name": "ErrorRate", "max": "0.001", "minSamples": 20}],
    },
}


@dataclass
class Times:
    """Seconds of what was done; what did not end in time is missing, and told."""

    looks: list[float] = field(default_factory=list)
    """From an edit of the spec to the status that knows it."""
    echoes: list[float] = field(default_factory=list)
    """From a write to what a watch tells of it: the API server alone, no operator in between."""
    rollbacks: list[float] = field(default_factory=list)
    """From a bad version to stable serving everywhere again."""
    missing: list[str] = field(default_factory=list)

    def look_s(self) -> float | None:
        """Return the median."""
        return statistics.median(self.looks) if self.looks else None

    def echo_s(self) -> float | None:
        """Return the median."""
        return statistics.median(self.echoes) if self.echoes else None

    def own_look_s(self) -> float | None:
        """Return what is the operator's: a look has two writes and their watches besides."""
        look_s, echo_s = self.look_s(), self.echo_s()
        return None if look_s is None or echo_s is None else max(0.0, look_s - 2 * echo_s)

    def rollback_s(self) -> float | None:
        """Return the median."""
        return statistics.median(self.rollbacks) if self.rollbacks else None


class Victim:
    """The deployment, and what its owner does with it."""

    def __init__(self, people: People, runtimes: SimulatedRuntimes) -> None:
        self._people = people
        self._runtimes = runtimes
        self._numbers = itertools.count(1)
        self._good = ""
        self.raw: dict[str, Any] = {}
        self.echoed = ""

    @staticmethod
    def nodes() -> dict[str, dict[str, str]]:
        """Return its nodes with their labels."""
        return {f"b-{index}": {"tenant": "b"} for index in range(UNITS)}

    def note(self, event: str, raw: dict[str, Any]) -> None:
        """Take what a watch tells of the deployment."""
        del event
        self.raw = raw

    def note_echo(self, event: str, raw: dict[str, Any]) -> None:
        """Take what a watch tells of a ConfigMap that nobody but this tenant knows."""
        del event
        if raw["metadata"]["name"] == ECHO:
            self.echoed = raw.get("data", {}).get("number", "")

    async def deploy(self) -> None:
        """Deploy a good version.

        Raises:
            TimeoutError: it did not get everywhere.
        """
        await self._put_good()
        spec = {"modelRef": {"name": NAME}, "rollout": ROLLOUT}
        spec |= {"placement": {"nodeSelector": {"tenant": "b"}}}
        await self._people.put("EdgeDeployment", NAMESPACE, NAME, spec)
        await self.until(self._is_stable, "the first version serves")

    async def measure(self, seconds: float) -> Times:
        """Look and roll back in turn for so long, once at least."""
        times, end = Times(), time.monotonic() + seconds
        while True:
            for _ in range(LOOKS):
                await self._time("look", times.looks, self._look, times)
                await asyncio.sleep(SPACING_S)
                await self._time("echo", times.echoes, self._echo, times)
            await self._time("rollback", times.rollbacks, self._roll_back, times)
            if time.monotonic() > end:
                return times

    async def _time(self, what: str, found: list[float], act: Callable[[], Any], t: Times) -> None:
        began = time.monotonic()
        try:
            await act()
            found.append(time.monotonic() - began)
        except TimeoutError as error:
            t.missing.append(f"{what}: {error}")

    async def _look(self) -> None:
        """Edit the spec in a way that changes no pod, and wait until the status knows it."""
        deadline = f"{600 + next(self._numbers)}s"
        spec = {"rollout": {**ROLLOUT, "progressDeadline": deadline}}
        path = object_path("EdgeDeployment", NAMESPACE, NAME)
        await self._people.send("PATCH", path, {"spec": spec})
        await self.until(lambda: self._knows(deadline), "the edit is known")

    async def _echo(self) -> None:
        """Write something that no operator looks at, and wait until a watch tells of it."""
        number = str(next(self._numbers))
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ECHO}}
        path = object_path("ConfigMap", NAMESPACE, ECHO)
        await self._people.send("APPLY", path, {**body, "data": {"number": number}})
        await self.until(lambda: self.echoed == number, "the write is seen")

    def _knows(self, deadline: str) -> bool:
        is_there = self.raw["spec"]["rollout"].get("progressDeadline") == deadline
        generation = self.raw["metadata"]["generation"]
        return is_there and self._status().get("observedGeneration") == generation

    async def _roll_back(self) -> None:
        """Put a version that fails on the canary, and wait until it is gone; then mend it."""
        bad = f"{next(self._numbers)}.0.0{BAD}"
        await self._people.put("EdgeModel", NAMESPACE, NAME, model(bad))
        await self.until(lambda: self._is_rolled_back(bad), f"{bad} is taken back")

    def _is_rolled_back(self, bad: str) -> bool:
        status = self._status()
        is_over = (status.get("modelVersion"), status.get("phase")) == (bad, "RolledBack")
        return is_over and self._served() == {self._good: UNITS}

    async def _put_good(self) -> None:
        self._good = f"{next(self._numbers)}.0.0"
        await self._people.put("EdgeModel", NAMESPACE, NAME, model(self._good))

    def _is_stable(self) -> bool:
        status = self._status()
        is_over = (status.get("modelVersion"), status.get("phase")) == (self._good, "Stable")
        return is_over and self._served() == {self._good: UNITS}

    def _served(self) -> Counter[str]:
        pods = [pod for pod in self._runtimes.pods() if pod.unit.startswith("b-")]
        return Counter(pod.serving.version if pod.serving else "" for pod in pods)

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.raw.get("status", {})
        return status

    @staticmethod
    async def until(look: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        """Wait for something.

        Raises:
            TimeoutError: it was not in time; the text says what.
        """
        end = time.monotonic() + within_s
        while not look():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {within_s:g} s: {what}")
            await asyncio.sleep(0.02)
