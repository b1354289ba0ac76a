"""A real Triton server beside the agent: models come and go by explicit model control.

The server is the one in the package nvidia-pytriton. It has the Python backend only, so its backend
`onnxruntime` is a stand-in; the flags are those that a pod has, and the configuration of a model is
that which NVIDIA's gets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton

from ports import free_port
from serving import models
from serving.tritonserver import IS_POSSIBLE, Server, assemble
from skerry_runtime.backends.base import (
    EngineAway,
    EngineDied,
    LoadError,
    LoadRequest,
    ProviderMissing,
    TensorSpec,
)
from skerry_runtime.backends.engines import backend_of
from skerry_runtime.backends.triton import TritonBackend, configuration, described
from skerry_runtime.backends.tritonserver import CUDA, TENSORRT, Place
from skerry_runtime.contract import Engine, Execution, Format, RevisionContent
from skerry_runtime.errors import InferenceFailed, InvalidRequest
from unit.runtime.agent.conftest import source  # noqa: F401 (a fixture)
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, golden

CPU = Execution(profile="cpu")
INPUT = {"x": np.ones((2, 4), np.float32)}
ANSWER = [[18, 22, 26]] * 2

pytestmark = pytest.mark.skipif(
    not IS_POSSIBLE, reason="the server's Python backend needs the system's Python 3.11 on x86-64"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The server's program, and the packages that it needs."""
    folder = tmp_path_factory.mktemp("tritonserver") / "server"
    return folder, assemble(folder)


@pytest.fixture(scope="module")
def server(
    program: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Start the server; it and its children end with the test."""
    server = Server(*program, tmp_path_factory.mktemp("repository"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def backend(server: Server) -> Iterator[TritonBackend]:
    """The engine; what a test leaves in the server goes with it."""
    yield TritonBackend(server.place)
    TritonBackend(server.place).sweep()


def request(path: Path, execution: Execution = CPU) -> LoadRequest:
    return LoadRequest(path, Format.ONNX, execution, threads=1)


def test_a_model_is_described_answered_and_unloaded(
    tmp_path: Path, backend: TritonBackend, server: Server
) -> None:
    model = backend.load(request(models.product(tmp_path / "m.onnx")))
    assert model.metadata.platform == "triton_onnxruntime_onnx"
    assert model.metadata.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert {spec.name for spec in model.metadata.outputs} == {"y", "z"}
    answer = model.infer(INPUT, ["y"])
    assert {name: array.tolist() for name, array in answer.items()} == {"y": ANSWER}
    assert not model.is_lost()
    model.close()
    assert server.loaded() == set()
    assert server.files() == set()
    with pytest.raises(InferenceFailed, match="closed"):
        model.infer(INPUT)


def test_the_model_file_is_neither_copied_nor_given_a_second_name(
    tmp_path: Path, backend: TritonBackend, server: Server
) -> None:
    path = models.product(tmp_path / "m.onnx")
    model = backend.load(request(path))
    (folder,) = server.repository.iterdir()
    assert (folder / "1" / "model.onnx").readlink() == path
    assert path.stat().st_nlink == 1
    model.close()
    assert path.exists()


def test_two_models_of_one_file_are_there_side_by_side(
    tmp_path: Path, backend: TritonBackend
) -> None:
    path = models.product(tmp_path / "m.onnx")
    one, other = (backend.load(request(path)) for _ in range(2))
    one.close()
    assert other.infer(INPUT)["y"].tolist() == ANSWER


def test_a_failed_inference_is_told_and_the_next_is_answered(
    tmp_path: Path, backend: TritonBackend
) -> None:
    model = backend.load(request(models.gather(tmp_path / "m.onnx")))
    with pytest.raises(InvalidRequest, match="out of data bounds"):
        model.infer({"index": np.array([7], np.int64)})
    assert model.infer({"index": np.array([1], np.int64)})["y"].tolist() == [2]


def test_a_file_that_cannot_be_loaded_leaves_nothing(
    tmp_path: Path, backend: TritonBackend, server: Server
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(LoadError, match="cannot load the file") as failed:
        backend.load(request(tmp_path / "m.onnx"))
    assert not isinstance(failed.value, EngineAway)
    assert server.files() == set()


def test_a_cpu_in_place_of_the_accelerator_is_refused_or_visible(
    tmp_path: Path, backend: TritonBackend, server: Server
) -> None:
    path = models.product(tmp_path / "m.onnx")
    wanted = Execution(profile="gpu", providers=(CUDA,), fallback=False)
    with pytest.raises(ProviderMissing, match=r"no GPUs are available.*fallback is forbidden"):
        backend.load(request(path, wanted))
    assert server.files() == set()
    model = backend.load(request(path, wanted.model_copy(update={"fallback": True})))
    assert model.infer(INPUT)["y"].tolist() == ANSWER
    assert (model.acceleration.effective, model.acceleration.delegated_percent) == (
        "CPUExecutionProvider",
        0,
    )
    assert "no GPUs are available" in model.acceleration.reason


def test_an_accelerator_that_triton_does_not_know_is_no_gpu(
    tmp_path: Path, backend: TritonBackend
) -> None:
    wanted = Execution(profile="npu", providers=("HailoExecutionProvider",), fallback=False)
    with pytest.raises(ProviderMissing, match="Triton has no HailoExecutionProvider"):
        backend.load(request(models.product(tmp_path / "m.onnx"), wanted))


def test_the_configuration_asks_for_gpu_tensorrt_and_threads() -> None:
    text = configuration((TENSORRT, CUDA), threads=3)
    assert "KIND_GPU" in text
    assert 'name: "tensorrt"' in text
    assert 'key: "intra_op_thread_count" value: { string_value: "3" }' in text
    assert "tensorrt" not in configuration((CUDA,), threads=1)
    assert "KIND_CPU" in configuration((), threads=1)


def test_a_tensor_that_does_not_pass_to_the_server_is_refused_with_the_model() -> None:
    tensor = {"name": "x", "datatype": "BF16", "shape": ["-1", "4"]}
    with pytest.raises(LoadError, match="FP16 or FP32"):
        described({"inputs": [tensor]})
    assert described({"inputs": [tensor | {"datatype": "FP16"}]}).inputs == (
        TensorSpec("x", "FP16", (-1, 4)),
    )


def test_a_server_that_is_away_is_not_the_files_fault(tmp_path: Path) -> None:
    away = Place(f"127.0.0.1:{free_port()}", tmp_path / "repository", start_s=0.3)
    with pytest.raises(EngineAway, match=r"does not answer after 0\.3 s: see the log"):
        TritonBackend(away).load(request(models.product(tmp_path / "m.onnx")))
    assert not (tmp_path / "repository").exists()


def test_a_server_offers_no_shared_memory_and_takes_no_other_address(server: Server) -> None:
    with triton.InferenceServerClient(server.place.url) as client:
        with pytest.raises(triton.InferenceServerException, match="restricted"):
            client.register_system_shared_memory("region", "/region", 4)
        with pytest.raises(triton.InferenceServerException, match="restricted"):
            client.update_log_settings({"log_verbose_level": 1})


def test_a_sweep_takes_what_others_left_and_keeps_what_is_ours(
    tmp_path: Path, backend: TritonBackend, server: Server
) -> None:
    path = models.product(tmp_path / "m.onnx")
    TritonBackend(server.place).load(request(path))  # an earlier life's
    ours = backend.load(request(path))
    (server.repository / "half-written").mkdir()
    assert len(server.loaded()) == 2
    backend.sweep()
    assert len(server.files()) == len(server.loaded()) == 1
    assert ours.infer(INPUT)["y"].tolist() == ANSWER


@pytest.fixture
def own_server(program: tuple[Path, Path], tmp_path: Path) -> Iterator[Server]:
    """A server that the test may end."""
    (tmp_path / "pod" / "triton").mkdir(parents=True)
    server = Server(*program, tmp_path / "pod" / "triton")
    try:
        yield server
    finally:
        server.kill()


def test_a_server_that_ends_while_it_loads_a_file_is_told_from_one_that_is_away(
    tmp_path: Path, own_server: Server
) -> None:
    own_server.start()
    backend = TritonBackend(own_server.place)

    def end_it() -> None:
        while not own_server.files():
            time.sleep(0.001)
        own_server.kill()

    with ThreadPoolExecutor(1) as thread:
        ending = thread.submit(end_it)
        with pytest.raises(EngineDied, match="ended while it loaded the file"):
            backend.load(request(models.product(tmp_path / "m.onnx")))
        ending.result()
    assert own_server.files() == set()


def test_a_slow_server_has_its_models_and_a_silent_one_has_not(
    tmp_path: Path, backend: TritonBackend, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = backend.load(request(models.product(tmp_path / "m.onnx")))
    server.pause(on=True)
    try:
        assert not model.is_lost()
        with monkeypatch.context() as short:
            short.setattr("skerry_runtime.backends.triton.SILENCE_S", 0.0)
            assert model.is_lost()
    finally:
        server.pause(on=False)
    assert not model.is_lost()


@pytest.fixture
def told(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pod's environment says; the probe's child reads it too."""
    monkeypatch.setenv("SKERRY_TRITON_URL", own_server.place.url)
    monkeypatch.setenv("SKERRY_TRITON_REPOSITORY", str(own_server.repository))


@pytest.fixture
async def pod(tmp_path: Path, told: None) -> AsyncIterator[Pod]:
    tuning = FAST.model_copy(update={"settle_s": 0.5})
    async with Pod(tmp_path / "pod", backend_of(Engine.TRITON), tuning) as one:
        yield one


def examined(source: Source, name: str, body: bytes) -> RevisionContent:  # noqa: F811
    exam = golden()
    exam_uri = source.add("golden.npz", exam)
    return content(body, source.add(name, body), exam=exam, exam_uri=exam_uri)


def answers(pod: Pod) -> bool:
    """Tell whether the serving model is right about a small question."""
    with pod.registry.acquire() as serving:
        scores = serving.model.infer({"x": np.eye(4, dtype=np.float32)[2:3]})["scores"]
        return int(scores.argmax()) == 2


async def test_models_are_swapped_a_bad_one_is_refused_and_a_lost_one_comes_back(
    pod: Pod,
    own_server: Server,
    source: Source,  # noqa: F811
) -> None:
    revisions = {
        "v1": examined(source, "v1", classifier()),
        "v2": examined(source, "v2", classifier(batch=1)),
        "wrong": examined(source, "wrong", classifier(bias=1)),
        "broken": examined(source, "broken", classifier()[:-40]),
    }
    pod.mount.assign("v1", revisions)
    # the server is not there yet: nobody is refused for that
    await pod.until(lambda s: s.progress and s.progress.reason == "EngineAway")
    own_server.start()
    for revision in ("v1", "v2"):
        pod.mount.assign(revision, revisions)
        status = await pod.until_serving(revision)
        assert status.serving
        assert status.serving.exam
        assert status.serving.exam.value == 1.0
    assert status.failures == ()
    await pod.until(lambda _: len(own_server.loaded()) == len(own_server.files()) == 1)

    for revision, reason in (("wrong", "ExamFailed"), ("broken", "InvalidModel")):
        pod.mount.assign(revision, revisions)
        status = await pod.until_failed(revision)
        assert status.progress
        assert status.progress.reason == reason
        assert pod.revision == "v2"
        assert answers(pod)
    await pod.until(lambda _: len(own_server.loaded()) == len(own_server.files()) == 1)

    pod.mount.assign("v2", revisions)
    before = pod.status.last_swap
    own_server.kill()
    await pod.until(lambda s: s.serving is None)
    assert pod.registry.current is None  # so the pod is not ready
    own_server.start()
    status = await pod.until_serving("v2")
    assert answers(pod)
    assert status.failures[0].revision != "v2"
    assert status.last_swap
    assert status.last_swap != before
    assert status.last_swap.outage_ms > 0
    await pod.until(lambda _: len(own_server.loaded()) == len(own_server.files()) == 1)
