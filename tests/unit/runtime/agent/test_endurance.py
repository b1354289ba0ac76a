"""Many swaps in one process: what each leaves behind would add up on a node that runs for years."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

from skerry_runtime.agent.host import Host
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import RevisionContent
from unit.runtime.agent.support import (
    FAST,
    Pod,
    Source,
    children,
    classifier,
    content,
    golden,
)

SWAPS = 50
WARM = 10
"""Swaps until pools, caches and the allocator have what they keep."""
GROWTH_BYTES = 16 << 20
"""Far less than 40 models and their sessions would take, were they kept."""


def many(source: Source) -> dict[str, RevisionContent]:
    """As many revisions as swaps, each with a file of its own, of about a megabyte."""
    found = {}
    for number in range(SWAPS):
        features = 500 + number
        model, exam = classifier(features=features), golden(8, features)
        found[f"v{number}"] = content(
            model,
            source.add(f"{number}.onnx", model),
            exam=exam,
            exam_uri=source.add(f"{number}.npz", exam),
        )
    return found


def handles() -> dict[str, int]:
    """What this process holds, by kind; other tests may have left it a child of their own."""
    return {
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "children": len(children()),
    }


async def test_many_swaps_leave_nothing_behind(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = many(source)
    monkeypatch.setattr("skerry_runtime.agent.stages.Stages.is_proven", lambda *_: True)
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        for number in range(SWAPS):
            pod.mount.assign(f"v{number}", {f"v{number}": contents[f"v{number}"]})
            await pod.until_serving(f"v{number}")
            if number == WARM:
                held, used = handles(), settled_bytes()
        await pod.until(lambda s: len(s.on_disk) == 2 and len(models_in(tmp_path / "slots")) == 2)
        now = handles()
        assert now["children"] <= held["children"]
        assert now["threads"] <= held["threads"]
        assert now["files"] <= held["files"] + 4  # the source keeps a few connections
        assert settled_bytes() - used < GROWTH_BYTES
        assert len(pod.status.counters) == 5
        assert list((tmp_path / "slots" / "parts").iterdir()) == []


def models_in(folder: Path) -> list[str]:
    """The model files below a folder that somebody tidies up meanwhile."""
    names = [name for _, _, files in os.walk(folder) for name in files]
    return [name for name in names if name.endswith(".onnx")]


def settled_bytes() -> int:
    gc.collect()
    return Host().rss_bytes() or 0
