"""Images on their way to a real registry, and what is said when it is not there."""

from __future__ import annotations

import json
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_command import MAIN, Done, cluster_command
from local_registry import Registry, free_address, running_registry
from skerry_cluster.settings import Layout

pytestmark = pytest.mark.integration
ENTRYPOINTS = {
    "operator": ["python3", "-m", "skerry_operator"],
    "runtime": ["python3", "-m", "skerry_runtime"],
}


@pytest.fixture(scope="module", autouse=True)
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work on a copy of the sources: an edit during the tests would be another image."""
    copy = tmp_path_factory.mktemp("tree")
    compiled = shutil.ignore_patterns("__pycache__")
    for name in ("hack/cluster", "images", "requirements", "operator", "runtime"):
        shutil.copytree(MAIN.parents[2] / name, copy / name, ignore=compiled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster_command.MAIN", copy / "hack/cluster/main.py")
        yield


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def settings(registry: Registry) -> dict[str, str]:
    return {"IMAGE_REGISTRY": registry.address, "IMAGE_REGISTRY_INSECURE": "1"}


@pytest.fixture(scope="module")
def pushed(settings: dict[str, str]) -> dict[str, str]:
    """Push both images; return their references."""
    return references(cluster_command("images", **settings))


def references(done: Done) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def built_config(name: str, tag: str) -> str:
    """The digest of the image's configuration in the archive that nodes load."""
    archive = Layout.from_environment().cache / "images" / f"{name}-{tag}.tar"
    with tarfile.open(archive) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        config: str = json.load(member)[0]["Config"]
    return f"sha256:{config.removesuffix('.json')}"


@pytest.mark.parametrize("name", ["operator", "runtime"])
def test_a_pushed_image_can_be_pulled_and_is_what_was_built(
    registry: Registry, pushed: dict[str, str], name: str
) -> None:
    repository, _, tag = pushed[name].removeprefix(f"{registry.address}/").rpartition(":")
    manifest = registry.pull(f"{repository}/manifests/{tag}")
    assert manifest.is_whole
    assert registry.pull(f"{repository}/manifests/{manifest.digest}") == manifest

    described = manifest.json()["config"]
    config = registry.pull(f"{repository}/blobs/{described['digest']}")
    assert config.is_whole
    assert config.digest == described["digest"] == built_config(name, tag)
    assert len(config.content) == described["size"]
    assert config.json()["config"]["Entrypoint"] == ENTRYPOINTS[name]
    assert config.json()["config"]["User"] == "65532:65532"


def test_every_layer_of_a_pushed_image_is_there_and_whole(
    registry: Registry, pushed: dict[str, str]
) -> None:
    repository, _, tag = pushed["operator"].removeprefix(f"{registry.address}/").rpartition(":")
    layers = registry.pull(f"{repository}/manifests/{tag}").json()["layers"]
    assert layers
    for layer in layers:
        blob = registry.pull(f"{repository}/blobs/{layer['digest']}")
        assert blob.is_whole
        assert len(blob.content) == layer["size"]


def test_the_printed_references_are_those_of_the_registry(
    registry: Registry, settings: dict[str, str], pushed: dict[str, str]
) -> None:
    assert references(cluster_command("images", "--print", **settings)) == pushed
    for name, reference in pushed.items():
        assert reference.startswith(f"{registry.address}/skerry/{name}:")
    local = references(cluster_command("images", "--print"))
    tags = {name: reference.rpartition(":")[2] for name, reference in pushed.items()}
    assert local == {name: f"localhost/skerry/{name}:{tag}" for name, tag in tags.items()}


def test_a_second_run_writes_nothing_to_the_registry(
    registry: Registry, settings: dict[str, str], pushed: dict[str, str]
) -> None:
    before = registry.writes()
    assert before > 0
    done = cluster_command("images", **settings)
    assert references(done) == pushed
    assert done.stderr.count("is there already") == 2
    assert registry.writes() == before


def test_a_folder_in_the_registry_is_a_place_of_its_own(
    registry: Registry, settings: dict[str, str], pushed: dict[str, str]
) -> None:
    inside = settings | {"IMAGE_REGISTRY": f"{registry.address}/team/edge"}
    found = references(cluster_command("images", "--only", "operator", **inside))
    tag = pushed["operator"].rpartition(":")[2]
    assert found == {"operator": f"{registry.address}/team/edge/skerry/operator:{tag}"}
    moved = registry.pull(f"team/edge/skerry/operator/manifests/{tag}")
    assert moved == registry.pull(f"skerry/operator/manifests/{tag}")


def test_a_machine_whose_buildah_has_no_storage_yet_can_push(
    registry: Registry, settings: dict[str, str], pushed: dict[str, str], tmp_path: Path
) -> None:
    tag = pushed["operator"].rpartition(":")[2]
    archive = Layout.from_environment().cache / "images" / f"operator-{tag}.tar"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / archive.name).symlink_to(archive)
    fresh = settings | {
        "IMAGE_REGISTRY": f"{registry.address}/fresh",
        "SKERRY_CACHE_DIR": str(tmp_path),
    }
    try:
        references(cluster_command("images", "--only", "operator", **fresh))
        moved = registry.pull(f"fresh/skerry/operator/manifests/{tag}")
        assert moved == registry.pull(f"skerry/operator/manifests/{tag}")
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    finally:
        shutil.rmtree(tmp_path / "buildah")


def test_an_address_at_which_nothing_listens_is_said_to_be_so() -> None:
    address = free_address()
    done = cluster_command("images", IMAGE_REGISTRY=address, IMAGE_REGISTRY_INSECURE="1")
    assert done.returncode == 1
    assert f"no registry answers at IMAGE_REGISTRY={address}" in done.stderr
    assert "check host and port" in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_http_without_permission_is_refused_with_the_remedy(registry: Registry) -> None:
    done = cluster_command("images", IMAGE_REGISTRY=registry.address)
    assert done.returncode == 1
    assert "does not speak TLS" in done.stderr
    assert "IMAGE_REGISTRY_INSECURE=1" in done.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:5000", "127.0.0.1:x", "a b", "x/UPPER"])
@pytest.mark.parametrize("words", [["images"], ["images", "--print"]])
def test_what_is_no_address_is_refused(address: str, words: list[str]) -> None:
    done = cluster_command(*words, IMAGE_REGISTRY=address)
    assert done.returncode == 1
    assert "HOST[:PORT]" in done.stderr
    assert done.stdout == ""


@pytest.fixture
def stubborn() -> Iterator[str]:
    """A server that answers every request, and allows nothing."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_registry_that_refuses_is_quoted_and_a_login_is_proposed(
    stubborn: str, pushed: dict[str, str]
) -> None:
    words = ("images", "--only", "operator")
    done = cluster_command(*words, IMAGE_REGISTRY=stubborn, IMAGE_REGISTRY_INSECURE="1")
    assert done.returncode == 1
    assert f"buildah login {stubborn}" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_stays_mounted_after_a_push(pushed: dict[str, str]) -> None:
    storage = str(Layout.from_environment().cache / "buildah")
    assert storage not in Path("/proc/self/mountinfo").read_text()
