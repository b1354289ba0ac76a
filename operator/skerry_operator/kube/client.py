"""One thin client over the official one: JSON in, JSON out, own errors, a fence before writes.

Rights that the operator needs (the chart's Role and ClusterRole must grant exactly these):

=========================  =================================  ===================================
API group                  resources                          verbs
=========================  =================================  ===================================
skerry.dev                 edgemodels, edgedeployments        get list watch
skerry.dev                 edgemodels/status,                 patch
                           edgedeployments/status
(core)                     nodes                              list watch
(core)                     pods                               list watch patch
(core)                     configmaps, services               list watch create patch delete
(core)                     events                             list create patch
(core)                     pods/proxy                         get  (only with status access Proxy)
apps                       daemonsets, controllerrevisions    list watch create patch delete
networking.k8s.io          networkpolicies                    list watch create patch delete
batch                      jobs                               the same  (only with optimize.enabled)
apps                       deployments (its own, by name)     get  (Role in its namespace)
coordination.k8s.io        leases (its own, by name)          get update delete  (same Role)
coordination.k8s.io        leases                             create      (same Role)
=========================  =================================  ===================================

Nodes are cluster-scoped always; all else can be a Role per namespace when the operator serves
named namespaces. `get` on the custom resources is used by nothing but people's debugging, and may
be left out. Discovery (/api, /apis) is open to every authenticated user.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, ParamSpec, Protocol, TypeVar

import urllib3
from kubernetes import client as official
from kubernetes import config as official_config
from typing_extensions import override

from skerry_operator.constants import FIELD_MANAGER
from skerry_operator.kube.errors import KubeError, Unavailable, error_of, why_away
from skerry_operator.telemetry import Telemetry
from skerry_runtime import __version__

THREADS = 32
"""Requests at one time; also the size of the pool of kept-alive connections. There is no limit on
requests per second: the API server's own fairness rules do that, and its 429 is obeyed."""

TIMEOUT_S = (3.0, 10.0)
"""To connect, and to answer."""

LEASE_TIMEOUT_S = (1.0, 2.0)
"""The same for a request about the Lease."""


_P = ParamSpec("_P")
_R = TypeVar("_R")
Json = dict[str, Any]


def user_agent() -> str:
    """Return the name by which the audit log tells the operator's requests from all others."""
    return f"skerry-operator/{__version__}"


Query = Mapping[str, str]
NO_QUERY: Query = MappingProxyType({})


@dataclass(frozen=True)
class _Request:
    """One request."""

    method: str
    path: str
    query: Query = field(default_factory=dict)
    body: Mapping[str, Any] | Sequence[Mapping[str, str]] | None = None
    headers: Query = field(default_factory=dict)
    timeout: float | tuple[float, float] = TIMEOUT_S

    @override
    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _typed(content: str) -> Mapping[str, str]:
    return {"Content-Type": f"application/{content}"}


class Fence(Protocol):
    """Says whether this process may write."""

    def check(self) -> None:
        """Return while writing is allowed.

        Raises:
            Fenced: it is not.
        """
        ...


class NoFence:
    """Always allows: for one process without leader election."""

    def check(self) -> None:
        """Return."""


class KubeClient:
    """Requests to one API server. Blocking; safe to use from several threads."""

    def __init__(
        self, api: official.ApiClient, telemetry: Telemetry, manager: str = FIELD_MANAGER
    ) -> None:
        self._api = api
        self._telemetry = telemetry
        self._manager = manager
        self.fence: Fence = NoFence()

    def get(self, path: str, query: Query = NO_QUERY, accept: str = "application/json") -> Json:
        """Return an object or a list."""
        return self._json(_Request("GET", path, query, headers={"Accept": accept}))

    def get_lease(self, path: str) -> Json:
        """Return the Lease or its owner: within less time than others, as a try delays the next."""
        return self._json(_Request("GET", path, timeout=LEASE_TIMEOUT_S))

    def apply(self, path: str, body: Mapping[str, Any], kind: str) -> Json:
        """Apply an object server-side as our field manager; conflicts are forced.

        Forced, because the operator is the owner of every field it names: an edit by hand of
        a generated object is drift. With `metadata.resourceVersion` or `uid` in the body, the
        server refuses when they are not the current ones.
        """
        query = {"fieldManager": self._manager, "force": "true"}
        return self._write(_Request("PATCH", path, query, body, _typed("apply-patch+yaml")), kind)

    def try_apply(self, path: str, body: Mapping[str, Any], kind: str) -> Json:
        """Return what an apply would make of the object; nothing is kept, unknown fields refuse."""
        query = {
            "fieldManager": self._manager,
            "force": "true",
            "dryRun": "All",
            "fieldValidation": "Strict",
        }
        return self._write(_Request("PATCH", path, query, body, _typed("apply-patch+yaml")), kind)

    def merge(self, path: str, body: Mapping[str, Any], kind: str) -> Json:
        """Merge-patch an object."""
        query = {"fieldManager": self._manager}
        return self._write(_Request("PATCH", path, query, body, _typed("merge-patch+json")), kind)

    def patch(self, path: str, operations: Sequence[Mapping[str, str]], kind: str) -> Json:
        """Patch an object with JSON patch operations, all or none."""
        query = {"fieldManager": self._manager}
        return self._write(
            _Request("PATCH", path, query, operations, _typed("json-patch+json")), kind
        )

    def create(self, path: str, body: Mapping[str, Any], kind: str) -> Json:
        """Create an object in the collection at `path`."""
        return self._write(_Request("POST", path, NO_QUERY, body, _typed("json")), kind)

    def delete(self, path: str, kind: str, uid: str | None = None) -> Json:
        """Delete an object in the background; with `uid`, only that very one."""
        options: Json = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        return self._write(_Request("DELETE", path, NO_QUERY, options, _typed("json")), kind)

    def replace_unfenced(self, path: str, body: Mapping[str, Any], kind: str) -> Json:
        """Replace an object without asking the fence: only the Lease itself is written so."""
        request = _Request("PUT", path, NO_QUERY, body, _typed("json"), LEASE_TIMEOUT_S)
        return self._write(request, kind, fenced=False)

    def create_unfenced(self, path: str, body: Mapping[str, Any], kind: str) -> Json:
        """Create an object without asking the fence: only the Lease itself is written so."""
        request = _Request("POST", path, NO_QUERY, body, _typed("json"), LEASE_TIMEOUT_S)
        return self._write(request, kind, fenced=False)

    def read_bytes(self, path: str, limit: int, timeout_s: float) -> bytes:
        """Return at most `limit` bytes of an answer that need not be JSON of Kubernetes."""
        response = self._send(_Request("GET", path, timeout=timeout_s))
        try:
            data: bytes = response.read(limit, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(f"GET {path}", error) from error
        finally:
            response.close()
        if response.status >= 300:
            raise error_of(response.status, f"GET {path}", data)
        return data

    def ask(
        self, path: str, body: Mapping[str, Any], limit: int, timeout_s: float
    ) -> tuple[int, bytes]:
        """Post to what is behind the API server's proxy; return code and answer, cut at `limit`."""
        headers = {**_typed("json"), "Accept": "application/json"}
        response = self._send(_Request("POST", path, NO_QUERY, body, headers, timeout_s))
        try:
            data: bytes = response.read(limit, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(f"POST {path}", error) from error
        finally:
            response.close()
        return response.status, data

    def close(self) -> None:
        """Close the connections."""
        self._api.close()  # type: ignore[no-untyped-call] # the official client's types are partial

    def _write(self, request: _Request, kind: str, *, fenced: bool = True) -> Json:
        if fenced:
            self.fence.check()
        result = "error"
        try:
            answer = self._json(request)
            result = "success"
        except KubeError as error:
            result = type(error).__name__.lower()
            raise
        finally:
            self._telemetry.api_writes.labels(kind, request.method.lower(), result).inc()
        return answer

    def _json(self, request: _Request) -> Json:
        response = self._send(request)
        try:
            data: bytes = response.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(str(request), error) from error
        if response.status >= 300:
            retry_after = response.headers.get("Retry-After")
            raise error_of(response.status, str(request), data, retry_after)
        answer: Json = json.loads(data)
        return answer

    def _send(self, request: _Request) -> urllib3.BaseHTTPResponse:
        prepared = self._api.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params=dict(request.headers),
            body=request.body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._api.call_api(*prepared, _request_timeout=request.timeout)
        except (urllib3.exceptions.HTTPError, official.ApiException, OSError) as error:
            raise self._away(str(request), error) from error
        response: urllib3.BaseHTTPResponse = answer.response
        return response

    def _away(self, request: str, error: Exception) -> Unavailable:
        """Return what is said of a request that got no answer: who is missing, and why."""
        host = self._api.configuration.host
        return Unavailable(f"{request}: the API server {host} does not answer: {why_away(error)}")


def connect(telemetry: Telemetry) -> KubeClient:
    """Return a client for the cluster of KUBECONFIG, of the pod, or of ~/.kube/config."""
    configuration = official.Configuration()
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        official_config.load_incluster_config(  # type: ignore[no-untyped-call] # same
            client_configuration=configuration
        )
    else:
        official_config.load_kube_config(  # type: ignore[no-untyped-call] # same
            client_configuration=configuration
        )
    configuration.connection_pool_maxsize = THREADS
    configuration.retries = False  # one place decides about retries: the queue
    api = official.ApiClient(configuration)
    api.user_agent = user_agent()
    return KubeClient(api, telemetry)


class Threads:
    """The one place where blocking requests leave the event loop."""

    def __init__(self, size: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="kube")

    async def run(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run the call in a thread and return its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Let the threads end; calls under way are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
