"""Sends real images of digits to every node, at a steady rate, and reports every request.

A process of its own, so that the terminal's drawing does not disturb its clock. It reads targets
as JSON lines from its standard input and writes one JSON line per request that ended. When its
input ends it finishes what is under way and leaves. Nothing is ever tried twice.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from digits_demo.errors import DemoError
from digits_demo.samples import Sample, Tally
from digits_demo.train import PIXELS, Floats, Images, load_npz

RATE = 30.0
"""Requests per second and node, while the node keeps up; a slow one gets one after the other."""
TIMEOUT_S = 10.0
STOP_TIMEOUT_S = TIMEOUT_S + 5.0
INPUT, OUTPUT = "image", "label"
_PACKAGE_ROOT = Path(__file__).resolve().parents[1]


class Target(BaseModel):
    """A node's pod, from now on."""

    node: str
    address: str
    """host:port of the REST protocol."""


@dataclass(frozen=True)
class Answer:
    """What a pod said."""

    revision: str
    version: str
    digit: int


class BadAnswer(Exception):  # noqa: N818 (it is the answer that is bad)
    """The pod answered with something that is not a digit."""


Ask = Callable[[Floats], Awaitable[Answer]]


def triton_asker(client: Any, model: str) -> Ask:
    """Return a function that asks one pod about one image, as binary tensors over REST."""
    from tritonclient.http.aio import InferInput, InferRequestedOutput  # noqa: PLC0415

    async def ask(image: Floats) -> Answer:
        tensor = InferInput(INPUT, [1, PIXELS], "FP32")
        tensor.set_data_from_numpy(image.reshape(1, PIXELS), binary_data=True)
        result = await client.infer(
            model, [tensor], outputs=[InferRequestedOutput(OUTPUT, binary_data=True)]
        )
        return parse_answer(result.get_response(), result.as_numpy(OUTPUT))

    return ask


def parse_answer(response: dict[str, Any], labels: Any) -> Answer:
    """Read an answer.

    Raises:
        BadAnswer: it is no digit, or does not say which revision gave it.
    """
    revision = response.get("parameters", {}).get("revision")
    if not revision:
        raise BadAnswer("the answer names no revision")
    if labels is None or labels.shape != (1,) or not 0 <= int(labels[0]) <= 9:
        raise BadAnswer(f"the answer is no digit: {labels}")
    return Answer(str(revision), str(response.get("model_version", "")), int(labels[0]))


async def ask_once(node: str, ask: Ask, image: Floats, digit: int) -> Sample:
    """Send one request and say what became of it; never raises."""
    at, begin = time.time(), time.perf_counter()
    error: str | None = None
    answer: Answer | None = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await ask(image)
    except Exception as failure:  # noqa: BLE001 - whatever it was, the request failed
        error = f"{type(failure).__name__}: {failure}"[:300]
    return Sample(
        node=node,
        at=at,
        latency_ms=round((time.perf_counter() - begin) * 1000, 3),
        revision=answer.revision if answer else None,
        version=answer.version if answer else None,
        right=answer is not None and answer.digit == digit,
        error=error,
    )


async def ticks(rate: float) -> AsyncIterator[None]:
    """Tick at a steady rate; ticks that the consumer was too slow for are left out."""
    due = time.perf_counter()
    while True:
        yield
        due = max(due + 1 / rate, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())


async def drive(
    node: str,
    ask: Ask,
    images: Iterator[tuple[Floats, int]],
    rate: float,
    report: Callable[[Sample], None],
    stop: asyncio.Event,
) -> None:
    """Ask one node about one image after the other until `stop` is set."""
    async for _ in ticks(rate):
        if stop.is_set():
            return
        image, digit = next(images)
        report(await ask_once(node, ask, image, digit))


def endless(images: Images) -> Iterator[tuple[Floats, int]]:
    """Go round through the images with their digits."""
    return itertools.cycle(
        [(image, int(d)) for image, d in zip(images.image, images.labels, strict=True)]
    )


def report_line(sample: Sample) -> None:
    """Write one request as one line."""
    print(sample.model_dump_json(exclude_none=True), flush=True)


async def _serve_target(
    target: Target, model: str, images: Images, rate: float, stop: asyncio.Event
) -> None:
    from tritonclient.http.aio import InferenceServerClient  # noqa: PLC0415

    async with InferenceServerClient(target.address) as client:
        ask = triton_asker(client, model)
        await drive(target.node, ask, endless(images), rate, report_line, stop)


async def _run(model: str, images: Images, rate: float) -> None:
    """Start one client per target line; leave when the input has ended."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        while line := await asyncio.to_thread(sys.stdin.readline):
            target = Target.model_validate_json(line)
            clients.create_task(_serve_target(target, model, images, rate, stop))
        stop.set()


class Traffic:
    """The process, seen from the driver."""

    def __init__(self, images: Path, model: str, log: Path, rate: float = RATE) -> None:
        options = [f"--images={images}", f"--model={model}", f"--rate={rate}"]
        self.tally = Tally()
        self._targets: dict[str, Target] = {}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "digits_demo.traffic", *options],
                cwd=_PACKAGE_ROOT,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._log = log
        self._reader = threading.Thread(target=self._read, name="traffic", daemon=True)
        self._reader.start()

    @property
    def nodes(self) -> frozenset[str]:
        """Nodes that get requests."""
        return frozenset(self._targets)

    def add(self, node: str, address: str) -> None:
        """Send requests to this node from now on; a node is added once, pods do not move."""
        if node in self._targets or self._process.stdin is None:
            return
        self._targets[node] = Target(node=node, address=address)
        self._process.stdin.write(self._targets[node].model_dump_json() + "\n")
        self._process.stdin.flush()

    def require_alive(self) -> None:
        """Make sure that the process still runs.

        Raises:
            DemoError: it has ended.
        """
        if self._process.poll() is not None:
            raise DemoError(
                f"the traffic process ended with status {self._process.returncode}",
                f"read {self._log}",
            )

    def stop(self) -> None:
        """Let requests under way end, then end the process."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_TIMEOUT_S)
        if self._process.stdout:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.tally.add(Sample.model_validate_json(line))


def main(argv: list[str] | None = None) -> int:
    """Send requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help=".npz with image and labels")
    parser.add_argument("--model", required=True, help="name of the model at the pods")
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second and node")
    args = parser.parse_args(argv)
    asyncio.run(_run(args.model, load_npz(args.images), args.rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
