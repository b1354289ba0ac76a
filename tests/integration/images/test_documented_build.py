"""The build that the Containerfiles tell people to run: its packages are complete and work."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from packaging.requirements import Requirement

from skerry_cluster import buildah, images
from skerry_cluster.settings import REPOSITORY, Layout

pytestmark = pytest.mark.integration

OVERRIDDEN = {("tritonclient", "ml-dtypes")}
"""Who asks for which package in a version that the lock does not have, on purpose."""


@pytest.fixture(scope="module", params=["runtime", "operator"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The packages of an image, installed by the very command that its Containerfile has."""
    name: str = request.param
    recipe = (REPOSITORY / "images" / f"{name}.Containerfile").read_text()
    target = tmp_path_factory.mktemp("packages")
    lock = f"requirements/{name}.txt"
    assert f"-r {lock}\n" in recipe
    words = images.documented_install(recipe, target=str(target), lock=lock)
    command = [sys.executable, "-m", "pip", "install", "--quiet", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return name, target


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wants(package: Distribution) -> Iterator[Requirement]:
    """What a package needs here, without extras."""
    for text in package.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def test_nothing_is_missing_that_a_package_asks_for(installed: tuple[str, Path]) -> None:
    """As --no-deps would hide."""
    _, target = installed
    found = {normal(package.name): package for package in distributions(path=[str(target)])}
    assert len(found) > 5
    for name, package in found.items():
        for requirement in wants(package):
            needed = normal(requirement.name)
            assert needed in found, f"{name} asks for {requirement}"
            if (name, needed) not in OVERRIDDEN:
                version = found[needed].version
                assert requirement.specifier.contains(version, prereleases=True), requirement


def test_the_program_starts_with_these_packages_alone(installed: tuple[str, Path]) -> None:
    name, target = installed
    code = os.pathsep.join(str(REPOSITORY / folder) for folder in ("operator", "runtime"))
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{code}{os.pathsep}{target}"}
    modules = {
        "runtime": "skerry_runtime.server, skerry_runtime.backends.triton",
        "operator": "skerry_operator.handlers",
    }
    # -S: no packages of this machine; what the image has is all there is.
    command = [sys.executable, "-S", "-c", f"import {modules[name]}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The file system of the runtime image, as it is built for the nodes."""
    layout = Layout.from_environment()
    inputs = images.read_inputs(next(each for each in images.IMAGES if each.name == "runtime"))
    archive = images.ensure_archive(layout, inputs)
    with buildah.unmounted(layout):
        buildah.load(layout, archive)
        yield buildah.mount(layout, inputs.local)


def normalizer(locale: str | None) -> bytes:
    """As a scikit-learn text pipeline begins: lower case, without stop words."""
    node = helper.make_node(
        *("StringNormalizer", ["x"], ["y"]),
        case_change_action="LOWER",
        is_case_sensitive=0,
        stopwords=["der"],
        **({} if locale is None else {"locale": locale}),
    )
    text = [
        helper.make_tensor_value_info(name, TensorProto.STRING, [axis])
        for name, axis in (("x", "n"), ("y", "m"))
    ]
    graph = helper.make_graph([node], "g", text[:1], text[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


PROGRAM = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.stdin.buffer.read())
words = ["Der", "\\u00c4\\u00d6\\u00dc \\u00c9COLE", "\\u0416"]
(texts,) = session.run(None, {"x": np.array(words, object)})
print(ascii(list(texts)))
"""


@pytest.mark.parametrize("locale", [None, "en_US.UTF-8", "en_US"])
def test_a_text_pipeline_runs_in_the_image(root: Path, locale: str | None) -> None:
    command = ["chroot", str(root), "/usr/bin/env", "-i", *environment_of_image()]
    command += ["python3", "-c", PROGRAM]
    done = subprocess.run(command, input=normalizer(locale), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ast.literal_eval(done.stdout.decode()) == ["äöü école", "ж"]


def environment_of_image() -> list[str]:
    """The variables that the Containerfile sets, as `env` takes them."""
    recipe = (REPOSITORY / "images" / "runtime.Containerfile").read_text()
    (line,) = re.findall(r"^ENV (.*)$", recipe, re.MULTILINE)
    return [*line.split(), "PATH=/usr/local/bin:/usr/bin:/bin"]


MOST_BYTES = {"runtime": 200_000_000, "operator": 110_000_000}
"""Of an image's packages, less what Python compiles: boards have 16 GB, and lines are slow."""


def test_the_packages_stay_small(installed: tuple[str, Path], tmp_path: Path) -> None:
    name, target = installed
    recipe = (REPOSITORY / "images" / f"{name}.Containerfile").read_text()
    found = re.search(r"slim\.py /opt/skerry/lib (.*?)&&", recipe, re.DOTALL)
    assert found
    slimmed = tmp_path / "lib"
    shutil.copytree(target, slimmed, symlinks=True)
    script = str(REPOSITORY / "images" / "slim.py")
    patterns = shlex.split(found[1].replace("\\\n", " "))
    subprocess.run([sys.executable, script, str(slimmed), *patterns], check=True)
    files = [path for path in slimmed.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES[name]
