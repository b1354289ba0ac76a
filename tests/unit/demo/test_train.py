"""Training keeps what the demo's story rests on; small versions, so that it is fast."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import yaml

from digits_demo import manifests, train
from digits_demo.artifacts import INDEX_FILE, read_index

THRESHOLD = 0.93
FEW_COPIES = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    *fast, slow = train.RECIPES
    slow = replace(slow, data=lambda images: train.with_jittered_copies(images, FEW_COPIES))
    return folder, train.train(folder, (*fast, slow))


def test_versions_are_as_good_or_bad_as_the_story_says(trained):
    _, index = trained
    accuracy = {model.key: model.accuracy for model in index.models}
    assert 0.93 <= accuracy["v1"] <= 0.965
    assert accuracy["v2"] >= 0.98 > accuracy["v1"]
    assert accuracy["v3"] < 0.1
    assert accuracy["v4"] >= 0.95


def test_only_v3_fails_the_exam(trained):
    _, index = trained
    failing = [model.key for model in index.models if model.exam_accuracy < THRESHOLD]
    assert failing == ["v3"]


def test_the_manifests_ask_for_the_threshold_that_these_tests_assume(trained):
    _, index = trained
    model = yaml.safe_load(manifests.render_model(index, index.model("v1"), "http://models"))
    assert float(model["spec"]["golden"]["threshold"]) == THRESHOLD
    metrics = yaml.safe_load(manifests.deployment())["spec"]["rollout"]["analysis"]["metrics"]
    assert [m["min"] for m in metrics if m["name"] == "GoldenAccuracy"] == [str(THRESHOLD)]


def test_every_file_takes_one_image_tensor_and_gives_whole_labels_first(trained):
    folder, index = trained
    for model in index.models:
        session = ort.InferenceSession(folder / model.file.name)
        (given,), first = session.get_inputs(), session.get_outputs()[0]
        assert (given.name, given.type, given.shape) == ("image", "tensor(float)", [None, 64])
        assert (first.name, first.type) == ("label", "tensor(int64)")


def test_the_exam_holds_images_and_labels_in_the_form_that_the_runtime_reads(trained):
    folder, index = trained
    with np.load(folder / index.golden.name) as exam:
        assert exam["image"].dtype == np.float32
        assert exam["image"].shape == (train.EXAM_IMAGES, 64)
        assert exam["labels"].dtype == np.int64


def test_training_twice_gives_the_same_bytes(tmp_path):
    digests = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        digests.append([m.file.sha256 for m in train.train(folder, train.RECIPES[:2]).models])
    assert digests[0] == digests[1]


def test_the_index_is_refused_when_a_file_was_changed(trained, tmp_path):
    folder, index = trained
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert read_index(tmp_path) == index
    (tmp_path / index.golden.name).write_bytes(b"something else")
    assert read_index(tmp_path) is None


def test_no_index_means_not_trained(tmp_path):
    assert read_index(tmp_path) is None
    (tmp_path / INDEX_FILE).write_text(json.dumps({"models": "none"}))
    assert read_index(tmp_path) is None


def test_ensure_trains_once(tmp_path, monkeypatch):
    calls = []
    original = train.train

    def train_some(folder):
        calls.append(folder)
        return original(folder, train.RECIPES[:1])

    monkeypatch.setattr(train, "train", train_some)
    folder, index = train.ensure(tmp_path)
    assert train.ensure(tmp_path) == (folder, index)
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_an_interrupted_training_leaves_nothing(tmp_path, monkeypatch):
    def break_off(folder):
        (folder / "half.onnx").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", break_off)
    with pytest.raises(KeyboardInterrupt):
        train.ensure(tmp_path)
    assert not list(tmp_path.iterdir())
