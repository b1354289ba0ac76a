"""Bodies of answers, read only as far as they are wanted."""

from __future__ import annotations

import aiohttp


async def read_at_most(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Return the body; at `limit` bytes the rest is left unread."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body)
