"""Logs each request of an app and passes its trace on."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from skerry_runtime.rest.http import Answer, App, Handler, Reply, Request
from skerry_runtime.rest.statuses import reply_of
from skerry_runtime.trace import HEADER, Entry, span_of

_REVISION = re.compile(rb"^skerry-revision: ([^\r\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class ObservedApp:
    """An app whose requests are logged."""

    app: App

    def open(self, request: Request) -> Handler:
        """Return what will answer, and log. Raises what the app raises, logged as well."""
        entry = _entry(request)
        try:
            handler = self.app.open(request)
        except Exception as error:
            entry.end(reply_of(error).status)
            raise
        return lambda request: _observed(handler, request, entry)

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        return _ended(_entry(request), self.app.refuse(request, error))


def _entry(request: Request) -> Entry:
    path = request.target.partition(b"?")[0].decode("latin-1")
    span = span_of(request.headers.get(HEADER.encode()))
    return Entry.begin("http", request.method, path, span)


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
