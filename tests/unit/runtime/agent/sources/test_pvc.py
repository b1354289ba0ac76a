"""pvc:// against a folder where the kubelet would mount the volume."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from fetching import Fetching, sha256_of
from skerry_runtime.agent.part import Part
from skerry_runtime.agent.sources.pvc import VolumeSource

BODY = bytes(range(256)) * 8192


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "claims" / "models"
    (folder / "digits").mkdir(parents=True)
    (folder / "digits" / "a b.onnx").write_bytes(BODY)
    return folder


def mounting(fetching: Fetching, volume: Path) -> Fetching:
    tuning = fetching.tuning.model_copy(update={"claims_dir": volume.parent})
    return replace(fetching, tuning=tuning)


async def test_a_file_in_a_volume_is_copied(fetching: Fetching, volume: Path) -> None:
    fetching = mounting(fetching, volume)
    assert await fetching.fetch("pvc://models/digits/a%20b.onnx", sha256_of(BODY)) == BODY
    assert fetching.seen[-1] == (len(BODY), len(BODY))
    assert (volume / "digits" / "a b.onnx").read_bytes() == BODY


async def test_a_begun_copy_goes_on_if_the_file_is_the_same_and_begins_anew_if_not(
    fetching: Fetching, volume: Path
) -> None:
    fetching, uri = mounting(fetching, volume), "pvc://models/digits/a%20b.onnx"
    found = (volume / "digits" / "a b.onnx").stat()
    for mark, start in ((f"{found.st_mtime_ns}-{found.st_size}", 1_000_000), ("other", 0)):
        part = Part(fetching.part, uri)
        part.open()
        part.append(BODY[:1_000_000])
        part.describe(mark)
        part.close()
        fetching.seen.clear()
        assert await fetching.fetch(uri, sha256_of(BODY)) == BODY
        assert fetching.seen[0] == (start, len(BODY))


async def test_a_fetch_that_ends_while_its_file_is_opened_leaves_none_open(
    fetching: Fetching, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_opening, may_open, opened = asyncio.Event(), threading.Event(), asyncio.Event()
    loop, opens = asyncio.get_running_loop(), VolumeSource._open

    def wait(source: VolumeSource) -> BinaryIO:
        loop.call_soon_threadsafe(is_opening.set)
        assert may_open.wait(60)
        try:
            return opens(source)
        finally:
            loop.call_soon_threadsafe(opened.set)

    monkeypatch.setattr(VolumeSource, "_open", wait)
    uri = "pvc://models/digits/a%20b.onnx"
    task = asyncio.create_task(mounting(fetching, volume).fetch(uri, sha256_of(BODY)))
    await is_opening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        may_open.set()
        await opened.wait()
        await asyncio.to_thread(gc.collect)
    assert [str(complaint.message) for complaint in complaints] == []


async def test_a_link_inside_the_volume_is_followed(fetching: Fetching, volume: Path) -> None:
    (volume / "latest.onnx").symlink_to("digits/a b.onnx")
    fetching = mounting(fetching, volume)
    assert await fetching.fetch("pvc://models/latest.onnx", sha256_of(BODY)) == BODY


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pvc://models/absent.onnx", "there is no such file in the volume"),
        ("pvc://other/x.onnx", "there is no such file in the volume"),
        ("pvc://models/digits", "it is no plain file"),
        ("pvc://models/pipe", "it is no plain file"),
        ("pvc://models/out", "leads out of the volume"),
        ("pvc://models/outside/x", "leads out of the volume"),
        ("pvc://models/../other/x", "write pvc://CLAIM/FILE"),
        ("pvc://models/%2e%2e/x", "write pvc://CLAIM/FILE"),
        ("pvc://models/", "write pvc://CLAIM/FILE"),
        ("pvc://models//etc/passwd", "write pvc://CLAIM/FILE"),
        ("pvc://../x", "write pvc://CLAIM/FILE"),
    ],
)
async def test_what_is_no_file_of_the_volume_is_refused(
    fetching: Fetching, volume: Path, uri: str, says: str
) -> None:
    (volume.parent / "x").write_bytes(BODY)
    os.mkfifo(volume / "pipe")
    (volume / "out").symlink_to("/etc/passwd")
    (volume / "outside").symlink_to("..")
    assert says in await mounting(fetching, volume).refusal(uri, sha256_of(BODY))
    assert not fetching.target.exists()


async def test_other_bytes_than_the_spec_names_are_refused(
    fetching: Fetching, volume: Path
) -> None:
    (volume / "tampered.onnx").write_bytes(BODY[:-1] + b"!")
    told = await mounting(fetching, volume).refusal("pvc://models/tampered.onnx", sha256_of(BODY))
    assert "has another sha256" in told
