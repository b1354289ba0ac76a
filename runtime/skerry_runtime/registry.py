"""Holds the model that serves; switches it without a gap and drains the old one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from skerry_runtime.backends.base import Model
from skerry_runtime.contract import Batching, Served
from skerry_runtime.errors import NotReady
from skerry_runtime.shadow import Mirror


class Users:
    """Counts the requests that are using one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._retired = False
        self._drained = threading.Event()

    def enter(self) -> bool:
        """Add a request; false, and none added, when the model is retired."""
        with self._lock:
            if self._retired:
                return False
            self._count += 1
            return True

    def enter_beside(self) -> None:
        """Add a user on behalf of one that is in, even of a retired model."""
        with self._lock:
            self._count += 1

    def leave(self) -> None:
        """Take a request away; the last one of a retired model drains it."""
        with self._lock:
            self._count -= 1
            self._drain_if_done()

    def retire(self) -> None:
        """Note that no new request will come."""
        with self._lock:
            self._retired = True
            self._drain_if_done()

    def wait_drained(self, timeout_s: float) -> bool:
        """Block until the model is retired and unused; False when the timeout came first."""
        return self._drained.wait(timeout_s)

    def _drain_if_done(self) -> None:
        if self._retired and self._count == 0:
            self._drained.set()


@dataclass
class ServingModel:
    """A loaded model and who it is. Requests in flight keep it open."""

    name: str
    """Name under which clients ask for it; `Registry.rename` changes it."""
    served: Served
    model: Model
    batching: Batching | None = None
    users: Users = field(default_factory=Users, init=False, repr=False, compare=False)
    shadow: Mirror | None = field(default=None, init=False, repr=False, compare=False)
    """Compares a prepared model with this one, for as long as one is on trial."""


class Registry:
    """The model slot of this pod: one model serves, or none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: ServingModel | None = None
        self.expected = ""
        """Name under which clients will ask for what is being brought up; empty: not known."""

    @property
    def current(self) -> ServingModel | None:
        """The model that new requests get."""
        return self._current

    def lend(self) -> ServingModel:
        """Return the current model for one request; it stays open until `users.leave()`.

        Work that may outlive the request (a thread whose client has left) enters beside it and
        leaves `users` of the lent model on its own account.

        Raises:
            NotReady: nothing serves.
        """
        while True:
            serving = self._current
            if serving is None:
                raise NotReady("no model is serving yet: see the pod's /status for its progress")
            if serving.users.enter():  # false: it was switched away in this very moment
                return serving

    @contextmanager
    def acquire(self) -> Iterator[ServingModel]:
        """Lend the current model for the time of a `with`; raises as `lend`."""
        serving = self.lend()
        try:
            yield serving
        finally:
            serving.users.leave()

    def switch(self, new: ServingModel | None) -> ServingModel | None:
        """Make `new` the model of every request from now on; return the retired one.

        The caller closes the retired model with `close_when_drained`.
        """
        with self._lock:
            old, self._current = self._current, new
        if old is not None:
            old.users.retire()
        return old

    def rename(self, name: str) -> None:
        """Let the model that serves answer to this name and no other; nothing is interrupted."""
        with self._lock:
            if self._current is None:
                return
            served = self._current.served
            renamed = served.model_copy(update={"models": {name: served.model}})
            self._current.name, self._current.served = name, renamed

    @staticmethod
    def close_when_drained(old: ServingModel, timeout_s: float) -> bool:
        """Close a retired model after its last request; False when the timeout came first.

        After the timeout the model is left open rather than pulled away under a request.
        """
        if not old.users.wait_drained(timeout_s):
            return False
        old.model.close()
        return True
