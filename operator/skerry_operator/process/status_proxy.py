"""Pods' /status through the API server, where pod addresses are not routed."""

from __future__ import annotations

from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import KubeError, Unavailable
from skerry_operator.kube.paths import object_path
from skerry_operator.reports.base import BODY_LIMIT, Question, ReadError, ReadResult
from skerry_runtime.contract import ADMIN_PORT


class ProxyFetch:
    """Asks `pods/{name}:8082/proxy/status` of the API server."""

    def __init__(self, client: KubeClient, threads: Threads, timeout_s: float) -> None:
        self._client = client
        self._threads = threads
        self._timeout_s = timeout_s

    async def __call__(self, question: Question) -> bytes:
        """Return the body, cut off one byte after the limit.

        Raises:
            ReadError: there is none.
        """
        path = object_path("Pod", question.key[0], f"{question.pod.name}:{ADMIN_PORT}")
        try:
            return await self._threads.run(
                self._client.read_bytes, f"{path}/proxy/status", BODY_LIMIT + 1, self._timeout_s
            )
        except Unavailable as error:  # also what the API server says of a pod that is not there
            raise ReadError(ReadResult.UNREACHABLE, str(error)) from error
        except KubeError as error:
            raise ReadError(ReadResult.REFUSED, str(error)) from error

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.close()
