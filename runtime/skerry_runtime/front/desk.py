"""What all connections of the port share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry_runtime.access import Tokens
from skerry_runtime.http2.limits import Http2Limits
from skerry_runtime.rest.http import App
from skerry_runtime.rpc.budget import Budget
from skerry_runtime.rpc.methods import Method
from skerry_runtime.rpc.servicer import RpcLimits
from skerry_runtime.trace import Observer


@dataclass
class Desk:
    """Lives on one event loop."""

    methods: Mapping[str, Method]
    limits: RpcLimits
    tokens: Tokens | None
    observer: Observer | None
    """None where nobody looks."""
    app: App
    """Answers what is no gRPC call."""
    calls: int = 0
    """Calls under way, all connections together."""
    coming: Budget = field(init=False)
    """Counts the bytes of messages and bodies that are not whole."""
    http2: Http2Limits = field(init=False)

    def __post_init__(self) -> None:
        self.coming = Budget(self.limits.max_buffered_bytes)
        self.http2 = Http2Limits(
            max_header_bytes=self.limits.max_header_bytes, max_streams=self.limits.max_calls
        )
