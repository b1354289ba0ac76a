"""Logs or traces each request of an app and passes its trace on."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from skerry_runtime.rest.http import Answer, App, Handler, Reply, Request
from skerry_runtime.rest.statuses import reply_of
from skerry_runtime.trace import HEADER, Exchange, Observer

_REVISION = re.compile(rb"^skerry-revision: ([^\r\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class ObservedApp:
    """An app whose requests are observed."""

    app: App
    observer: Observer

    def open(self, request: Request) -> Handler:
        """Return what will answer, and log. Raises what the app raises, logged as well."""
        exchange = self._exchange(request)
        try:
            handler = self.app.open(request)
        except Exception as error:
            exchange.end(reply_of(error).status)
            raise
        return lambda request: _observed(handler, request, exchange)

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        return _ended(self._exchange(request), self.app.refuse(request, error))

    def _exchange(self, request: Request) -> Exchange:
        path = request.target.partition(b"?")[0].decode("latin-1")
        given = request.headers.get(HEADER.encode())
        return self.observer.begin("http", request.method, path, given)


def _observed(handler: Handler, request: Request, exchange: Exchange) -> Answer:
    try:
        outcome = handler(request)
    except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
        outcome = reply_of(error)
    return _ended(exchange, outcome) if isinstance(outcome, Reply) else _later(outcome, exchange)


async def _later(outcome: Coroutine[Any, Any, Reply], exchange: Exchange) -> Reply:
    try:
        reply = await outcome
    except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
        reply = reply_of(error)
    except BaseException:
        exchange.end(499)  # the client has left, in the words of other servers' logs
        raise
    return _ended(exchange, reply)


def _ended(exchange: Exchange, reply: Reply) -> Reply:
    found = _REVISION.search(reply.headers)
    exchange.end(reply.status, found[1].decode("latin-1") if found else "")
    line = f"{HEADER}: {exchange.span.traceparent}\r\n".encode()
    return replace(reply, headers=reply.headers + line)
