"""Revisions and pod templates stay what they are for ever: an upgrade rolls no fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import CPU, HAILO, NVIDIA, make_deployment, make_model
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeploymentSpec
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec
from skerry_operator.catalogue.profiles import Profile
from skerry_operator.decide.fleet.podtemplate import template_of
from skerry_operator.decide.images import ImageSet
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.revision import KeptModel, Snapshot, revision_of

RECORD = Path(__file__).parents[3] / "record" / "revisions"
PROFILES = {profile.name: profile for profile in (CPU, HAILO, NVIDIA)}


@pytest.fixture(params=sorted(RECORD.glob("*.json")), ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.param.read_text("utf-8"))
    return content


def specs(recorded: dict[str, Any]) -> tuple[EdgeModelSpec, EdgeDeploymentSpec]:
    return (
        EdgeModelSpec.model_validate(recorded["model"]),
        EdgeDeploymentSpec.model_validate(recorded["deployment"]),
    )


def template_hash(model: EdgeModelSpec, spec: EdgeDeploymentSpec, profile: Profile) -> str:
    snapshot = Snapshot(
        revision=revision_of(model, spec),
        models=(KeptModel(name="digits", spec=model),),
        runtime=spec.runtime,
        serving=spec.serving,
        default_image="registry.example/runtime:1",
    )
    resource = profile.resource_names[0] if profile.resource_names else None
    hardware = Hardware("cell", profile, "amd64", resource)
    return template_of(snapshot, hardware, spec.placement).hash


def test_a_recorded_spec_has_the_revision_that_it_always_had(recorded: dict[str, Any]) -> None:
    assert revision_of(*specs(recorded)) == recorded["revision"]


def test_a_recorded_spec_has_the_pods_that_it_always_had(recorded: dict[str, Any]) -> None:
    found = {name: template_hash(*specs(recorded), one) for name, one in PROFILES.items()}
    assert found == recorded["templates"]


def test_what_is_added_to_the_specs_counts_only_where_it_is_set(recorded: dict[str, Any]) -> None:
    class NewerSpec(EdgeModelSpec):
        added: str = "default"

    model, deployment = specs(recorded)
    silent = NewerSpec.model_validate(recorded["model"])
    spoken = NewerSpec.model_validate({**recorded["model"], "added": "default"})
    assert revision_of(silent, deployment) == revision_of(model, deployment)
    assert revision_of(spoken, deployment) != revision_of(model, deployment)


@pytest.mark.parametrize(
    "changes",
    [
        {"modelRef": {"name": "letters"}},
        {"serving": {"service": {"internalTrafficPolicy": "Cluster"}}},
        {"placement": {"accelerators": ["npu"]}},
        {"rollout": {"paused": True}},
    ],
)
def test_what_decides_nothing_in_a_pod_is_in_no_revision(changes: dict[str, Any]) -> None:
    model = make_model().spec
    plain, changed = make_deployment().spec, make_deployment(**changes).spec
    assert revision_of(model, changed) == revision_of(model, plain)


def test_a_tag_names_the_way_of_hashing_and_no_version_of_a_model() -> None:
    assert revision_of(make_model().spec, make_deployment().spec).startswith("r1-")


def test_images_that_were_rolled_out_make_the_revision_that_they_always_made() -> None:
    default = "registry.example/runtime:2"
    one = ImageSet(default, {"cpu": default, "npu": "registry.example/npu:2"})
    assert one.key == "ef967b2aa2"
    found = revision_of(make_model().spec, make_deployment().spec, one.key)
    assert found == "r1-cf32dbc2fe"
    # a profile that runs in the default image is no news
    assert ImageSet(default, {**one.profiles, "gpu": default}).key == one.key
