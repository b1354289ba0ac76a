"""gRPC calls on streams: from pieces of a body to a status."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

import grpc
from typing_extensions import override

from skerry_runtime.errors import Overloaded, ServingError, Unauthenticated
from skerry_runtime.front.exchanges import Answering, ClientLine
from skerry_runtime.http2.fields import Field
from skerry_runtime.http2.heads import CheckedHead
from skerry_runtime.rpc import framing
from skerry_runtime.rpc.framing import MessageReader, framed, whole_message
from skerry_runtime.rpc.methods import Method, is_open
from skerry_runtime.rpc.observed import revision_in
from skerry_runtime.rpc.servicer import told
from skerry_runtime.rpc.statuses import RefusedCall
from skerry_runtime.rpc.wire import revision_of
from skerry_runtime.trace import HEADER, Exchange

MAX_WAIT_S = 7 * 24 * 3600.0
"""Longest time that a call's own deadline is waited for."""

_TRACE = HEADER.encode()


def begin(line: ClientLine, stream_id: int, head: CheckedHead) -> Answering | None:
    """Begin the call that a head asks for; None: it has been refused."""
    try:
        method, timeout_s = _admitted(line, head)
    except (RefusedCall, ServingError) as error:
        line.core.release(stream_id)
        _Ending(line, stream_id, _exchange(line, head)).fail(error)
        return None
    call = (StreamCall if method.is_stream else UnaryCall)(line, stream_id, head, method)
    call.start(timeout_s)
    return call


def _admitted(line: ClientLine, head: CheckedHead) -> tuple[Method, float | None]:
    """Return the method of a call that may be made, and the seconds that it has.

    Raises:
        RefusedCall, ServingError: it may not.
    """
    desk, path = line.desk, head.path.decode("latin-1")
    if head.method != b"POST":
        raise RefusedCall(grpc.StatusCode.UNIMPLEMENTED, "a call is a POST")
    method = desk.methods.get(path)
    if method is None:
        raise RefusedCall(grpc.StatusCode.UNIMPLEMENTED, f"no method '{path[:128]}' here")
    tokens = desk.tokens
    if tokens is not None and not is_open(path) and not tokens.admits(head.get(b"authorization")):
        raise Unauthenticated
    framing.check_encoding(head.get(b"grpc-encoding"))
    if desk.calls >= desk.limits.max_calls:
        raise Overloaded(f"{desk.limits.max_calls} calls are being answered")
    timeout = head.get(b"grpc-timeout")
    return method, None if timeout is None else framing.timeout_of(timeout)


def _exchange(line: ClientLine, head: CheckedHead) -> Exchange | None:
    observer = line.desk.observer
    if observer is None:
        return None
    given = head.get(_TRACE)
    return observer.begin(
        "grpc",
        "POST",
        head.path.decode("latin-1"),
        None if given is None else given.decode("latin-1"),
    )


class _Ending:
    """How a call ends, once."""

    def __init__(self, line: ClientLine, stream_id: int, exchange: Exchange | None) -> None:
        self._line = line
        self._id = stream_id
        self._exchange = exchange
        self._has_head = False

    def succeed(self, answer: bytes, *, is_inference: bool) -> None:
        """Send the one answer of a call."""
        trailers = framing.OK
        if self._exchange is not None:
            self._exchange.end("OK", revision_of(answer) if is_inference else "")
            trailers = framing.trailers(grpc.StatusCode.OK, more=self._traced(self._exchange))
        self._line.core.reply(self._id, framing.HEAD, framed(answer), trailers)

    def send(self, answer: bytes) -> bool:
        """Send one answer of a stream; return whether it waits for the peer."""
        if not self._has_head:
            self._has_head = True
            self._line.core.head(self._id, framing.HEAD)
        return self._line.core.body(self._id, framed(answer))

    def finish(self, revision: str) -> None:
        """End a stream that went well."""
        if self._exchange is not None:
            self._exchange.end("OK", revision)
        self._close(grpc.StatusCode.OK, "", ())

    def fail(self, error: Exception) -> None:
        """End the call with what is told of an error."""
        status, text, more = _told(error)
        if self._exchange is not None:
            self._exchange.end(status.name)
        self._close(status, text, more)

    def cancel(self) -> None:
        """Note the end of a call that nobody waits for."""
        if self._exchange is not None:
            self._exchange.end("CANCELLED")

    def _close(self, status: grpc.StatusCode, text: str, more: Iterable[Field]) -> None:
        core, is_all = self._line.core, not self._has_head
        if self._exchange is not None:
            more = (*more, *self._traced(self._exchange))
        block = framing.trailers(status, text, more, is_all=is_all)
        if is_all:
            core.head(self._id, block, is_end=True)
        else:
            core.finish(self._id, block)

    def _traced(self, exchange: Exchange) -> tuple[Field, ...]:
        return ((_TRACE, exchange.span.traceparent.encode()),)


def _told(error: Exception) -> tuple[grpc.StatusCode, str, tuple[Field, ...]]:
    if isinstance(error, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ()
    status, text, trailing = told(error)
    return status, text, tuple((key.encode(), value.encode()) for key, value in trailing)


class _Call(ABC):
    """What both kinds of calls have."""

    def __init__(self, line: ClientLine, stream_id: int, head: CheckedHead, method: Method) -> None:
        self._line = line
        self._id = stream_id
        self._method = method
        self._reader = MessageReader(line.desk.limits.max_message_bytes, head.get(b"grpc-encoding"))
        self._ending = _Ending(line, stream_id, _exchange(line, head))
        self._held = 0  # bytes that are counted
        self._kept = 0  # bytes of whole messages that wait
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        line.desk.calls += 1

    def start(self, timeout_s: float | None) -> None:
        """Begin the clock of a call that has one."""
        if timeout_s is not None:
            wait_s = min(timeout_s, MAX_WAIT_S)
            self._timer = self._line.loop.call_later(wait_s, self._expire)

    def give_up(self) -> None:
        """Stop: the peer wants no answer."""
        if not self._is_over:
            self._ending.cancel()
            self._leave()

    def go_on(self) -> None:  # noqa: B027 (who sends one answer has nothing to go on with)
        """Heed that the peer has taken what was sent."""

    def look(self, least_bytes: float) -> None:  # noqa: B027 (a stream may be quiet)
        """End the call when less than this has come of its message since the last look."""

    def _expire(self) -> None:
        self._timer = None
        self._fail(TimeoutError())
        self._line.flush()

    def _fail(self, error: Exception) -> None:
        if not self._is_over:
            self._ending.fail(error)
            self._leave()

    def _leave(self) -> None:
        """Let go of all that a call holds; a task that still runs keeps its stream counted."""
        self._is_over = True
        self._line.desk.calls -= 1
        self._let_go()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None:
            self._line.core.release(self._id)
        else:
            self._task.cancel()
        self._line.forget(self._id)

    def _feed(self, piece: memoryview) -> list[bytes]:
        """Return the messages that a piece completes, counted with what is not whole.

        Raises:
            RefusedCall: see `MessageReader.feed`.
            Overloaded: there is too much, all calls together.
        """
        found = self._reader.feed(piece)
        self._kept += sum(map(len, found))
        self._count()
        return found

    def _count(self) -> None:
        """Count what has come and is not used up."""
        more = self._reader.held_bytes + self._kept - self._held
        if more > 0:
            self._line.desk.coming.take(more)
        else:
            self._line.desk.coming.give(-more)
        self._held += more

    def _let_go(self) -> None:
        self._line.desk.coming.give(self._held)
        self._held = 0

    def _work(self, work: Coroutine[Any, Any, Any]) -> None:
        self._task = self._line.loop.create_task(work)
        self._task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if self._is_over:
            self._line.core.release(self._id)
            if not task.cancelled():
                task.exception()  # nobody waits for it
        elif task.cancelled():
            self.give_up()
        elif (error := task.exception()) is not None:
            self._fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        else:
            self._end_well(task.result())
        self._line.flush()

    @abstractmethod
    def _end_well(self, result: Any) -> None:
        """End the call with what its work has found."""

    def _read(self, message: bytes) -> Any:
        read = self._method.read
        if read is None:
            return message
        try:
            return read(message)
        except Exception as err:
            raise RefusedCall(grpc.StatusCode.INTERNAL, "the message cannot be read") from err

    def _written(self, answer: Any) -> bytes:
        write = self._method.write
        return bytes(answer) if write is None else write(answer)


class UnaryCall(_Call):
    """One message, one answer."""

    def __init__(self, line: ClientLine, stream_id: int, head: CheckedHead, method: Method) -> None:
        super().__init__(line, stream_id, head, method)
        self._messages: list[bytes] = []
        self._came = 0  # bytes
        self._seen: int | None = None  # of them, at the last look

    def take(self, piece: memoryview, *, is_last: bool) -> None:
        """Take a piece of the message; run the call when it is whole."""
        self._line.core.credit(self._id, len(piece))
        if self._is_over:
            return
        self._came += len(piece)
        if is_last and not self._messages and not self._reader.held_bytes:
            whole = whole_message(piece, self._line.desk.limits.max_message_bytes)
            if whole is not None:
                self._run(whole)
                return
        try:
            self._messages += self._feed(piece)
            self._check_one()
        except (RefusedCall, ServingError) as error:
            self._fail(error)
        else:
            if is_last:
                self.end()

    def end(self) -> None:
        """Run the call."""
        if self._is_over:
            return
        try:
            self._reader.check_end()
            if not self._messages:
                raise RefusedCall(grpc.StatusCode.INTERNAL, "the call has no message")
        except RefusedCall as error:
            self._fail(error)
        else:
            self._run(self._messages.pop())

    @override
    def look(self, least_bytes: float) -> None:
        """End the call when less than this has come of its message since the last look."""
        if self._task is None and self._seen is not None and self._came - self._seen < least_bytes:
            text = "the message came too slowly"
            self._fail(RefusedCall(grpc.StatusCode.DEADLINE_EXCEEDED, text))
        self._seen = self._came

    def _check_one(self) -> None:
        if len(self._messages) > 1:
            raise RefusedCall(grpc.StatusCode.INTERNAL, "this method takes one message")

    def _run(self, message: bytes) -> None:
        try:
            outcome = self._method.run(self._read(message))
        except Exception as error:  # noqa: BLE001 sorted in one place
            self._fail(error)
            return
        if isinstance(outcome, bytes):
            self._end_well(outcome)
        else:
            self._work(outcome)

    @override
    def _end_well(self, result: Any) -> None:
        is_inference = self._method.write is None
        self._ending.succeed(self._written(result), is_inference=is_inference)
        self._leave()


class StreamCall(_Call):
    """Messages and answers, each in its own time."""

    def __init__(self, line: ClientLine, stream_id: int, head: CheckedHead, method: Method) -> None:
        super().__init__(line, stream_id, head, method)
        self._messages: deque[bytes] = deque()
        self._owed = 0  # bytes that the peer may send again when these messages are used up
        self._is_whole = False
        self._news = asyncio.Event()
        self._may_send = asyncio.Event()
        self._may_send.set()

    @override
    def start(self, timeout_s: float | None) -> None:
        """Begin to answer."""
        super().start(timeout_s)
        self._work(self._answer())

    def take(self, piece: memoryview, *, is_last: bool) -> None:
        """Take a piece of the messages; who sends ahead waits for the answers."""
        size = len(piece)
        if self._is_over:
            self._line.core.credit(self._id, size)
            return
        try:
            self._messages += self._feed(piece)
        except (RefusedCall, ServingError) as error:
            self._fail(error)
            return
        if self._messages:
            self._owed += size
        else:
            self._line.core.credit(self._id, size)
        self._is_whole |= is_last
        self._news.set()

    def end(self) -> None:
        """Heed that no more messages come."""
        self._is_whole = True
        self._news.set()

    @override
    def go_on(self) -> None:
        """Heed that the peer has taken what was sent."""
        self._may_send.set()

    async def _answer(self) -> str:
        revision = ""
        async for answer in self._method.run(self._each()):
            revision = revision_in(answer) or revision
            if self._ending.send(self._written(answer)):
                self._may_send.clear()
            self._line.flush()
            await self._may_send.wait()
        return revision

    async def _each(self) -> AsyncIterator[Any]:
        while True:
            if self._messages:
                message = self._messages.popleft()
                self._kept -= len(message)
                self._count()
                if not self._messages:
                    self._line.core.credit(self._id, self._owed)
                    self._owed = 0
                yield self._read(message)
            elif self._is_whole:
                self._reader.check_end()
                return
            else:
                self._news.clear()
                await self._news.wait()

    @override
    def _end_well(self, result: Any) -> None:
        self._ending.finish(result)
        self._leave()

    @override
    def _let_go(self) -> None:
        super()._let_go()
        self._line.core.credit(self._id, self._owed)
        self._owed = 0
