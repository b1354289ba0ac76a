"""Build the images and bring them to the nodes.

A reference carries the hash of all that went in, so an image is built and loaded only once.
"""

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from skerry_cluster import buildah, cluster, external, handover, packages, registry, rootfs
from skerry_cluster.command import ClusterError, run
from skerry_cluster.node import Node
from skerry_cluster.progress import say, step
from skerry_cluster.settings import REPOSITORY, Layout
from skerry_cluster.tools import cache_key

EXPORTS = REPOSITORY / "build" / "images"
"""Where the archives lie that somebody takes to the nodes; no part of the cache, which forgets."""
KEPT_ARCHIVES = 4
"""How many archives of one image stay in the cache: each is some 100 MB."""
TAG_LENGTH = 12
_BASE_PYTHON = (3, 11)


@dataclass(frozen=True)
class Image:
    """One image and what it is made of."""

    name: str
    """Short name; also names its lock file."""
    code: tuple[str, ...]
    """Files and folders of the repository that it holds."""
    recipe: str = ""
    """Name of its Containerfile; empty: the image's own."""
    is_extra: bool = False
    """Built only when it is named, or all are: large, and not every cluster needs it."""
    is_for_tests: bool = False
    """Built only when it is named."""
    machine_files: Mapping[str, str] = field(default_factory=dict)
    """File of this machine that goes in beside the locked packages -> Debian package that brings
    it; the base has no package manager."""

    @property
    def containerfile(self) -> str:
        """Its Containerfile, in the folder images."""
        return f"{self.recipe or self.name}.Containerfile"


IMAGES = (
    Image("runtime", ("runtime/skerry_runtime",)),
    Image("runtime-openvino", ("runtime/skerry_runtime",), recipe="runtime", is_extra=True),
    Image("optimize", ("runtime/skerry_runtime", "runtime/skerry_optimize"), is_extra=True),
    Image(
        "tritonserver-python-test",
        ("images/tritonserver_python_test.py", "tests/serving/onnxruntime_stand_in"),
        is_for_tests=True,
        machine_files=packages.LIBPYTHON,
    ),
    Image(
        "operator",
        (
            "operator/skerry_operator",
            "runtime/skerry_runtime/__init__.py",
            "runtime/skerry_runtime/contract",
            "runtime/skerry_runtime/tickets.py",
        ),
    ),
)


@dataclass(frozen=True)
class Inputs:
    """One reading of everything that decides an image, so that code and tag cannot differ."""

    image: Image
    """What is to be built."""
    files: dict[str, bytes]
    """Path in the repository -> content."""

    @property
    def lock(self) -> bytes:
        """The locked dependencies."""
        return self.files[f"requirements/{self.image.name}.txt"]

    @property
    def recipe(self) -> str:
        """The Containerfile."""
        return self.files[f"images/{self.image.containerfile}"].decode()

    @property
    def tag(self) -> str:
        """The image's tag: a hash of its inputs."""
        return cache_key(self.files, rootfs.key(), platform.machine())[:TAG_LENGTH]

    @property
    def local(self) -> str:
        """The image's name on the nodes."""
        return _local(self.image.name, self.tag)

    def write(self, folder: Path) -> None:
        """Write the files as a build context, with a fixed time."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (0, 0))


def _local(name: str, tag: str) -> str:
    return f"localhost/skerry/{name}:{tag}"


def read_inputs(image: Image, repository: Path = REPOSITORY) -> Inputs:
    """Read what goes into an image, without compiled files."""
    found: dict[str, bytes] = {}
    support = ("slim.py", "base.Containerfile", image.containerfile)
    names = [f"requirements/{image.name}.txt", *(f"images/{name}" for name in support)]
    for name in (*names, *image.code):
        start = repository / name
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found[str(path.relative_to(repository))] = path.read_bytes()
    return Inputs(image, found)


def choose(only: str | None, *, everything: bool) -> list[Image]:
    """Return the images that are meant: the named one, all, or those that every cluster needs."""
    if only is not None:
        return [image for image in IMAGES if image.name == only]
    usual = [image for image in IMAGES if not image.is_for_tests]
    return [image for image in usual if everything or not image.is_extra]


def command(layout: Layout, images: list[Image], *, only_print: bool) -> int:
    """Build, deliver and print the references."""
    target = registry.from_environment()
    chosen = [read_inputs(image) for image in images]
    if not only_print:
        deliver(layout, chosen, target)
    name = target.reference if target else str
    print(json.dumps({inputs.image.name: name(inputs.local) for inputs in chosen}))
    return 0


def deliver(layout: Layout, chosen: list[Inputs], target: registry.Registry | None) -> None:
    """Bring images to the registry, else into the nodes of the local cluster.

    Nodes of any other cluster only its owner can reach, and is told how.
    """
    if os.geteuid() != 0:
        raise ClusterError("building images makes file systems with owners: run it as root")
    if target is not None:
        for inputs in chosen:
            _push(layout, inputs, target)
        pushed = {inputs.image.name: target.reference(inputs.local) for inputs in chosen}
        if command := handover.helm_command(pushed):
            say(f"to use them: {command}")
        return
    archives = [ensure_archive(layout, inputs) for inputs in chosen]
    nodes = [item for item in cluster.present_nodes(layout) if item.find("containerd")]
    if external.kubeconfig(layout) is not None:
        _hand_over("KUBECONFIG names a cluster of your own", chosen, archives)
    elif not nodes:
        _hand_over("no local cluster runs", chosen, archives)
    else:
        for inputs, archive in zip(chosen, archives, strict=True):
            _load(nodes, inputs, archive)


def ensure_archive(layout: Layout, inputs: Inputs) -> Path:
    """Build the image unless the cache has it; return its archive."""
    folder, name = layout.cache / "images", inputs.image.name
    archive = folder / f"{name}-{inputs.tag}.tar"
    if archive.exists():
        os.utime(archive)
        say(f"image {name}: {inputs.local} is built already")
        return archive
    packages.install(packages.IMAGES)
    folder.mkdir(parents=True, exist_ok=True)
    with buildah.unmounted(layout):
        base = _ensure_base(layout)
    libraries = ensure_libraries(layout, inputs)
    building = step(f"image {name}: building {inputs.local}")
    with buildah.unmounted(layout), building, TemporaryDirectory() as context:
        inputs.write(Path(context))
        arguments = (f"--build-arg=BASE={base}", f"--build-context=packages={libraries}")
        file = Path(context) / "images" / inputs.image.containerfile
        buildah.build(layout, file, inputs.local, Path(context), *arguments)
        buildah.save(layout, inputs.local, archive)
    say(f"image {name}: {archive.stat().st_size / 1e6:.0f} MB uncompressed")
    _forget_old(layout, inputs.image)
    return archive


def _ensure_base(layout: Layout) -> str:
    name = f"localhost/skerry/base:{rootfs.key()}"
    if buildah.has(layout, name):
        return name
    archive = rootfs.ensure(layout)
    with step("base image"):
        file = REPOSITORY / "images" / "base.Containerfile"
        buildah.build(layout, file, name, archive.parent, f"--build-arg=ROOTFS={archive.name}")
    return name


def ensure_libraries(layout: Layout, inputs: Inputs) -> Path:
    """Install the locked dependencies into a folder, with this machine's pip and its mirrors.

    Raises:
        ClusterError: if this Python is not of the version that the base has.
    """
    if sys.version_info[:2] != _BASE_PYTHON:
        raise ClusterError("building images needs Python 3.11, as in the base image")
    name = inputs.image.name
    key = cache_key({"lock": inputs.lock}, platform.machine(), "")[:12]
    folder = layout.cache / "packages" / f"{name}-{key}"
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    with step(f"image {name}: installing the locked dependencies"), TemporaryDirectory() as place:
        lock = Path(place) / "lock.txt"
        lock.write_bytes(inputs.lock)
        install = documented_install(inputs.recipe, target=str(partial), lock=str(lock))
        run(sys.executable, "-m", "pip", "install", "--quiet", *install)
    _copy_from_machine(inputs.image, partial)
    partial.rename(folder)
    return folder


def documented_install(recipe: str, *, target: str, lock: str) -> list[str]:
    """Return the arguments of the `pip install` that a Containerfile tells people to run.

    So that there is one way only: what the cluster builds is what is documented.

    Raises:
        ClusterError: it tells of none with a folder and a lock file.
    """
    found = re.search(r"^# +pip install ((?:.*\\\n)*.*)", recipe, re.MULTILINE)
    words = re.sub(r"\\\n#", " ", found[1]).split() if found else []
    if words.count("--target") != 1 or words.count("-r") != 1:
        raise ClusterError("the Containerfile tells of no `pip install --target FOLDER -r LOCK`")
    words[words.index("--target") + 1] = target
    words[words.index("-r") + 1] = lock
    return words


def _copy_from_machine(image: Image, libraries: Path) -> None:
    packages.install(dict(image.machine_files))
    for file in image.machine_files:
        target = libraries / "machine" / Path(file).name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)


def _forget_old(layout: Layout, image: Image) -> None:
    for archive in old_archives(layout, image):
        archive.unlink()
        buildah.forget(layout, _local(image.name, archive.stem.removeprefix(f"{image.name}-")))


def old_archives(layout: Layout, image: Image) -> list[Path]:
    """Return an image's archives but the newest; not those of `runtime-openvino` for `runtime`."""
    found = (layout.cache / "images").glob(f"{image.name}-{'?' * TAG_LENGTH}.tar")
    return sorted(found, key=lambda path: path.stat().st_mtime)[:-KEPT_ARCHIVES]


def _push(layout: Layout, inputs: Inputs, target: registry.Registry) -> None:
    """Push an image, unless the registry has it; then it need not even be built."""
    reference = target.reference(inputs.local)
    if target.has(reference):
        say(f"image {inputs.image.name}: {reference} is there already")
        return
    archive = ensure_archive(layout, inputs)
    packages.install(packages.IMAGES)
    with step(f"image {inputs.image.name}: pushing {reference}"):
        target.push(layout, archive, inputs.local)


def _hand_over(why: str, chosen: list[Inputs], archives: list[Path]) -> None:
    files = [handover.export(archive, EXPORTS) for archive in archives]
    references = {inputs.image.name: inputs.local for inputs in chosen}
    for line in handover.instructions(why, files, references):
        say(line)


def _load(nodes: list[Node], inputs: Inputs, archive: Path) -> None:
    """Load an image into every node of the local cluster that lacks it."""
    lacking = [item for item in nodes if not item.has_image(inputs.local)]
    if lacking:
        names = ", ".join(item.spec.name for item in lacking)
        with step(f"image {inputs.image.name}: loading into {names}"):
            cluster.in_parallel(lacking, lambda item: item.import_image(archive))
