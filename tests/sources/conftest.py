"""Fixtures of the tests of sources."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from fetching import Fetching
from skerry_runtime.agent.worker import Worker
from sources.tokens import PASSWORD, USER, Tokens


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    """A place to fetch to."""
    worker = Worker("test")
    yield Fetching(tmp_path, worker)
    worker.close()


@pytest_asyncio.fixture
async def tokens(tmp_path: Path) -> AsyncIterator[Tokens]:
    """A place that gives tokens, which a registry of its own believes."""
    found = Tokens(tmp_path / "issuer.pem", USER, PASSWORD)
    app = web.Application()
    app.router.add_get("/token", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.address = "{}:{}".format(*runner.addresses[0][:2])
    yield found
    await runner.cleanup()
