"""A very small API server in memory, on a real socket: what the operator's client needs of one.

Objects live under their path. Every write raises a version; apply merges by field owner only in so
far as it replaces what the last apply named. Answers can be scripted, requests are recorded.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes import client as official

from skerry_operator.kube.client import KubeClient
from skerry_operator.telemetry import Telemetry


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str

    @property
    def name(self) -> str:
        """`PATCH configmaps/digits` or `PATCH edgedeployments/digits/status`."""
        parts = self.path.split("/namespaces/")[-1].split("/")[1:]
        return f"{self.method} {'/'.join(parts)}"


@dataclass(frozen=True)
class Answer:
    code: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


def refusal(code: int, reason: str, message: str = "", **headers: str) -> Answer:
    return Answer(
        code,
        {"kind": "Status", "apiVersion": "v1", "reason": reason, "message": message or reason},
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


class FakeKube:
    """The server's memory."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.scripted: dict[str, list[Answer]] = {}
        self.url = ""
        self._version = 100
        self._lock = threading.Lock()

    def script(self, name: str, *answers: Answer) -> None:
        """Answer the next requests of this name so, then as usual."""
        self.scripted[name] = list(answers)

    @property
    def writes(self) -> list[str]:
        return [request.name for request in self.requests if request.method != "GET"]

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Set an object from outside, as another writer would."""
        with self._lock:
            return self._store(path, body)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            if self.scripted.get(request.name):
                return self.scripted[request.name].pop(0)
            return getattr(self, f"_{request.method.lower()}")(request)

    def _store(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        old = self.objects.get(path, {}).get("metadata", {})
        metadata = {"uid": old.get("uid", f"uid-{self._version}"), **body.get("metadata", {})}
        namespace = path.rsplit("/namespaces/", maxsplit=1)[-1].split("/", maxsplit=1)[0]
        metadata = {"namespace": namespace, **metadata, "resourceVersion": str(self._version)}
        self.objects[path] = {**body, "metadata": metadata}
        return self.objects[path]

    def _get(self, request: Request) -> Answer:
        if request.path in self.objects:
            return Answer(200, self.objects[request.path])
        inside = [v for k, v in self.objects.items() if k.rpartition("/")[0] == request.path]
        if not inside:
            return refusal(404, "NotFound")
        return Answer(200, {"metadata": {"resourceVersion": str(self._version)}, "items": inside})

    def _post(self, request: Request) -> Answer:
        path = f"{request.path}/{request.body['metadata']['name']}"
        if path in self.objects:
            return refusal(409, "AlreadyExists")
        return Answer(201, self._store(path, request.body))

    def _put(self, request: Request) -> Answer:
        return self._conflict(request.path, request.body) or Answer(
            200, self._store(request.path, request.body)
        )

    def _patch(self, request: Request) -> Answer:
        path = request.path.removesuffix("/status")
        current = self.objects.get(path)
        is_apply = "apply-patch" in request.content_type
        if "json-patch" in request.content_type:
            return self._json_patch(path, request.body)
        if current is None and (not is_apply or path != request.path):
            return refusal(404, "NotFound")
        if conflict := self._conflict(path, request.body):
            return conflict
        merged = merge(current or {}, request.body)
        if is_apply:
            merged["metadata"] = signed(merged["metadata"], request.query["fieldManager"])
        if "status" in request.body:
            merged["status"] = request.body["status"]
        if current is not None and _content(merged) == _content(current):
            return Answer(200, current)
        return Answer(200 if current else 201, self._store(path, merged))

    def _json_patch(self, path: str, operations: list[dict[str, str]]) -> Answer:
        changed = json.loads(json.dumps(self.objects[path]))
        for one in operations:
            *parents, last = one["path"].strip("/").split("/")
            place: Any = changed
            for part in parents:
                place = place[int(part) if isinstance(place, list) else _unescaped(part)]
            name: Any = int(last) if isinstance(place, list) else _unescaped(last)
            if one["op"] == "test" and place[name] != one["value"]:
                return refusal(422, "Invalid", "the test failed")
            if one["op"] == "remove":
                del place[name]
        return Answer(200, self._store(path, changed))

    def _delete(self, request: Request) -> Answer:
        wanted = (request.body or {}).get("preconditions", {}).get("uid")
        current = self.objects.get(request.path)
        if current is None:
            return refusal(404, "NotFound")
        if wanted and current["metadata"]["uid"] != wanted:
            return refusal(409, "Conflict")
        del self.objects[request.path]
        return Answer(200, {"kind": "Status", "status": "Success"})

    def _conflict(self, path: str, body: dict[str, Any]) -> Answer | None:
        current = self.objects.get(path, {}).get("metadata", {})
        for name in ("resourceVersion", "uid"):
            wanted = body.get("metadata", {}).get(name)
            if wanted and wanted != current.get(name):
                return refusal(409, "Conflict", f"{name}: the object has been modified")
        return None


def merge(current: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(current)
    for name, value in patch.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def signed(metadata: dict[str, Any], manager: str) -> dict[str, Any]:
    """Put a manager's apply into the book of an object."""
    others = [e for e in metadata.get("managedFields", []) if e["manager"] != manager]
    return {**metadata, "managedFields": [*others, {"manager": manager, "operation": "Apply"}]}


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _content(body: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
    return {**body, "metadata": metadata}


@contextmanager
def serving_fake() -> Iterator[FakeKube]:
    kube = FakeKube()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            parts = urlsplit(self.path)
            answer = kube.answer(
                Request(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    json.loads(text) if text else None,
                    self.headers.get("Content-Type", ""),
                )
            )
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body)
            data = body if isinstance(body, bytes) else body.encode()
            self.send_response(answer.code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 (http.server's names)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kube.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield kube
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def client_of(kube: FakeKube, telemetry: Telemetry | None = None) -> Iterator[KubeClient]:
    configuration = official.Configuration(host=kube.url)
    configuration.retries = False
    client = KubeClient(official.ApiClient(configuration), telemetry or Telemetry())
    try:
        yield client
    finally:
        client.close()
