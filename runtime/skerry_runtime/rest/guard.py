"""Asks for a token before anything of a request is looked at but its head."""

from __future__ import annotations

from dataclasses import dataclass

from skerry_runtime.access import Tokens
from skerry_runtime.errors import Unauthenticated
from skerry_runtime.rest.http import App, Handler, Reply, Request

OPEN = frozenset({b"/v2/health/live", b"/v2/health/ready"})
"""What load balancers ask without a token: that a server is there tells nothing of its models."""


@dataclass(frozen=True)
class GuardedApp:
    """An app behind tokens."""

    app: App
    tokens: Tokens

    def open(self, request: Request) -> Handler:
        """Return what will answer.

        Raises:
            Unauthenticated: no known token came with the request.
        """
        is_open = request.target.partition(b"?")[0] in OPEN
        if not is_open and not self.tokens.admits(request.headers.get(b"authorization")):
            raise Unauthenticated
        return self.app.open(request)

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Return the answer to a request whose body could not be read."""
        return self.app.refuse(request, error)
