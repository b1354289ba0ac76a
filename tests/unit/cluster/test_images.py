"""What decides an image, and where its base comes from."""

from pathlib import Path

import pytest

from skerry_cluster import images, registry, rootfs
from skerry_cluster.command import ClusterError
from skerry_cluster.device_api import MESSAGES
from skerry_cluster.device_plugin import device_id, health
from skerry_cluster.settings import Layout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in (
        "requirements/demo.txt",
        "images/slim.py",
        "images/base.Containerfile",
        "images/demo.Containerfile",
        "demo/code.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


DEMO = images.Image("demo", ("demo",))


def test_any_changed_input_changes_the_tag(repository: Path) -> None:
    seen = {images.read_inputs(DEMO, repository).tag}
    files = sorted(path for path in repository.rglob("*") if path.is_file())
    for path in files:
        path.write_text("changed")
        seen.add(images.read_inputs(DEMO, repository).tag)
    assert len(seen) == len(files) + 1


def test_compiled_files_do_not_change_the_tag(repository: Path) -> None:
    before = images.read_inputs(DEMO, repository).tag
    cache = repository / "demo" / "__pycache__"
    cache.mkdir()
    (cache / "code.pyc").write_bytes(b"x")
    assert images.read_inputs(DEMO, repository).tag == before


def test_the_context_is_what_was_read(repository: Path, tmp_path: Path) -> None:
    inputs = images.read_inputs(DEMO, repository)
    (repository / "demo" / "code.py").write_text("changed afterwards")
    inputs.write(tmp_path / "context")
    assert (tmp_path / "context" / "demo" / "code.py").read_text() == "demo/code.py"


@pytest.mark.parametrize("image", images.IMAGES, ids=lambda image: image.name)
def test_every_image_is_built_with_the_packages_that_its_containerfile_tells_of(
    image: images.Image,
) -> None:
    recipe = images.read_inputs(image).recipe
    words = images.documented_install(recipe, target="/folder", lock="/lock.txt")
    assert words[words.index("--target") + 1] == "/folder"
    assert words[words.index("-r") + 1] == "/lock.txt"
    # Only what the lock names, byte for byte; pip's resolver would refuse the newer ml-dtypes.
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(words)
    assert len(words) == 8


@pytest.mark.parametrize("recipe", ["FROM scratch", "# pip install -r a.txt", "pip install a"])
def test_a_containerfile_that_tells_of_no_packages_is_refused(recipe: str) -> None:
    with pytest.raises(ClusterError, match="tells of no"):
        images.documented_install(recipe, target="a", lock="b")


def test_images_for_special_hardware_are_built_only_when_asked_for() -> None:
    def names(only: str | None, *, everything: bool = False) -> list[str]:
        return [image.name for image in images.choose(only, everything=everything)]

    assert names(None) == ["runtime", "operator"]
    assert names("runtime-openvino") == ["runtime-openvino"]
    assert names(None, everything=True) == ["runtime", "runtime-openvino", "optimize", "operator"]
    assert names("tritonserver-python-test") == ["tritonserver-python-test"]


def test_an_image_whose_name_begins_another_s_leaves_its_archives(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state", tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()
    tags = [f"{number:012x}" for number in range(images.KEPT_ARCHIVES + 1)]
    for name in ("demo", "demo-large"):
        for tag in tags:
            (folder / f"{name}-{tag}.tar").touch()
    (old,) = images.old_archives(layout, DEMO)
    assert old.name in {f"demo-{tag}.tar" for tag in tags}


@pytest.mark.parametrize(
    ("address", "reference"),
    [
        ("registry.example:5000", "registry.example:5000/skerry/demo:1"),
        ("registry.example/team/edge/", "registry.example/team/edge/skerry/demo:1"),
        ("[::1]:5000", "[::1]:5000/skerry/demo:1"),
    ],
)
def test_a_registry_replaces_the_local_name(
    monkeypatch: pytest.MonkeyPatch, address: str, reference: str
) -> None:
    monkeypatch.setenv("IMAGE_REGISTRY", address)
    target = registry.from_environment()
    assert target is not None
    assert target.reference("localhost/skerry/demo:1") == reference


def test_without_a_registry_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGE_REGISTRY", raising=False)
    assert registry.from_environment() is None


def test_only_the_machine_s_debian_mirrors_are_used() -> None:
    ours = "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib"
    text = f"# deb http://a.example b main\n{ours}\ndeb http://b.example bookworm-pgdg main\n"
    assert rootfs.debian_sources(text) == ours
    assert rootfs.debian_sources("deb http://c.example/docker bookworm stable") == ""


def test_only_debian_stanzas_are_used() -> None:
    ours = (
        "Types: deb\nURIs: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main"
    )
    other = "Types: deb\nURIs: http://b.example\nSuites: nodistro\nComponents: main"
    assert rootfs.debian_stanzas(f"{other}\n\n# note\n{ours}\n") == ours


def test_device_messages_survive_the_wire() -> None:
    device = MESSAGES["Device"](
        ID=device_id("node-a", "simulated.skerry.dev/npu"), health="Healthy"
    )
    sent = MESSAGES["ListAndWatchResponse"](devices=[device]).SerializeToString()
    assert sent == b"\n!\n\x16simulated-npu-node-a-0\x12\x07Healthy"
    envs = {"SKERRY_SIMULATED_DEVICE": "x"}
    answer = MESSAGES["ContainerAllocateResponse"](envs=envs)
    assert dict(type(answer).FromString(answer.SerializeToString()).envs) == envs


def test_a_device_is_lost_while_the_mark_exists(tmp_path: Path) -> None:
    mark = tmp_path / "lost"
    assert health(mark) == "Healthy"
    mark.touch()
    assert health(mark) == "Unhealthy"
