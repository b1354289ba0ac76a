"""A driver that hangs keeps no node without a model, and no agent from its assignment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serving.fakes import Gate
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import RevisionContent, SwapMode
from skerry_runtime.errors import Unusable
from unit.runtime.agent.hanging import HangsInLoad
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, until

QUICK = FAST.model_copy(update={"leftover_s": 0.1})
TESTS = Path(__file__).parents[3]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Return a gate that the next load after `arm` hangs at; the probe's child finds the engine."""
    roots = [TESTS, TESTS.parent / "runtime", TESTS.parent / "operator"]
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, roots)))
    monkeypatch.setattr(HangsInLoad, "gate", None)
    monkeypatch.setattr(HangsInLoad, "closed", 0)
    found = Gate()
    yield found
    found.open.set()


def both(source: Source, swap: SwapMode) -> dict[str, RevisionContent]:
    first, other = classifier(), classifier(bias=0, features=5)
    return {
        "v1": content(first, source.add("a", first), swap=swap),
        "v2": content(other, source.add("b", other), swap=swap),
    }


@asynccontextmanager
async def hung(
    root: Path, gate: Gate, revisions: dict[str, RevisionContent], tuning: Tuning = QUICK
) -> AsyncIterator[Pod]:
    """Serve v1, and hang in the load of v2."""
    async with Pod(root, HangsInLoad(), tuning) as one:
        try:
            one.mount.assign("v1", revisions)
            await one.until_serving("v1")
            HangsInLoad.gate = gate
            one.mount.assign("v2", revisions)
            await asyncio.to_thread(gate.wait_entered)
            yield one
        finally:
            gate.open.set()


@pytest.mark.parametrize("swap", [SwapMode.SEQUENTIAL, SwapMode.AUTO])
async def test_a_load_that_hangs_does_not_keep_a_node_from_its_last_good_model(
    tmp_path: Path, source: Source, gate: Gate, swap: SwapMode
) -> None:
    revisions = both(source, swap)
    async with hung(tmp_path, gate, revisions) as one:
        one.mount.assign("v1", revisions)  # the operator takes it back
        await one.until(lambda s: s.assigned == "v1" and s.serving and s.serving.revision == "v1")


async def test_a_model_that_comes_late_is_closed(
    tmp_path: Path, source: Source, gate: Gate
) -> None:
    revisions = both(source, SwapMode.SEQUENTIAL)
    async with hung(tmp_path, gate, revisions) as one:
        one.mount.assign("v1", revisions)
        await one.until_serving("v1")
        gate.open.set()
        await until(lambda: HangsInLoad.closed == 1)
        assert one.revision == "v1"


async def test_a_load_that_does_not_end_is_refused_on_the_disk_and_the_agent_wants_a_new_process(
    tmp_path: Path, source: Source, gate: Gate
) -> None:
    tuning = QUICK.model_copy(update={"load_timeout_s": 2.0})
    with pytest.raises(Unusable, match="the load of v2 hangs"):
        async with hung(tmp_path, gate, both(source, SwapMode.SEQUENTIAL), tuning) as one:
            await until(lambda: one.is_over)
    async with Pod(tmp_path, OnnxBackend(), QUICK) as new:
        status = await new.until_serving("v1")
        assert "not open within 2 s" in status.failures[0].message


async def test_an_agent_that_does_not_come_to_look_is_dead(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = QUICK.model_copy(update={"stall_s": 0.5, "drain_s": 0.0})
    revisions = both(source, SwapMode.AUTO)
    async with Pod(tmp_path, OnnxBackend(), quick) as one:
        one.mount.assign("v1", revisions)
        await one.until_serving("v1")
        await until(one.agent.is_alive)
        blocked = asyncio.Event()
        with monkeypatch.context() as patched:
            patched.setattr(one.agent, "_perform", lambda _: blocked.wait())
            one.mount.assign("v2", revisions)  # news: an agent that waits for it goes on to act
            await until(lambda: not one.agent.is_alive())
        blocked.set()
        await until(one.agent.is_alive)


async def test_an_agent_that_waits_for_a_long_load_is_alive(
    tmp_path: Path, source: Source, gate: Gate
) -> None:
    quick = QUICK.model_copy(update={"stall_s": 1.0, "drain_s": 0.0})
    async with hung(tmp_path, gate, both(source, SwapMode.AUTO), quick) as one:
        seen = time.monotonic()
        await until(lambda: time.monotonic() > seen + 3 * quick.stall_s)
        await until(one.agent.is_alive)
