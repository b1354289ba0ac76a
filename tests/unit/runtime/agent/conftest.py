from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from aiohttp import web

from unit.runtime.agent.support import Source


@pytest_asyncio.fixture
async def source() -> AsyncIterator[Source]:
    """A model server on a free port."""
    found = Source()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/{name:.*}", found.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}"
    yield found
    await runner.cleanup()
