"""Holds the model that serves; switches it without a gap and drains the old one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from skerry_runtime.backends.base import Model
from skerry_runtime.contract import Served
from skerry_runtime.errors import NotReady


@dataclass
class ServingModel:
    """A loaded model and who it is. Requests in flight keep it open."""

    name: str
    served: Served
    model: Model
    _users: int = field(default=0, init=False)
    _retired: bool = field(default=False, init=False)
    _drained: threading.Event = field(default_factory=threading.Event, init=False)


class Registry:
    """The model slot of this pod: one model serves, or none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: ServingModel | None = None

    @property
    def current(self) -> ServingModel | None:
        """The model that new requests get."""
        return self._current

    @contextmanager
    def acquire(self) -> Iterator[ServingModel]:
        """Lend the current model for one request; it is not closed before the end.

        Raises:
            NotReady: nothing serves.
        """
        with self._lock:
            serving = self._current
            if serving is None:
                raise NotReady("no model is serving yet: see the pod's /status for its progress")
            serving._users += 1
        try:
            yield serving
        finally:
            with self._lock:
                serving._users -= 1
                done = serving._retired and serving._users == 0
            if done:
                serving._drained.set()

    def switch(self, new: ServingModel | None) -> ServingModel | None:
        """Make `new` the model of every request from now on; return the retired one.

        The caller closes the retired model with `close_when_drained`.
        """
        with self._lock:
            old, self._current = self._current, new
            if old is not None:
                old._retired = True
                if old._users == 0:
                    old._drained.set()
        return old

    @staticmethod
    def close_when_drained(old: ServingModel, timeout_s: float) -> bool:
        """Close a retired model after its last request; False when the timeout came first.

        After the timeout the model is left open rather than pulled away under a request.
        """
        if not old._drained.wait(timeout_s):
            return False
        old.model.close()
        return True
