"""Time of a swap in one process, file served from the same machine: fetched, and from the disk.

    make bench-swap

Every swap is a whole one: fetch, digest, probe in a child, load, exam, switch. Going back to a
revision that is on the disk and was probed is what a rollback costs. Nothing fails.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from pathlib import Path

from aiohttp import web

from bench.runtime import RESULT, ROOT
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import RevisionContent
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, golden

SWAPS = 15
FEATURES = 1200
"""Makes files of about 6 MB."""


def revisions(source: Source) -> dict[str, RevisionContent]:
    """Describe revisions of different files with an exam each."""
    found = {}
    for number in range(SWAPS):
        features = FEATURES + number
        model, exam = classifier(features=features), golden(40, features)
        model_uri, exam_uri = source.add(f"{number}.onnx", model), source.add(f"{number}.npz", exam)
        found[f"v{number}"] = content(model, model_uri, exam=exam, exam_uri=exam_uri)
    return found


async def measure(folder: Path, source: Source) -> dict[str, list[float]]:
    """Return the milliseconds of fetched swaps and of those from the disk, by turns."""
    described, times = revisions(source), {"fetched": [], "from disk": []}
    async with Pod(folder, OnnxBackend(), FAST) as pod:
        first, *others = described
        pod.mount.assign(first, described)
        await pod.until_serving(first)
        for name in others:
            for kind, revision in (("fetched", name), ("from disk", first)):
                pod.mount.assign(revision, described)
                status = await pod.until_serving(revision)
                times[kind] += [status.last_swap.total_ms] if status.last_swap else []
    return times


async def main() -> None:
    """Measure, print a table and write the figures."""
    source, app = Source(), web.Application()
    app.router.add_get("/{name:.*}", source.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    source.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with tempfile.TemporaryDirectory() as folder:
        times = await measure(Path(folder), source)
    await runner.cleanup()
    figures = {kind: [statistics.median(found), max(found)] for kind, found in times.items()}
    print(f"{'swap':12}{'p50 ms':>10}{'max ms':>10}")
    for kind, (middle, most) in figures.items():
        print(f"{kind:12}{middle:>10.1f}{most:>10.1f}")
    path = RESULT.with_name("swap.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    asyncio.run(main())
