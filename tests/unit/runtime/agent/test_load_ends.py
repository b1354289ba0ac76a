"""A load has an end, in a whole process: refused on the disk, begun anew, the last good served."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ports import free_port
from skerry_runtime.contract import RevisionContent, SwapMode
from unit.runtime.agent.hanging_process import HOW_ENV
from unit.runtime.agent.support import Mount, Source, classifier, content, until

ROOT = Path(__file__).parents[4]
DEADLINE_S = 90.0
GOOD, STUCK = classifier(), classifier(features=5)
OTHER = classifier(features=6)
Condition = Callable[[dict[str, Any]], object]


class Kubelet:
    """Keeps one runtime process alive, as a kubelet does; counts its lives."""

    def __init__(self, root: Path, **tuning: str) -> None:
        self.mount = Mount(root / "assignment")
        self.hang = root / "hang"
        self.admin = free_port()
        self.pid = 0
        self.ends: list[int] = []
        self.env = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'runtime'}:{ROOT / 'operator'}",
            "SKERRY_UNIT": "node-1",
            "SKERRY_HOST": "127.0.0.1",
            "SKERRY_HTTP_PORT": "0",
            "SKERRY_GRPC_PORT": "0",
            "SKERRY_ADMIN_PORT": str(self.admin),
            "SKERRY_ASSIGNMENT_DIR": str(self.mount.folder),
            "SKERRY_SLOTS_DIR": str(root / "slots"),
            "SKERRY_FETCH_ALLOW": "127.0.0.0/8",
            "SKERRY_LINGER_S": "0",
            "SKERRY_LEFTOVER_S": "0.2",
            "SKERRY_SETTLE_S": "0.1",
            HOW_ENV: str(self.hang),
            **tuning,
        }

    async def run(self) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "unit.runtime.agent.hanging_process", env=self.env
            )
            self.pid = process.pid
            try:
                self.ends.append(await process.wait())
            finally:
                await _ended(process)

    async def until(self, condition: Condition) -> dict[str, Any]:
        """Ask for the status until it meets the condition; fail with the last one."""
        last: dict[str, Any] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
                while True:
                    with suppress(aiohttp.ClientError, TimeoutError):
                        last = await self._status(session)
                        if condition(last):
                            return last
                    await asyncio.sleep(0.02)
        raise AssertionError(f"never came true; ends {self.ends}; last: {json.dumps(last)}")

    async def until_serving(self, revision: str, among: Condition = lambda _: True) -> dict:
        return await self.until(lambda s: serves(s) == revision and among(s))

    async def _status(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        limit = aiohttp.ClientTimeout(total=2.0)
        async with session.get(self._url("status"), timeout=limit) as got:
            return json.loads(await got.read())

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.admin}/{path}"


async def _ended(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def serves(status: dict[str, Any]) -> str | None:
    return status["serving"]["revision"] if status["serving"] else None


def refused(status: dict[str, Any]) -> dict[str, str]:
    return {f["revision"]: f"{f['reason']}: {f['message']}" for f in status["failures"]}


def is_loading(revision: str) -> Condition:
    return lambda s: s["progress"]["revision"] == revision and s["progress"]["phase"] == "Loading"


def revisions(source: Source, swap: SwapMode, **more: object) -> dict[str, RevisionContent]:
    bodies = {"v1": GOOD, "v2": STUCK, "v3": OTHER}
    return {
        name: content(body, source.add(name, body), swap=swap, **more)
        for name, body in bodies.items()
    }


@asynccontextmanager
async def serving(root: Path, described: dict[str, Any], **tuning: str) -> AsyncIterator[Kubelet]:
    """Serve v1, which is known good then."""
    kubelet = Kubelet(root, **tuning)
    kubelet.mount.assign("v1", described)
    keep = asyncio.create_task(kubelet.run())
    try:
        await kubelet.until_serving("v1")
        state = root / "slots" / "state.json"
        await until(lambda: state.exists() and '"settled":true' in state.read_text())
        yield kubelet
    finally:
        keep.cancel()
        await asyncio.wait({keep})


@pytest.mark.parametrize("how", ["once", "driver", "lock"])
async def test_a_load_that_hangs_alone_is_refused_and_a_new_process_serves_the_last_good(
    tmp_path: Path, source: Source, how: str
) -> None:
    described = revisions(source, SwapMode.SEQUENTIAL)
    async with serving(tmp_path, described, SKERRY_LOAD_TIMEOUT_S="1") as kubelet:
        kubelet.hang.write_text(f"{how} {len(STUCK)}")
        kubelet.mount.assign("v2", described)
        status = await kubelet.until_serving("v1", lambda s: "v2" in refused(s))
        assert refused(status)["v2"].startswith("LoadFailed: the model was not open within 1 s")
        assert len(kubelet.ends) == 1
        assert kubelet.ends[0] not in (0, -9)  # by itself, and not as if all were well
        assert "v1" not in status["restarts"]


@pytest.mark.parametrize("how", ["once", "driver"])
async def test_a_load_that_hangs_beside_what_serves_is_refused_and_ends_nothing(
    tmp_path: Path, source: Source, how: str
) -> None:
    described = revisions(source, SwapMode.AUTO)
    async with serving(tmp_path, described, SKERRY_LOAD_TIMEOUT_S="1") as kubelet:
        kubelet.hang.write_text(f"{how} {len(STUCK)}")
        kubelet.mount.assign("v2", described)
        status = await kubelet.until(lambda s: "v2" in refused(s))
        assert serves(status) == "v1"
        assert kubelet.ends == []


@pytest.mark.parametrize("swap", [SwapMode.SEQUENTIAL, SwapMode.AUTO])
async def test_what_fails_beside_a_load_that_hangs_is_tried_again_in_a_new_process(
    tmp_path: Path, source: Source, swap: SwapMode
) -> None:
    described = revisions(source, swap)
    tuning = {"SKERRY_LOAD_TIMEOUT_S": "1000", "SKERRY_BESIDE_HUNG_S": "0.5"}
    async with serving(tmp_path, described, **tuning) as kubelet:
        kubelet.hang.write_text(f"driver {len(STUCK)}")
        kubelet.mount.assign("v2", described)
        await kubelet.until(is_loading("v2"))
        kubelet.mount.assign("v3", described)
        status = await kubelet.until_serving("v3")
        assert refused(status) == {}
        assert len(kubelet.ends) == 1


async def test_the_deployments_own_limit_counts(tmp_path: Path, source: Source) -> None:
    described = revisions(source, SwapMode.SEQUENTIAL)
    model = described["v2"].model.model_copy(update={"load_timeout_s": 1.5})
    described["v2"] = described["v2"].model_copy(update={"models": {described["v2"].name: model}})
    async with serving(tmp_path, described, SKERRY_LOAD_TIMEOUT_S="1000") as kubelet:
        kubelet.hang.write_text(f"once {len(STUCK)}")
        kubelet.mount.assign("v2", described)
        status = await kubelet.until_serving("v1", lambda s: "v2" in refused(s))
        assert "within 1.5 s" in refused(status)["v2"]


async def test_a_process_with_a_load_that_hangs_ends_when_it_is_told_to(
    tmp_path: Path, source: Source
) -> None:
    described = revisions(source, SwapMode.AUTO)
    async with serving(tmp_path, described, SKERRY_LOAD_TIMEOUT_S="1") as kubelet:
        kubelet.hang.write_text(f"once {len(STUCK)}")
        kubelet.mount.assign("v2", described)
        await kubelet.until(lambda s: "v2" in refused(s))
        os.kill(kubelet.pid, 15)
        await until(lambda: kubelet.ends)
        assert kubelet.ends == [0]
