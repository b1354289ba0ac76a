"""EdgeModel checks beyond the schema."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from builders import NOW, make_model, make_variant, sha256_of
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.plan import plan_model


def golden(threshold: str, metric: str = "Accuracy") -> dict[str, Any]:
    source = {"uri": "https://models.example/exam.npz", "sha256": sha256_of("exam")}
    return {"source": source, "metric": metric, "threshold": threshold}


def after(model: EdgeModel) -> EdgeModel:
    return model.model_copy(update={"status": plan_model(model, NOW).status})


TWIN = make_variant("twin") | {
    "source": {**make_variant("fp32")["source"], "sha256": sha256_of("other")}
}


def with_files(*paths: str, digest: str = "data") -> dict[str, Any]:
    """Return a variant whose own file has these beside it."""
    files = [
        {"path": path, "uri": f"https://models.example/{path}", "sha256": sha256_of(digest + path)}
        for path in paths
    ]
    variant = make_variant("fp32")
    return {**variant, "source": {**variant["source"], "files": files}}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(
            make_model("1", with_files("weights.bin", "model.onnx")),
            "spec.variants[0].source.files: model.onnx and model.onnx cannot lie in one folder",
            id="a file in the place of the model's own",
        ),
        pytest.param(
            make_model("1", with_files("weights", "weights/a.bin")),
            "weights and weights/a.bin cannot lie in one folder",
            id="a file that is a folder too",
        ),
        pytest.param(
            make_model("1", with_files("a.bin"), {**with_files("a.bin", digest="x"), "name": "b"}),
            "different sha256",
            id="one data file with two digests",
        ),
        pytest.param(
            make_model("1", make_variant("a"), make_variant("a")),
            "spec.variants: the name 'a' is used twice",
            id="two variants of one name",
        ),
        pytest.param(
            make_model("1", make_variant("fp32"), TWIN),
            "different sha256",
            id="one file with two digests",
        ),
        pytest.param(
            make_model(golden=golden("95")),
            "spec.golden.threshold: Accuracy is a share",
            id="a threshold in percent",
        ),
        pytest.param(
            make_model(golden=golden("-1", "MaxAbsError")),
            "spec.golden.threshold",
            id="a negative error",
        ),
    ],
)
def test_a_model_that_cannot_be_used_says_why(model: EdgeModel, words: str) -> None:
    made = plan_model(model, NOW)
    ready = made.status.conditions[0]
    assert (ready.type, ready.status, ready.reason) == ("Ready", "False", "InvalidSpec")
    assert words in ready.message
    assert made.status.artifacts == ()
    assert [event.warning for event in made.events] == [True]


def test_a_good_model_lists_its_files() -> None:
    made = plan_model(make_model("1.0.0", make_variant("a"), make_variant("b")), NOW)
    assert made.status.conditions[0].status == "True"
    assert [artifact.variant for artifact in made.status.artifacts] == ["a", "b"]
    assert made.status.observed_generation == 1
    assert made.events == ()


def test_an_error_is_told_once_and_its_time_stays() -> None:
    model = after(make_model(golden=golden("95")))
    again = plan_model(model, NOW + timedelta(hours=1))
    assert again.events == ()
    assert again.status == model.status


def test_a_fixed_model_changes_its_condition_and_its_time() -> None:
    broken = after(make_model(golden=golden("95")))
    fixed = make_model(golden=golden("0.95")).model_copy(update={"status": broken.status})
    ready = plan_model(fixed, NOW + timedelta(hours=1)).status.conditions[0]
    assert (ready.status, ready.last_transition_time) == ("True", NOW + timedelta(hours=1))


def test_files_of_one_artefact_in_a_registry_are_told_apart_by_their_sha256() -> None:
    uri = f"oci://registry.example/models/digits@sha256:{'a' * 64}"
    beside = {"path": "weights.bin", "uri": uri, "sha256": "b" * 64}
    source = {"uri": uri, "sha256": "c" * 64, "files": [beside]}
    model = make_model("1", {**make_variant(), "source": source})
    assert [c.status for c in after(model).status.conditions] == ["True"]
