"""`python -m skerry_runtime.cache`: a site's cache as a process. `skerry-runtime cache` runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from skerry_runtime.cache.server import CacheServer, tls_context, verifier
from skerry_runtime.cache.settings import BadCacheSetting, CacheSettings
from skerry_runtime.cache.store import Store

BAD_USAGE = 2
_log = logging.getLogger("skerry_runtime.cache")


def main() -> int:
    """Run until SIGTERM; return the exit status."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        settings = CacheSettings.from_env(os.environ)
        asyncio.run(serve(settings))
    except BadCacheSetting as err:
        _log.error("%s", err)
        return BAD_USAGE
    except (OSError, ValueError) as err:
        _log.error("cannot start: %s", err)
        return 1
    return 0


async def serve(settings: CacheSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OSError, ValueError: keys, volume or port cannot be used.
    """
    verify, tls = verifier(settings.keys_dir), tls_context(settings.keys_dir)
    store = Store(settings)
    await store.open()
    server = CacheServer(settings, store, verify)
    listening = server.listen()
    _log.info("listens at port %d", listening.getsockname()[1])
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    tasks = [
        asyncio.create_task(store.keep_time()),
        asyncio.create_task(server.accept(listening, tls)),
    ]
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listening.close()
        await server.end()
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
