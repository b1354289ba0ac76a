"""The probe: what kills the child is reported, and nothing else happens."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry_runtime.agent import probe as probing
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.probe import ProbeRequest, child_environment, probe
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.sample import Unservable, require_servable
from skerry_runtime.backends.base import ModelMetadata, TensorSpec
from skerry_runtime.contract import FailureReason, Format
from unit.runtime.agent import engines
from unit.runtime.agent.support import (
    CPU,
    children,
    classifier,
    environment,
    external_model,
    golden,
    until,
)

ROOT = Path(__file__).parents[4]
PATHS = ":".join(str(ROOT / part) for part in ("tests", "runtime", "operator"))
ONNX = "skerry_runtime.backends.onnx:OnnxBackend"


@pytest.fixture(autouse=True)
def _engines_can_be_found() -> Iterator[None]:
    with environment(PYTHONPATH=PATHS):
        yield


def request(path: Path, body: bytes, backend: str | type = ONNX, **more: object) -> ProbeRequest:
    path = path / "model.onnx"
    path.write_bytes(body)
    if isinstance(backend, type):
        backend = f"{backend.__module__}:{backend.__qualname__}"
    facts = {"memory_bytes": 1024 * MIB, "timeout_s": 30.0, **more}
    return ProbeRequest(
        backend=backend, path=path, format=Format.ONNX, execution=CPU, threads=1, **facts
    )


async def refusal(asked: ProbeRequest) -> tuple[FailureReason, str]:
    with pytest.raises(Refused) as caught:
        await probe(asked, Host())
    return caught.value.reason, str(caught.value)


async def test_a_model_passes(tmp_path: Path) -> None:
    await probe(request(tmp_path, classifier()), Host())


async def test_a_model_passes_on_the_first_golden_sample(tmp_path: Path) -> None:
    exam = tmp_path / "golden.npz"
    exam.write_bytes(golden())
    await probe(request(tmp_path, classifier(), golden=exam), Host())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
async def test_a_truncated_model_is_invalid(tmp_path: Path, share: float) -> None:
    whole = classifier()
    reason, _ = await refusal(request(tmp_path, whole[: int(len(whole) * share)]))
    assert reason is FailureReason.INVALID_MODEL


async def test_what_is_no_model_is_invalid_and_no_path_is_shown(tmp_path: Path) -> None:
    reason, message = await refusal(request(tmp_path, b"\x0a\x04text"))
    assert reason is FailureReason.INVALID_MODEL
    assert str(tmp_path) not in message


async def test_external_data_is_refused(tmp_path: Path) -> None:
    reason, message = await refusal(request(tmp_path, external_model()))
    assert reason is FailureReason.INVALID_MODEL
    assert "'weights.bin', which the spec does not list" in message


async def test_a_crash_is_the_childs_alone(tmp_path: Path) -> None:
    reason, message = await refusal(request(tmp_path, classifier(), engines.Crashing))
    assert reason is FailureReason.PROBE_FAILED
    assert "SIGSEGV" in message


@pytest.mark.parametrize("engine", [engines.Hungry, engines.Mapping])
async def test_a_memory_hog_is_stopped(tmp_path: Path, engine: type) -> None:
    asked = request(tmp_path, classifier(), engine, memory_bytes=200 * MIB)
    reason, message = await refusal(asked)
    assert reason is FailureReason.INSUFFICIENT_MEMORY
    assert "200 MiB" in message


async def test_a_hanging_model_is_stopped(tmp_path: Path) -> None:
    asked = request(tmp_path, classifier(), engines.Hanging, timeout_s=1.0)
    assert await refusal(asked) == (
        FailureReason.PROBE_FAILED,
        "the probe did not end within 1 s",
    )


async def test_a_busy_model_is_stopped(tmp_path: Path) -> None:
    asked = request(tmp_path, classifier(), engines.Busy, timeout_s=1.0)
    reason, _ = await refusal(asked)
    assert reason is FailureReason.PROBE_FAILED


async def test_what_an_engine_prints_is_no_verdict(tmp_path: Path) -> None:
    reason, message = await refusal(request(tmp_path, classifier(), engines.Chatty))
    assert (reason, message) == (FailureReason.INVALID_MODEL, "it was the model")


async def test_the_child_sees_little_of_the_environment(tmp_path: Path) -> None:
    with environment(SKERRY_SECRET="x", AWS_SECRET_ACCESS_KEY="x"):  # noqa: S106 (made up)
        _, message = await refusal(request(tmp_path, classifier(), engines.Curious))
    assert "SECRET" not in message
    assert "PYTHONPATH" in message


def test_devices_are_still_found() -> None:
    kept = child_environment({"CUDA_VISIBLE_DEVICES": "0", "TOKEN": "x"})
    assert kept["CUDA_VISIBLE_DEVICES"] == "0"
    assert "TOKEN" not in kept


async def test_a_cancelled_probe_leaves_no_child(tmp_path: Path) -> None:
    before = children()
    task = asyncio.create_task(probe(request(tmp_path, classifier(), engines.Hanging), Host()))
    async with asyncio.timeout(20):
        await until(lambda: children() - before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert children() <= before


async def test_a_stand_in_for_a_device_counts_crashes_only(tmp_path: Path) -> None:
    await probe(request(tmp_path, classifier(), engines.Curious, is_stand_in=True), Host())
    reason, _ = await refusal(request(tmp_path, classifier(), engines.Crashing, is_stand_in=True))
    assert reason is FailureReason.PROBE_FAILED


async def test_cpu_time_has_a_limit_of_its_own(tmp_path: Path) -> None:
    asked = request(tmp_path, classifier(), engines.Busy, timeout_s=60.0, cpu_s=2)
    assert await refusal(asked) == (FailureReason.PROBE_FAILED, "the probe used up its CPU time")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TensorSpec("n" * 300, "FP32", (1,)), "a name of 300 characters"),
        (TensorSpec("x", "FP32", (-1, 1 << 20, 1 << 20)), "for a single sample"),
        (TensorSpec("x", "FP32", (1 << 40, 1 << 40)), "for a single sample"),
    ],
)
def test_a_model_that_no_request_could_ask_is_unservable(spec: TensorSpec, words: str) -> None:
    with pytest.raises(Unservable, match=words):
        require_servable(ModelMetadata("test", (spec,), ()))


async def test_an_engine_that_is_away_says_nothing_about_the_model(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="nobody answers") as caught:
        await probe(request(tmp_path, classifier(), engines.Away), Host())
    assert caught.value.reason is FailureReason.ENGINE_AWAY


async def test_a_model_that_ends_the_engine_is_refused(tmp_path: Path) -> None:
    reason, message = await refusal(request(tmp_path, classifier(), engines.Dying))
    assert (reason, message) == (FailureReason.PROBE_FAILED, "it ended while it loaded the file")


async def test_a_child_that_not_even_a_signal_ends_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver that hangs in the kernel keeps its process from ending."""
    monkeypatch.setattr(probing, "_END_S", 0.1)
    monkeypatch.setattr(probing, "_kill", lambda _: None)
    before = children()
    asked = request(tmp_path, classifier(), engines.Hanging, timeout_s=1.0)
    reason, _ = await refusal(asked)
    assert reason is FailureReason.PROBE_FAILED
    assert "does not end although it was killed" in caplog.text
    for pid in children() - before:
        os.kill(int(pid), signal.SIGKILL)
    await until(lambda: children() <= before)
