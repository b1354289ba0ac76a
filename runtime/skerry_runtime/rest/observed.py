"""Logs or traces each request of an app and passes its trace on."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from skerry_runtime.rest.http import Answer, App, Handler, Reply, Request
from skerry_runtime.rest.statuses import reply_of
from skerry_runtime.trace import HEADER, Entry, Observer

_REVISION = re.compile(rb"^skerry-revision: ([^\r\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class ObservedApp:
    """An app whose requests are observed."""

    app: App
    observer: Observer

    def open(self, request: Request) -> Handler:
        """Return what will answer, and log. Raises what the app raises, logged as well."""
        entry = self._entry(request)
        try:
            handler = self.app.open(request)
        except Exception as error:
            entry.end(reply_of(error).status)
            raise
        return lambda request: _observed(handler, request, entry)

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        return _ended(self._entry(request), self.app.refuse(request, error))

    def _entry(self, request: Request) -> Entry:
        path = request.target.partition(b"?")[0].decode("latin-1")
        given = request.headers.get(HEADER.encode())
        return self.observer.begin("http", request.method, path, given)


def _observed(handler: Handler, request: Request, entry: Entry) -> Answer:
    try:
        outcome = handler(request)
    except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
        outcome = reply_of(error)
    return _ended(entry, outcome) if isinstance(outcome, Reply) else _later(outcome, entry)


async def _later(outcome: Coroutine[Any, Any, Reply], entry: Entry) -> Reply:
    try:
        reply = await outcome
    except Exception as error:  # noqa: BLE001 whatever it is becomes the answer
        reply = reply_of(error)
    except BaseException:
        entry.end(499)  # the client has left, in the words of other servers' logs
        raise
    return _ended(entry, reply)


def _ended(entry: Entry, reply: Reply) -> Reply:
    found = _REVISION.search(reply.headers)
    entry.end(reply.status, found[1].decode("latin-1") if found else "")
    line = f"{HEADER}: {entry.span.traceparent}\r\n".encode()
    return replace(reply, headers=reply.headers + line)
