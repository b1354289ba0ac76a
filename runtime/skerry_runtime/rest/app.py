"""The REST side of the Open Inference Protocol: paths, methods, statuses. No framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache, partial
from urllib.parse import unquote

import httptools

from skerry_runtime.dataplane import Dataplane
from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.types import NO_LOADING, NO_SHARED_MEMORY, InferRequest
from skerry_runtime.rest import views
from skerry_runtime.rest.body import WINDOW_BITS, BodyBudget, inflate
from skerry_runtime.rest.codec import Decoder, Encoder, Limits, OutputForm, wants_only_ready
from skerry_runtime.rest.http import HEAD_LENGTH, Answer, Handler, Reply, Request, json_reply
from skerry_runtime.rest.statuses import HttpError, reply_of

KNOWN_TARGETS = 256
"""Targets whose way is remembered: clients ask for the same few."""

INLINE_JSON_BYTES = 64 * 1024
"""Longer JSON is decoded in a thread, so that others get their turn meanwhile."""


Way = tuple[tuple[str, ...], Handler]
"""The methods of a target and what answers it."""


class RestApp:
    """What the REST port serves."""

    def __init__(self, dataplane: Dataplane, budget: BodyBudget, limits: Limits) -> None:
        self._dataplane = dataplane
        self._budget = budget
        self._decoder = Decoder(limits, dataplane.model_tensors)
        self._encoder = Encoder()
        self._way = lru_cache(KNOWN_TARGETS)(self._find_way)
        self._fixed: dict[str, Handler] = {
            "v2": lambda _: json_reply(views.server(dataplane.server_info())),
            "v2/health/live": lambda _: json_reply({"live": True}),
            "v2/health/ready": self._server_ready,
            "v2/models/stats": lambda _: self._statistics(dataplane.name, None),
            "v2/docs": self._document,
            "openapi.json": self._document,
        }
        self._of_model: dict[str, Callable[[str, str | None], Reply]] = {
            "": self._metadata,
            "ready": self._ready,
            "config": self._config,
            "stats": self._statistics,
        }

    def open(self, request: Request) -> Handler:
        """Return what answers a request.

        Raises:
            HttpError: the path is unknown, or not for this method or encoding.
        """
        methods, handler = self._way(request.target)
        _require_method(request.method, methods)
        encoding = request.headers.get(b"content-encoding")
        if encoding is None or encoding.lower() == b"identity":
            return handler
        if encoding.lower() not in WINDOW_BITS:
            raise HttpError(415, "content-encoding must be gzip, deflate or identity")
        return partial(self._inflated, handler, encoding.lower())

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read, and count it."""
        if _is_infer(_segments(request.target)):
            self._dataplane.reject()
        return reply_of(error)

    def _find_way(self, target: bytes) -> Way:
        """Return methods and handler of a target.

        Raises:
            HttpError: nothing is there.
        """
        segments = _segments(target)
        if segments[-1:] == [""]:
            segments.pop()
        fixed = self._fixed.get("/".join(segments))
        if fixed is not None:
            return ("GET",), fixed
        match segments:
            case ["v2", "models", name, "versions", version, *verb] if len(verb) <= 1:
                return self._way_of_model("".join(verb), name, version)
            case ["v2", "models", name, *verb] if len(verb) <= 1:
                return self._way_of_model("".join(verb), name, None)
            case ["v2", *extension]:
                return self._way_of_extension(extension)
            case _:
                raise _not_found()

    def _way_of_model(self, verb: str, name: str, version: str | None) -> Way:
        if verb == "infer":
            return ("POST",), partial(self._infer, name, version)
        answer = self._of_model.get(verb)
        if answer is None:
            raise _not_found()
        return ("GET",), lambda _: answer(name, version)

    def _way_of_extension(self, segments: list[str]) -> Way:
        match segments:
            case ["repository", "index"]:  # POST is the protocol's; GET is what people type
                return ("GET", "POST"), self._index
            case ["repository", "models", _, "load" | "unload"]:
                return ("POST",), _refusing(403, NO_LOADING)
            case ["systemsharedmemory" | "cudasharedmemory", *_]:
                return ("GET", "POST"), _refusing(501, NO_SHARED_MEMORY)
            case _:
                raise _not_found()

    def _document(self, _: Request) -> Reply:
        """Return the API document; it is made when it is asked for, so that no start pays."""
        from skerry_runtime.rest.openapi import document  # noqa: PLC0415

        return json_reply(document(self._dataplane.name))

    def _index(self, request: Request) -> Reply:
        only_ready = wants_only_ready(request.body)
        return json_reply(views.index(self._dataplane.repository_index(), only_ready=only_ready))

    async def _inflated(self, handler: Handler, encoding: bytes, request: Request) -> Reply:
        """Answer a compressed request; zlib works in a thread, for it drops the GIL."""
        limit = self._budget.max_body_bytes
        try:
            plain = await asyncio.to_thread(inflate, request.body, encoding, limit)
            self._budget.check_length(limit + 1 if plain is None else len(plain))
        except (HttpError, ValueError) as error:
            known = error if isinstance(error, HttpError) else HttpError(400, str(error))
            return self.refuse(request, known)
        assert plain is not None  # noqa: S101 its length was refused above
        self._budget.hold(len(plain))
        try:
            request.body = plain
            outcome = handler(request)
            return outcome if isinstance(outcome, Reply) else await outcome
        finally:
            self._budget.release(len(plain))

    def _infer(self, name: str, version: str | None, request: Request) -> Answer:
        """Answer at once when neither the decoding nor the model takes long."""
        if HEAD_LENGTH not in request.headers and len(request.body) > INLINE_JSON_BYTES:
            return self._infer_large(name, version, request)
        inference, form = self._decode(name, version, request)
        response = self._dataplane.infer_now(inference)
        if response is None:
            return self._infer_slowly(inference, form)
        return self._encoder.encode(response, form)

    async def _infer_large(self, name: str, version: str | None, request: Request) -> Reply:
        inference, form = await asyncio.to_thread(self._decode, name, version, request)
        return await self._infer_slowly(inference, form)

    async def _infer_slowly(self, inference: InferRequest, form: OutputForm) -> Reply:
        return self._encoder.encode(await self._dataplane.infer(inference), form)

    def _decode(
        self, name: str, version: str | None, request: Request
    ) -> tuple[InferRequest, OutputForm]:
        """Read the body. Safe from any thread.

        Raises:
            InvalidRequest: it is no inference; it is counted.
        """
        try:
            header, inputs = self._decoder.decode(request.body, request.headers.get(HEAD_LENGTH))
        except InvalidRequest:
            self._dataplane.reject()
            raise
        inference = InferRequest(
            name, version, inputs, header.outputs, header.id, request.received, header.sequence
        )
        return inference, header.form

    def _metadata(self, name: str, version: str | None) -> Reply:
        return json_reply(views.model(self._dataplane.model_info(name, version)))

    def _config(self, name: str, version: str | None) -> Reply:
        return json_reply(views.config(self._dataplane.model_info(name, version)))

    def _statistics(self, name: str, version: str | None) -> Reply:
        return json_reply(views.statistics(self._dataplane.statistics(name, version)))

    def _ready(self, name: str, version: str | None) -> Reply:
        self._dataplane.require_ready(name, version)
        return json_reply({"name": name, "ready": True})

    def _server_ready(self, _: Request) -> Reply:
        is_ready = self._dataplane.is_ready()
        return json_reply({"ready": is_ready}, 200 if is_ready else 503)


def _refusing(status: int, text: str) -> Handler:
    def refuse(_: Request) -> Reply:
        raise HttpError(status, text)

    return refuse


def _segments(target: bytes) -> list[str]:
    """Return the parts of a target's path.

    Raises:
        HttpError: it is no target.
    """
    try:
        path = httptools.parse_url(target).path or b""
        return [unquote(part.decode("ascii")) for part in path.split(b"/")[1:]]
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError) as error:
        raise HttpError(400, "not a valid URL") from error


def _is_infer(segments: list[str]) -> bool:
    return segments[:2] == ["v2", "models"] and segments[-1] == "infer"


def _require_method(method: str, allowed: tuple[str, ...]) -> None:
    """Raise HttpError unless the method is allowed; HEAD is wherever GET is."""
    if ("GET" if method == "HEAD" else method) not in allowed:
        more = ("HEAD",) if "GET" in allowed else ()
        allow = f"allow: {', '.join((*allowed, *more))}\r\n".encode()
        raise HttpError(405, f"use {' or '.join(allowed)}", allow)


def _not_found() -> HttpError:
    return HttpError(404, "no such path; see /v2 and /v2/models/NAME")
