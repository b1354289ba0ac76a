"""Models of several files: fetched, verified and opened together, and nothing beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from documents import with_model
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.onnxfile import external_locations
from skerry_runtime.agent.refusal import Corrupt
from skerry_runtime.agent.slots import Slots
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import FailureReason, ModelFile, RevisionContent
from unit.runtime.agent.support import CPU, FAST, Pod, Source, content, external_model, sha256

PLACES = ("weights.bin", "layers/bias.bin")


def two_layers(places: tuple[str, str] = PLACES, scale: float = 2.0) -> dict[str, bytes]:
    """Return the files of y = scale * x + 1, whose tensors lie in two files."""
    tensors = {"w": np.eye(8, dtype=np.float32) * scale, "b": np.ones(8, np.float32)}
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["z"]),
                helper.make_node("Add", ["z", "b"], ["y"]),
            ],
            "two",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
            [numpy_helper.from_array(array, name) for name, array in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    for tensor, place in zip(model.graph.initializer, places, strict=True):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key="length", value=str(tensors[tensor.name].nbytes))
    data = {p: a.tobytes() for p, a in zip(places, tensors.values(), strict=True)}
    return {"model.onnx": model.SerializeToString(), **data}


def several(source: Source, files: dict[str, bytes], at: str = "v1") -> RevisionContent:
    """Return a revision of these files, which the source offers."""
    listed = tuple(
        ModelFile(path=path, uri=source.add(f"{at}/{path}", body), sha256=sha256(body))
        for path, body in files.items()
    )
    return with_model(content(), files=listed)


def answer(pod: Pod) -> np.ndarray:
    with pod.registry.acquire() as serving:
        return np.asarray(serving.model.infer({"x": np.ones((1, 8), np.float32)})["y"])


def pod(root: Path) -> Pod:
    return Pod(root, OnnxBackend(), FAST)


async def test_a_model_of_several_files_is_fetched_and_served(
    tmp_path: Path, source: Source
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": several(source, two_layers())})
        await one.until_serving("v1")
        np.testing.assert_array_equal(answer(one), np.full((1, 8), 3.0))
    lying = sorted(p.relative_to(tmp_path) for p in (tmp_path / "slots/blobs").rglob("*.*"))
    assert [str(path.parts[3:]) for path in lying] == [
        "('layers', 'bias.bin')",
        "('model.onnx',)",
        "('weights.bin',)",
    ]


async def test_a_restart_serves_a_model_of_several_files_from_the_disk(
    tmp_path: Path, source: Source
) -> None:
    revisions = {"v1": several(source, two_layers())}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", revisions)
        await one.until_serving("v1")
    source.files.clear()
    async with pod(tmp_path) as again:
        await again.until_serving("v1")
        np.testing.assert_array_equal(answer(again), np.full((1, 8), 3.0))


async def test_other_data_of_an_equal_graph_is_another_model(
    tmp_path: Path, source: Source
) -> None:
    files, others = two_layers(), two_layers(scale=5.0)
    assert files["model.onnx"] == others["model.onnx"]
    short = {**files, "weights.bin": files["weights.bin"][:-4]}
    revisions = {
        "v1": several(source, files, "v1"),
        "v2": several(source, others, "v2"),
        "v3": several(source, short, "v3"),
    }
    async with pod(tmp_path) as one:
        for revision, value in (("v1", 3.0), ("v2", 6.0)):
            one.mount.assign(revision, revisions)
            await one.until_serving(revision)
            np.testing.assert_array_equal(answer(one), np.full((1, 8), value))
        one.mount.assign("v3", revisions)
        status = await one.until_failed("v3")
        assert status.progress
        assert status.progress.reason is FailureReason.INVALID_MODEL  # found by the probe
        assert one.revision == "v2"


@pytest.mark.parametrize("place", ["weights.bin", "/etc/hostname", "../../state.json", "./w.bin"])
async def test_data_that_is_not_listed_is_refused_by_its_name(
    tmp_path: Path, source: Source, place: str
) -> None:
    files = two_layers((place, "layers/bias.bin"))
    listed = {path: body for path, body in files.items() if path != place}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": several(source, listed)})
        status = await one.until_failed("v1")
        assert status.progress
        assert status.progress.reason is FailureReason.INVALID_MODEL
        assert repr(place) in status.progress.message
        assert "source.files" in status.progress.message


async def test_a_damaged_data_file_alone_is_fetched_again(tmp_path: Path, source: Source) -> None:
    revisions = {"v1": several(source, two_layers())}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", revisions)
        await one.until_serving("v1")
    (damaged,) = (tmp_path / "slots/blobs").rglob("bias.bin")
    damaged.write_bytes(b"x" * 32)
    source.requests.clear()
    async with pod(tmp_path) as again:
        await again.until_serving("v1")
        np.testing.assert_array_equal(answer(again), np.full((1, 8), 3.0))
    assert [request.path for request in source.requests] == ["/v1/layers/bias.bin"]


def slots_with(tmp_path: Path, files: dict[str, bytes]) -> tuple[Slots, Goal]:
    listed = tuple(
        ModelFile(path=path, uri="http://x/y", sha256=sha256(body)) for path, body in files.items()
    )
    slots, goal = Slots(tmp_path / "slots"), Goal("v1", with_model(content(), files=listed), CPU)
    slots.open()
    return slots, goal


def test_a_folder_that_is_a_link_is_damage_and_goes_without_its_target(tmp_path: Path) -> None:
    slots, goal = slots_with(tmp_path, two_layers())
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "bias.bin").write_bytes(b"not ours")
    blob = next(blob for blob in goal.blobs_beside if blob.path == "layers/bias.bin")
    slots.check_place(blob)
    slots.path(blob).parent.parent.mkdir(parents=True)
    slots.path(blob).parent.symlink_to(outside)
    with pytest.raises(Corrupt, match="layers in the slots is a link"):
        slots.check_place(blob)
    slots.discard(blob)
    slots.check_place(blob)
    assert (outside / "bias.bin").read_bytes() == b"not ours"


def test_models_with_other_files_beside_have_other_folders(tmp_path: Path) -> None:
    _, one = slots_with(tmp_path, two_layers())
    _, other = slots_with(tmp_path, two_layers(scale=5.0))
    assert one.model_blob.folder != other.model_blob.folder


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a/../b", ".x", "a//b", "a/", "", "a\\b", "a b", "x" * 256, "a/.b", "a\n"],
)
def test_no_file_has_a_place_outside_the_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="path"):
        ModelFile(path=path, uri="http://x/y", sha256="0" * 64)


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b/c", "a0", "a/b")])
def test_two_files_that_cannot_lie_together_are_refused(paths: tuple[str, ...]) -> None:
    files = tuple(ModelFile(path=path, uri="http://x/y", sha256="0" * 64) for path in paths)
    with pytest.raises(ValidationError, match="two files have one path"):
        RevisionContent.model_validate(
            {"models": {"m": {"version": "1", "variant": "v", "format": "ONNX", "files": files}}}
        )


def varied(change: str) -> bytes:
    model = onnx.load_model_from_string(external_model("good.bin"))
    tensor = model.graph.initializer[0]
    match change:
        case "a second place":
            tensor.external_data.add(key="location", value="bad.bin")
        case "no flag":
            tensor.data_location = TensorProto.DEFAULT
        case "no place":
            tensor.ClearField("external_data")
        case "an empty place":
            tensor.external_data[0].value = ""
        case "other keys only":
            tensor.external_data[0].key = "offset"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ("a second place", {"good.bin", "bad.bin"}),
        ("no flag", {"good.bin"}),
        ("no place", {""}),
        ("an empty place", {""}),
        ("other keys only", {""}),
    ],
)
def test_every_place_that_a_reader_might_take_is_found(change: str, places: set[str]) -> None:
    assert external_locations(memoryview(varied(change))) == places


def test_a_key_that_is_written_twice_hides_no_place() -> None:
    """In protobuf the last one counts; a reader that takes the first is not fooled either."""
    entry = onnx.StringStringEntryProto(key="offset", value="1").SerializeToString()
    entry += onnx.StringStringEntryProto(key="location", value="bad.bin").SerializeToString()
    tensor = bytes([0x6A, len(entry)]) + entry + bytes([0x70, 1])  # external_data, data_location
    graph = bytes([0x2A, len(tensor)]) + tensor  # initializer
    model = bytes([0x3A, len(graph)]) + graph
    assert onnx.TensorProto.FromString(tensor).external_data[0].value == "bad.bin"
    assert external_locations(memoryview(model)) == {"1", "bad.bin"}


def test_a_flag_that_needs_33_bits_is_a_flag() -> None:
    tensor = bytes([0x70, 0x81, 0x80, 0x80, 0x80, 0x10])  # data_location = 2**32 + 1
    graph = bytes([0x2A, len(tensor)]) + tensor
    assert external_locations(memoryview(bytes([0x3A, len(graph)]) + graph)) == {""}
