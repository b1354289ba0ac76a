"""The definitions of our kinds in the cluster: waited for at the start, held against our own."""

from __future__ import annotations

import asyncio
import logging

from skerry_operator.constants import API_VERSION
from skerry_operator.crdgen.skew import OPENAPI_PATH, skews
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import KubeError, NotFound
from skerry_operator.kube.paths import PLURALS

RETRY_S = 2.0
"""Between two looks for definitions that are missing."""
PERIOD_S = 300.0
"""Between two comparisons: people upgrade definitions while the operator runs."""

log = logging.getLogger(__name__)


class Definitions:
    """What the cluster serves of our kinds. A difference is told and stops nothing."""

    def __init__(self, client: KubeClient, threads: Threads) -> None:
        self._client = client
        self._threads = threads
        self._problem = ""

    @property
    def problem(self) -> str:
        """How the served definitions differ from the operator's own; empty: not known to."""
        return self._problem

    async def wait(self) -> None:
        """Wait until the API server serves both kinds; kopf looks for them only once."""
        while missing := await self._missing():
            log.warning("waiting for the CRDs: %s", missing)
            await asyncio.sleep(RETRY_S)

    async def run(self) -> None:
        """Compare for ever."""
        while True:
            await self.compare()
            await asyncio.sleep(PERIOD_S)

    async def compare(self) -> None:
        """Compare once; what is found is logged when it is news."""
        try:
            document = await self._threads.run(self._client.get, OPENAPI_PATH)
        except KubeError as error:
            log.warning("the served CRDs were not compared with this operator's: %s", error)
            return
        found = "; ".join(str(skew) for skew in skews(document))
        if found and found != self._problem:
            log.warning("%s", found)
        self._problem = found

    async def _missing(self) -> str:
        try:
            answer = await self._threads.run(self._client.get, f"/apis/{API_VERSION}")
        except NotFound:
            return f"{API_VERSION} is not served: install crds/"
        except KubeError as error:
            return str(error)
        served = {resource["name"] for resource in answer["resources"]}
        return ", ".join(sorted({PLURALS["EdgeModel"], PLURALS["EdgeDeployment"]} - served))
