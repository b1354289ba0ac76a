"""A driver that hangs in a load, on a real pod: refused in time, and the node has its model.

The image says what it is by its name: a stand-in hangs for a model that asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from e2e import hanging_engine
from e2e.derived_image import derive
from e2e.lab import Lab
from skerry_cluster import cluster
from skerry_cluster.images import choose, ensure_archive, read_inputs
from skerry_cluster.settings import Layout

NODE = "node-c"
PLACEMENT = {"nodeSelector": {"kubernetes.io/hostname": NODE}, "accelerators": ["cpu"]}
ENTRYPOINT = ["python3", "-m", "hanging_engine"]
LOAD_S = 5


@pytest.fixture(scope="module")
def image(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bring the runtime with the engine that hangs to its node, and take it away again."""
    del images  # the runtime's own is built
    layout = Layout.from_environment()
    (runtime,) = choose("runtime", everything=False)
    target = tmp_path_factory.mktemp("image") / "hanging-engine-test.tar"
    code = Path(hanging_engine.__file__).read_bytes()
    added = ("opt/skerry/app/hanging_engine.py", code)
    name = derive(ensure_archive(layout, read_inputs(runtime)), target, added, ENTRYPOINT)
    node = cluster.find_node(layout, NODE)
    node.import_image(target)
    yield name
    node.ctr("images", "remove", name)


def hangs(lab: Lab, files: Path, version: str, how: str) -> dict[str, Any]:
    """Return a model like v2 whose load hangs."""
    model = onnx.load(str(files / lab.index.model("v2").file.name))
    model.metadata_props.add(key="test", value=f"{hanging_engine.MARK}{how}")
    content = model.SerializeToString()
    (files / f"hangs-{how}.onnx").write_bytes(content)
    uri = f"{lab.server.url}/hangs-{how}.onnx"
    source = {"uri": uri, "sha256": hashlib.sha256(content).hexdigest()}
    return lab.model("v2", version=version, source=source)


def deployment(lab: Lab, image: str, swap: str) -> dict[str, Any]:
    runtime = {"threads": 1, "image": image, "swap": swap, "loadTimeout": f"{LOAD_S}s"}
    return lab.deployment(placement=PLACEMENT, runtime=runtime)


@pytest.mark.parametrize(
    ("swap", "how"),
    [
        ("Overlap", "holds"),
        ("Sequential", "waits"),
        pytest.param("Sequential", "holds", marks=pytest.mark.long),
        pytest.param("Overlap", "waits", marks=pytest.mark.long),
    ],
)
def test_a_load_that_hangs_is_refused_and_the_node_serves_its_last_good_model_again(
    lab: Lab, files: Path, image: str, swap: str, how: str
) -> None:
    good, version = lab.index.model("v1").version, f"2.0.0-{swap}-{how}".lower()
    lab.apply(lab.model("v1"), deployment(lab, image, swap))
    lab.wait_stable(good)
    before = lab.pods()[NODE]
    lab.apply(hangs(lab, files, version, how))
    status = lab.wait_rolled_back(version, "LoadFailed")
    for word in (f"not open within {LOAD_S} s", "spec.runtime.loadTimeout"):
        assert word in status.failed_revisions[0].message
    lab.wait_serves(NODE, good)
    after = lab.pods()[NODE]
    assert after.uid == before.uid
    if (swap, how) != ("Overlap", "waits"):  # there the old model goes on in the same process
        assert after.restarts == before.restarts + 1
    lab.delete_deployment()
