"""The little of ASGI that the adapters need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON: Headers = ((b"content-type", b"application/json"),)
CLOSE: Headers = ((b"connection", b"close"),)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    body: bytes = b""
    headers: Headers = field(default=())


def json_reply(value: object, status: int = 200, headers: Headers = ()) -> Reply:
    """Return a JSON answer; arrays in `value` are encoded without a detour over lists."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Reply(status, body, (*JSON, *headers))


async def send_reply(send: Send, reply: Reply, *more: tuple[bytes, bytes]) -> None:
    """Send the answer, with further headers."""
    length = (b"content-length", str(len(reply.body)).encode())
    headers = [*reply.headers, length, *more]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
