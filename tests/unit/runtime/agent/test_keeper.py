"""What a pod serves is kept at its site, also where the cache came after the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from site_cache import SiteCache, site_cache
from skerry_runtime.agent.assignment import parse
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import CacheAccess, RevisionContent
from unit.runtime.agent.support import (
    FAST,
    Pod,
    Source,
    classifier,
    content,
    golden,
    sha256,
    until,
)

MODEL, EXAM = classifier(features=5), golden(features=5)


@pytest.fixture
def contents(source: Source) -> dict[str, RevisionContent]:
    uri, exam = source.add("model.onnx", MODEL), source.add("exam.npz", EXAM)
    return {"v1": content(MODEL, uri, exam=EXAM, exam_uri=exam)}


def access(cache: SiteCache) -> CacheAccess:
    tickets = {sha256(body): cache.ticket(sha256(body)) for body in (MODEL, EXAM)}
    return CacheAccess(sites={"here": cache.url}, site="here", tickets=tickets)


def pod(root: Path) -> Pod:
    quick = {"site_keep_s": 0.1, "site_retry_s": 0.05, "site_again_s": 0.02}
    return Pod(root, OnnxBackend(), FAST.model_copy(update=quick))


def is_kept(cache: SiteCache) -> bool:
    return all(cache.store.ledger.is_pinned(sha256(body)) for body in (MODEL, EXAM))


async def test_a_new_pod_serves_from_its_site_when_the_source_is_gone(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    async with site_cache(tmp_path / "cache") as cache:
        async with pod(tmp_path / "first") as one:
            one.mount.assign("v1", contents, cache=access(cache))
            await one.until_serving("v1")
            await until(lambda: is_kept(cache))
        source.files.clear()
        async with pod(tmp_path / "second") as one:
            one.mount.assign("v1", contents, cache=access(cache))
            await one.until_serving("v1")
        assert len(source.requests) == 2  # the model and its exam, once


async def test_a_cache_that_comes_later_or_lost_its_volume_is_brought_what_is_served(
    tmp_path: Path, source: Source, contents: dict[str, RevisionContent]
) -> None:
    async with pod(tmp_path / "pod") as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        source.files.clear()
        for name in ("cache", "cache-2"):
            async with site_cache(tmp_path / name) as cache:
                one.mount.assign("v1", contents, cache=access(cache))
                await until(lambda: is_kept(cache))


@pytest.mark.parametrize(
    "cache", ["no", {"sites": []}, {"tickets": {"x": 1}}, [1], {"ca": "x" * 9000}]
)
def test_a_cache_block_that_cannot_be_read_costs_no_model(
    contents: dict[str, RevisionContent], cache: object
) -> None:
    document = {
        "schema": 2,
        "deployment": "shop/digits",
        "cell": "cpu",
        "execution": {"profile": "cpu"},
        "default": "v1",
        "revisions": {"v1": contents["v1"].model_dump(mode="json", by_alias=True)},
        "cache": cache,
    }
    found = parse(json.dumps(document).encode(), "unit")
    assert found.order is not None
    assert found.error is None
    assert found.cache is None
