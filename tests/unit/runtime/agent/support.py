"""Builders for the agent's tests: small ONNX files, exams, assignments, an HTTP source."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from aiohttp import web
from onnx import TensorProto, helper, numpy_helper

from documents import make_content
from skerry_runtime.agent.agent import ClusterAgent
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.backends.base import Backend
from skerry_runtime.contract import (
    ASSIGNMENT_FILE,
    Assignment,
    Execution,
    GoldenExam,
    GoldenMetric,
    RevisionContent,
    StatusReport,
)
from skerry_runtime.metrics import Metrics
from skerry_runtime.registry import Registry

DEADLINE_S = 30.0
CPU = Execution(profile="cpu")


def children() -> set[str]:
    """Return the process ids of this process's children."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


LOOPBACK = (IPv4Network("127.0.0.0/8"),)
FAST = Tuning(
    fetch_allow=LOOPBACK,  # where the tests' model server is
    poll_s=0.01,
    settle_s=60.0,
    backoff_min_s=0.02,
    backoff_max_s=0.05,
    slow_backoff_min_s=0.05,
    slow_backoff_max_s=0.1,
    disk_reserve_bytes=0,
)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def classifier(bias: int = 0, features: int = 4, batch: int | str = "n") -> bytes:
    """A model that answers with the index of the largest feature, shifted by `bias`."""
    weights = np.roll(np.eye(features, dtype=np.float32), bias, axis=1)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"])],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, features])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, features])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()


def external_model(location: str = "weights.bin") -> bytes:
    model = onnx.load_model_from_string(classifier())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model.SerializeToString()


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def golden(samples: int = 40, features: int = 4) -> bytes:
    labels = np.arange(samples) % features
    return npz(x=np.eye(features, dtype=np.float32)[labels], labels=labels)


def content(
    model: bytes = b"model",
    uri: str = "http://source/model",
    *,
    exam: bytes | None = None,
    exam_uri: str = "http://source/golden",
    threshold: str = "0.95",
    version: str = "1.0.0",
    **more: object,
) -> RevisionContent:
    return make_content(
        uri,
        sha256(model),
        version=version,
        variant="fp32",
        memory_bytes=1,
        golden=exam
        and GoldenExam(
            uri=exam_uri,
            sha256=sha256(exam),
            metric=GoldenMetric.ACCURACY,
            threshold=threshold,
        ),
        **more,
    )


def goal(revision: str = "v1", model: bytes | None = None, **more: object) -> Goal:
    return Goal(revision, content(revision.encode() if model is None else model, **more), CPU)


class Mount:
    """A ConfigMap volume: the file is a link through `..data`, which is swapped as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, text: str) -> None:
        version = self.folder / f"..{time.monotonic_ns()}"
        version.mkdir()
        (version / ASSIGNMENT_FILE).write_text(text)
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(self.folder / "..data")
        link = self.folder / ASSIGNMENT_FILE
        if not link.is_symlink():
            link.symlink_to(f"..data/{ASSIGNMENT_FILE}")

    def assign(
        self,
        revision: str | None,
        revisions: dict[str, RevisionContent],
        execution: Execution = CPU,
        **more: Any,
    ) -> str:
        assignment = Assignment(
            deployment="shop/digits",
            cell="cpu-amd64",
            execution=execution,
            default=revision,
            revisions=revisions,
            **more,
        )
        text = assignment.model_dump_json(by_alias=True)
        self.write(text)
        return sha256(text.encode())


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds.

    Raises:
        TimeoutError: it never did.
    """
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Source:
    """A model server; knows what was asked of it, and can be told to misbehave."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)

    def add(self, name: str, body: bytes) -> str:
        self.files[name] = body
        return f"{self.url}/{name}"

    def handle(self, name: str, handler: Handler) -> str:
        self.handlers[name] = handler
        return f"{self.url}/{name}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.lstrip("/")
        self.requests.append(request)
        if name in self.handlers:
            return await self.handlers[name](request)
        if name not in self.files:
            raise web.HTTPNotFound
        return ranged(request, self.files[name])


def ranged(request: web.Request, body: bytes, etag: str = "") -> web.Response:
    """Answer as a file server does, ranges and If-Range included."""
    etag = etag or f'"{sha256(body)[:8]}"'
    wanted = request.http_range.start
    if wanted is None or request.headers.get("If-Range", etag) != etag:
        return web.Response(body=body, headers={"ETag": etag})
    if wanted >= len(body):
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
    headers = {"ETag": etag, "Content-Range": f"bytes {wanted}-{len(body) - 1}/{len(body)}"}
    return web.Response(status=206, body=body[wanted:], headers=headers)


@dataclass(frozen=True)
class Who:
    """Settings of one pod."""

    assignment_dir: Path
    slots_dir: Path
    unit: str = "node-1"
    threads: int = 1


class Pod:
    """An agent with its registry and metrics, as one process has them."""

    def __init__(self, root: Path, backend: Backend, tuning: Tuning = FAST) -> None:
        self.mount = Mount(root / "assignment")
        self.slots_dir = root / "slots"
        self.registry = Registry()
        self.metrics = Metrics()
        who = Who(self.mount.folder, self.slots_dir)
        self.agent = ClusterAgent(who, self.registry, self.metrics, backend, tuning)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Pod:
        self._task = asyncio.create_task(self.agent.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.agent.stop()
        if self._task:
            await self._task

    @property
    def is_over(self) -> bool:
        """Tell whether the agent ended by itself."""
        return self._task is not None and self._task.done()

    @property
    def status(self) -> StatusReport:
        return self.agent.status()

    @property
    def revision(self) -> str | None:
        serving = self.status.serving
        return serving.revision if serving else None

    async def until(self, condition: Callable[[StatusReport], object]) -> StatusReport:
        """Wait until the status meets the condition; fail with the last status at the deadline."""
        try:
            await until(lambda: condition(self.status))
        except TimeoutError:
            text = json.dumps(self.status.model_dump(mode="json", exclude={"counters"}), indent=1)
            raise AssertionError(f"never came true; last status: {text}") from None
        return self.status

    async def until_serving(self, revision: str) -> StatusReport:
        return await self.until(lambda s: s.serving and s.serving.revision == revision)

    async def until_failed(self, revision: str) -> StatusReport:
        return await self.until(
            lambda s: (
                s.progress and s.progress.phase == "Failed" and s.progress.revision == revision
            )
        )


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
