"""A real Triton server beside the agent: models come and go by explicit model control.

The server is the one in the package nvidia-pytriton. It has the Python backend only, so a template
lets that run the file; with NVIDIA's image its ONNX backend would.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton

from serving import models
from skerry_cluster.settings import REPOSITORY, Layout
from skerry_runtime.backends.base import LoadError, LoadRequest, ProviderMissing, TensorSpec
from skerry_runtime.backends.triton import Place, TritonBackend, configuration
from skerry_runtime.contract import Execution, Format, RevisionContent
from skerry_runtime.errors import InferenceFailed
from unit.runtime.agent.conftest import source  # noqa: F401 (a fixture)
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, golden

PYTHON = Path("/usr/bin/python3.11")
"""The stub of the server's Python backend embeds exactly this one."""
PACKAGES = ("nvidia-pytriton==0.7.0", "numpy==1.26.4", "onnxruntime==1.23.2")
"""numpy 1: with 2 the backend answers empty tensors."""
MODULES = Path("lib/python3.11/site-packages")
SERVER = MODULES / "pytriton" / "tritonserver"
CPU = Execution(profile="cpu")

pytestmark = pytest.mark.skipif(
    not PYTHON.exists() or os.uname().machine != "x86_64",
    reason="the server's Python backend needs the system's Python 3.11 on x86-64",
)


@pytest.fixture(scope="session")
def packages() -> Path:
    """Install the server and what its Python backend needs, once per machine."""
    key = hashlib.sha256(repr((PACKAGES, MODULES)).encode()).hexdigest()[:12]
    folder = Layout.from_environment().cache / f"pytriton-{key}"
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    # The stub finds its modules by the python3 on its path, so the packages are an environment.
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(partial)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--target", str(partial / MODULES), *PACKAGES], check=True)
    server = partial / SERVER
    for stub in (server / "python_backend_stubs" / "3.11").iterdir():
        shutil.copy(stub, server / "backends" / "python")
    for program in (server / "bin" / "tritonserver", *(server / "backends" / "python").iterdir()):
        program.chmod(0o755)
    partial.rename(folder)
    return folder


@pytest.fixture(scope="module")
def place(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start the server; it and its children end with the test."""
    repository = tmp_path_factory.mktemp("repository")
    port = free_port()
    server = packages / SERVER
    child = subprocess.Popen(
        [
            str(server / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={server / 'backends'}",
            "--model-control-mode=explicit",
            "--allow-http=false",
            "--allow-metrics=false",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={port}",
        ],
        env={
            "PATH": f"{packages / 'bin'}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": str(packages / MODULES / "nvidia_pytriton.libs"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_ready(child, f"127.0.0.1:{port}")
        template = REPOSITORY / "tests" / "serving" / "triton_template"
        yield Place(f"127.0.0.1:{port}", repository, template)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_ready(child: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    with triton.InferenceServerClient(url) as client:
        while True:
            assert child.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server is not ready"
            try:
                if client.is_server_ready():
                    return
            except triton.InferenceServerException:
                time.sleep(0.1)


def loaded(place: Place) -> set[str]:
    with triton.InferenceServerClient(place.url) as client:
        index = client.get_model_repository_index(as_json=True).get("models", [])
    return {entry["name"] for entry in index if entry.get("state") == "READY"}


def request(path: Path, execution: Execution = CPU) -> LoadRequest:
    return LoadRequest(path, Format.ONNX, execution, threads=1)


def test_a_model_is_described_answered_and_unloaded(tmp_path: Path, place: Place) -> None:
    model = TritonBackend(place).load(request(models.product(tmp_path / "m.onnx")))
    try:
        assert model.metadata.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
        assert {spec.name for spec in model.metadata.outputs} == {"y", "z"}
        answer = model.infer({"x": np.ones((2, 4), np.float32)}, ["y"])
        assert {name: array.tolist() for name, array in answer.items()} == {"y": [[18, 22, 26]] * 2}
    finally:
        model.close()
    assert loaded(place) == set()
    assert list(place.repository.iterdir()) == []
    with pytest.raises(InferenceFailed, match="closed"):
        model.infer({"x": np.ones((1, 4), np.float32)})


def test_two_models_of_one_file_are_there_side_by_side(tmp_path: Path, place: Place) -> None:
    path = models.product(tmp_path / "m.onnx")
    one, other = (TritonBackend(place).load(request(path)) for _ in range(2))
    one.close()
    try:
        assert other.infer({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[18, 22, 26]]
    finally:
        other.close()


def test_a_failed_inference_is_told_and_the_next_is_answered(tmp_path: Path, place: Place) -> None:
    model = TritonBackend(place).load(request(models.gather(tmp_path / "m.onnx")))
    try:
        with pytest.raises(InferenceFailed, match="out of data bounds"):
            model.infer({"index": np.array([7], np.int64)})
        assert model.infer({"index": np.array([1], np.int64)})["y"].tolist() == [2]
    finally:
        model.close()


def test_a_file_that_cannot_be_loaded_leaves_nothing(tmp_path: Path, place: Place) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(LoadError, match="cannot load the file"):
        TritonBackend(place).load(request(tmp_path / "m.onnx"))
    assert list(place.repository.iterdir()) == []


def test_a_cpu_in_place_of_the_accelerator_is_refused_or_visible(
    tmp_path: Path, place: Place
) -> None:
    path = models.product(tmp_path / "m.onnx")
    wanted = Execution(profile="gpu", providers=("CUDAExecutionProvider",), fallback=False)
    with pytest.raises(ProviderMissing, match="KIND_CPU"):
        TritonBackend(place).load(request(path, wanted))
    assert list(place.repository.iterdir()) == []
    model = TritonBackend(place).load(request(path, wanted.model_copy(update={"fallback": True})))
    model.close()
    assert model.acceleration.delegated_percent == 0


def test_a_server_that_is_away_is_a_load_error(tmp_path: Path) -> None:
    away = Place(f"127.0.0.1:{free_port()}", tmp_path / "repository")
    with pytest.raises(LoadError, match="cannot load"):
        TritonBackend(away).load(request(models.product(tmp_path / "m.onnx")))


def test_the_configuration_asks_for_gpu_and_tensorrt() -> None:
    wanted = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    text = configuration(Execution(profile="nvidia-gpu", providers=wanted))
    assert "KIND_GPU" in text
    assert 'name: "tensorrt"' in text
    assert "KIND_CPU" in configuration(CPU)


@pytest.fixture
async def pod(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    monkeypatch.setenv("SKERRY_TRITON_URL", place.url)  # the probe's child reads them
    monkeypatch.setenv("SKERRY_TRITON_REPOSITORY", str(place.repository))
    monkeypatch.setenv("SKERRY_TRITON_TEMPLATE", str(place.template))
    async with Pod(tmp_path / "pod", TritonBackend(place), FAST) as one:
        yield one


async def test_a_swap_is_probed_examined_and_leaves_one_model(
    pod: Pod,
    place: Place,
    source: Source,  # noqa: F811 (as above)
) -> None:
    exam = golden()
    exam_uri = source.add("golden.npz", exam)
    revisions: dict[str, RevisionContent] = {}
    for revision, batch in (("v1", "n"), ("v2", 1)):
        body = classifier(batch=batch)
        revisions[revision] = content(
            body, source.add(revision, body), exam=exam, exam_uri=exam_uri
        )
        pod.mount.assign(revision, revisions)
        status = await pod.until_serving(revision)
        assert status.serving
        assert status.serving.exam
        assert status.serving.exam.value == 1.0
    await pod.until(lambda _: len(loaded(place)) == 1)
    last = pod.registry.switch(None)
    assert last
    last.model.close()
