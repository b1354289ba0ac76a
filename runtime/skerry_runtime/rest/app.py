"""The REST side of the Open Inference Protocol: paths, methods, statuses. No framework."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import InvalidRequest, ServingError
from skerry_runtime.rest import views
from skerry_runtime.rest.asgi import CLOSE, Receive, Reply, Scope, Send, json_reply, send_reply
from skerry_runtime.rest.body import BodyReader, ClientGone
from skerry_runtime.rest.codec import (
    HEAD_LENGTH,
    Limits,
    Target,
    decode_request,
    encode_response,
)
from skerry_runtime.rest.statuses import HttpError, reply_of

_log = logging.getLogger(__name__)


class RestApp:
    """ASGI application."""

    def __init__(self, dataplane: Dataplane, bodies: BodyReader, limits: Limits) -> None:
        self._dataplane = dataplane
        self._bodies = bodies
        self._limits = limits
        self._fixed: dict[str, tuple[tuple[str, ...], Callable[[], Reply]]] = {
            "/v2": (("GET",), lambda: json_reply(views.server(dataplane.server_info()))),
            "/v2/health/live": (("GET",), lambda: Reply(200)),
            "/v2/health/ready": (("GET",), lambda: Reply(200 if dataplane.is_ready() else 503)),
            "/v2/repository/index": (
                ("GET", "POST"),  # POST is the protocol's; GET is what people type
                lambda: json_reply(views.index(dataplane.repository_index())),
            ),
        }
        self._of_model: dict[str, Callable[[str, str | None], Reply]] = {
            "": self._metadata,
            "ready": self._ready,
            "config": self._config,
            "stats": self._statistics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            reply = await self._answer(scope, receive)
        except ClientGone:
            return
        except (ServingError, HttpError) as error:
            reply = reply_of(error)
        except Exception:  # noqa: BLE001 no defect of ours may show its trace to a client
            _log.exception("request failed unexpectedly")
            reply = json_reply({"error": "internal error"}, 500)
        await send_reply(send, reply, *(CLOSE if self._dataplane.is_draining else ()))

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        method: str = scope["method"]
        path: str = scope["path"]
        match path.split("/")[1:]:
            case ["v2", "models", name, "infer"]:
                return await self._infer(scope, receive, name, None)
            case ["v2", "models", name, "versions", version, "infer"]:
                return await self._infer(scope, receive, name, version)
            case ["v2", "models", name, "versions", version, *verb] if len(verb) <= 1:
                return self._model(method, name, version, "".join(verb))
            case ["v2", "models", name, *verb] if len(verb) <= 1:
                return self._model(method, name, None, "".join(verb))
        methods, answer = self._fixed.get(path.rstrip("/"), ((), _not_found))
        _require_method(method, methods)
        return answer()

    def _model(self, method: str, name: str, version: str | None, verb: str) -> Reply:
        answer = self._of_model.get(verb)
        if answer is None:
            return _not_found()
        _require_method(method, ("GET",))
        return answer(name, version)

    async def _infer(self, scope: Scope, receive: Receive, name: str, version: str | None) -> Reply:
        _require_method(scope["method"], ("POST",))
        headers = dict(scope["headers"])
        try:
            body = await self._bodies.read(headers, receive)
        except HttpError:
            self._dataplane.reject()
            raise
        try:
            target = Target(name, version, time.perf_counter())
            return await self._infer_body(body, headers.get(HEAD_LENGTH), target)
        finally:
            self._bodies.release(len(body))

    async def _infer_body(self, body: bytes, head_length: bytes | None, target: Target) -> Reply:
        try:
            request, form = decode_request(body, head_length, target, self._limits)
        except InvalidRequest:
            self._dataplane.reject()
            raise
        return encode_response(await self._dataplane.infer(request), form)

    def _metadata(self, name: str, version: str | None) -> Reply:
        return json_reply(views.model(self._dataplane.model_info(name, version)))

    def _config(self, name: str, version: str | None) -> Reply:
        return json_reply(views.config(self._dataplane.model_info(name, version)))

    def _statistics(self, name: str, version: str | None) -> Reply:
        return json_reply(views.statistics(self._dataplane.statistics(name, version)))

    def _ready(self, name: str, version: str | None) -> Reply:
        self._dataplane.require_ready(name, version)
        return Reply(200)


def _require_method(method: str, allowed: tuple[str, ...]) -> None:
    """Raise HttpError for another method; a path without methods was not found."""
    if allowed and method not in allowed:
        allow = (b"allow", ", ".join(allowed).encode())
        raise HttpError(405, f"use {' or '.join(allowed)}", (allow, *CLOSE))


def _not_found() -> Reply:
    raise HttpError(404, "no such path; see /v2 and /v2/models/NAME")
