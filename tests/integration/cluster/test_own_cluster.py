"""A user's own cluster: it is found and named, and neither started nor taken down."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bare_api import bare_api
from binaries import find
from cluster_command import Done, cluster_command
from skerry_cluster.handover import K3S_IMAGES
from skerry_cluster.settings import KUBERNETES_VERSION

pytestmark = pytest.mark.integration
_SERVER = re.compile(r"server: \"?(https://[0-9.:]+)")


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with bare_api(tmp_path_factory.mktemp("api")) as path:
        yield path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of the test's own: what would be started would show here."""
    return tmp_path / "state"


def run(*words: str, state: Path, kubeconfig: Path | str, **settings: str) -> Done:
    return cluster_command(
        *words, KUBECONFIG=str(kubeconfig), SKERRY_CLUSTER_DIR=str(state), **settings
    )


def server_of(kubeconfig: Path) -> str:
    found = _SERVER.search(kubeconfig.read_text())
    assert found is not None
    return found[1]


def test_up_says_which_server_it_found_and_starts_nothing(kubeconfig: Path, state: Path) -> None:
    done = run("up", state=state, kubeconfig=kubeconfig)
    assert done.returncode == 0, done.stderr
    assert f"using the cluster at {server_of(kubeconfig)}, starting none" in done.stderr
    assert KUBERNETES_VERSION in done.stderr
    assert not state.exists()


def test_down_leaves_it_alone(kubeconfig: Path, state: Path) -> None:
    marked = state / "nodes" / "node-a"
    marked.mkdir(parents=True)
    done = run("down", state=state, kubeconfig=kubeconfig)
    assert done.returncode == 0, done.stderr
    assert "left alone" in done.stderr
    assert marked.is_dir()
    assert run("up", state=state, kubeconfig=kubeconfig).returncode == 0


def test_its_kubeconfig_is_the_one_that_others_get(kubeconfig: Path, state: Path) -> None:
    done = run("kubeconfig", state=state, kubeconfig=kubeconfig)
    assert done.stdout.strip() == str(kubeconfig)


def test_a_server_that_does_not_answer_is_named_with_a_remedy(
    kubeconfig: Path, state: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "kubeconfig"
    gone = "https://127.0.0.1:1"
    silent.write_text(kubeconfig.read_text().replace(server_of(kubeconfig), gone))
    done = run("up", state=state, kubeconfig=silent)
    assert done.returncode == 1
    assert f"the cluster at {gone} does not answer" in done.stderr
    assert "unset KUBECONFIG" in done.stderr
    assert "Traceback" not in done.stderr
    assert not state.exists()


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("/nowhere/kubeconfig", "there is no such file"),
        ("/nowhere/a:/nowhere/b", "names several files"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused(
    state: Path, value: str, complaint: str
) -> None:
    done = run("up", state=state, kubeconfig=value)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "unset KUBECONFIG" in done.stderr


def test_a_file_that_is_no_kubeconfig_is_refused(state: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("buy milk")
    done = run("up", state=state, kubeconfig=wrong)
    assert done.returncode == 1
    assert f"KUBECONFIG={wrong} cannot be used" in done.stderr


def names_in(archive: Path) -> list[str]:
    """Return the names of the image in an archive, as a node's containerd will read them."""
    with tarfile.open(archive) as opened:
        found = opened.extractfile("manifest.json")
        assert found is not None
        return [name for image in json.load(found) for name in image["RepoTags"]]


def files_of(done: Done) -> list[Path]:
    return [Path(file) for file in re.findall(r"^.*?(/\S+\.tar)$", done.stderr, re.M)]


def test_images_are_left_as_files_with_the_commands_that_take_them_into_use(
    kubeconfig: Path, state: Path
) -> None:
    done = run("images", state=state, kubeconfig=kubeconfig)
    assert done.returncode == 0, done.stderr
    files = files_of(done)
    assert all(file.is_file() for file in files)
    assert f"install -D -t {K3S_IMAGES} {files[0].name} {files[1].name}" in done.stderr
    assert "IMAGE_REGISTRY=HOST:PORT" in done.stderr
    tags = {name: ref.rpartition(":")[2] for name, ref in json.loads(done.stdout).items()}
    assert [file.stem for file in files] == [f"skerry-{name}-{tag}" for name, tag in tags.items()]
    for name, tag in tags.items():
        assert names_in(files[list(tags).index(name)]) == [f"localhost/skerry/{name}:{tag}"]
    typed = f"--set-string image.tag={tags['operator']}"
    assert typed in done.stderr
    assert f"--set-string runtimeImage.tag={tags['runtime']}" in done.stderr
    assert not state.exists()


def test_images_are_left_as_files_where_no_cluster_runs(state: Path) -> None:
    done = cluster_command("images", "--only", "operator", SKERRY_CLUSTER_DIR=str(state))
    assert done.returncode == 0, done.stderr
    assert "no local cluster runs" in done.stderr
    (file,) = files_of(done)
    assert file.name.startswith("skerry-operator-")


def test_the_user_s_own_kubectl_and_helm_are_used(
    kubeconfig: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("kubectl", "helm"):
        (programs / name).symlink_to(find(name))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    done = run("tools", state=state, kubeconfig=kubeconfig)
    assert done.stdout.strip() == str(programs)


def test_the_address_of_this_machine_is_the_one_that_is_given(
    kubeconfig: Path, state: Path
) -> None:
    asked = run("host-address", state=state, kubeconfig=kubeconfig)
    assert asked.returncode == 1
    assert "SKERRY_HOST_ADDRESS" in asked.stderr
    given = "192.0.2.7"
    told = run("host-address", state=state, kubeconfig=kubeconfig, SKERRY_HOST_ADDRESS=given)
    assert told.stdout.strip() == given
    local = cluster_command("host-address")
    assert local.stdout.strip().startswith("10.")
