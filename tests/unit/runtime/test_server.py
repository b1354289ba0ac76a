"""The composition: an agent that dies takes nothing with it."""

from __future__ import annotations

import asyncio

import pytest

from serving.fakes import FakeAgent
from skerry_runtime import server as composition
from skerry_runtime.metrics import Metrics
from skerry_runtime.registry import Registry
from skerry_runtime.server import Server
from skerry_runtime.settings import RuntimeSettings

SETTINGS = RuntimeSettings(host="127.0.0.1", http_port=0, grpc_port=0, admin_port=0, linger_s=0)


class MortalAgent(FakeAgent):
    """Dies twice, then works until it is stopped."""

    def __init__(self) -> None:
        self.lives = 0
        self.is_working = asyncio.Event()
        self.is_stopped = False

    async def run(self) -> None:
        self.lives += 1
        if self.lives < 3:
            raise RuntimeError("the agent broke")
        self.is_working.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.is_stopped = True


async def test_an_agent_that_dies_is_started_again_and_stopped_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(composition, "RESTART_MIN_S", 0.0)
    agent = MortalAgent()
    server = Server(SETTINGS, Registry(), Metrics(), agent)
    ports = await server.start()
    assert len({ports.http, ports.grpc, ports.admin}) == 3
    async with asyncio.timeout(30):
        await agent.is_working.wait()
        server.request_stop()
        await server.run_until_stopped()
    assert agent.lives == 3
    assert agent.is_stopped
    assert "the agent broke" in caplog.text
