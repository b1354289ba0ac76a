"""An engine in a process of its own may end: the agent notices, and brings the model back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry_runtime.contract import RevisionContent
from unit.runtime.agent.engines import Beside
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, environment

TESTS = Path(__file__).parents[3]
SETTLING = FAST.model_copy(update={"settle_s": 0.0})


@pytest.fixture(autouse=True)
def _engines_can_be_found() -> Iterator[None]:
    with environment(PYTHONPATH=str(TESTS)):
        yield


@pytest.fixture
def contents(source: Source) -> dict[str, RevisionContent]:
    bodies = {"v1": classifier(), "v2": classifier(batch=1)}
    return {name: content(body, source.add(name, body)) for name, body in bodies.items()}


async def test_a_lost_model_is_served_no_more_and_then_loaded_again(
    tmp_path: Path, contents: dict[str, RevisionContent], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Beside()
    async with Pod(tmp_path, engine, SETTLING) as pod:
        pod.mount.assign("v1", contents)
        await pod.until_serving("v1")
        monkeypatch.setattr(Beside, "is_away", True)
        engine.models.clear()
        status = await pod.until(lambda s: s.progress and s.progress.reason == "EngineAway")
        assert status.serving is None
        assert pod.registry.current is None
        monkeypatch.setattr(Beside, "is_away", False)
        status = await pod.until_serving("v1")
        assert status.failures == ()
        assert status.last_swap
        assert (status.last_swap.from_revision, status.last_swap.to_revision) == ("v1", "v1")
        assert status.last_swap.outage_ms > 0
        assert engine.models


async def test_an_engine_that_a_new_model_ends_refuses_it_and_a_known_one_not(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    engine = Beside()
    async with Pod(tmp_path, engine, SETTLING) as pod:
        pod.mount.assign("v1", contents)
        await pod.until_serving("v1")
        await pod.until(lambda _: pod.agent._journal.state.history[0].settled)
        engine.dies = True
        pod.mount.assign("v2", contents)
        status = await pod.until_failed("v2")
        assert status.failures[0].reason == "LoadFailed"
        engine.models.clear()
        await pod.until(lambda s: s.serving is None)
        engine.dies = False
        status = await pod.until_serving("v1")
        assert [failure.revision for failure in status.failures] == ["v2"]


async def test_the_model_comes_back_while_the_next_one_cannot_be_fetched(
    tmp_path: Path, contents: dict[str, RevisionContent], source: Source
) -> None:
    engine = Beside()
    async with Pod(tmp_path, engine, SETTLING) as pod:
        pod.mount.assign("v1", contents)
        await pod.until_serving("v1")
        del source.files["v2"]
        pod.mount.assign("v2", contents)
        await pod.until_failed("v2")
        engine.models.clear()
        await pod.until(lambda _: engine.models)
        await pod.until_serving("v1")


async def test_an_engine_is_swept_at_the_start_and_after_every_probe(
    tmp_path: Path, contents: dict[str, RevisionContent]
) -> None:
    engine = Beside()
    async with Pod(tmp_path, engine, SETTLING) as pod:
        await pod.until(lambda _: engine.sweeps == 1)
        pod.mount.assign("v1", contents)
        await pod.until_serving("v1")
        assert engine.sweeps == 2
