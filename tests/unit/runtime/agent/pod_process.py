"""One agent in a process of its own, to be killed: says on stdout what it serves."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from skerry_runtime.backends.onnx import OnnxBackend
from unit.runtime.agent.support import FAST, Pod


async def main(root: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Pod(root, OnnxBackend(), FAST) as pod:
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, say(pod))
        await stop.wait()


async def say(pod: Pod) -> None:
    said: str | None = ""
    while True:
        if pod.revision != said:
            said = pod.revision
            sys.stdout.write(f"{said}\n")
            sys.stdout.flush()
        await asyncio.sleep(0.005)


asyncio.run(main(Path(sys.argv[1])))
