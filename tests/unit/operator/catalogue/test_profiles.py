"""The accelerator catalogue: complete, consistent, changed by a user's rows, strict with bad ones."""
# ruff: noqa: E501 (a table reads best with one case on a line)

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry_operator.catalogue.profiles import (
    MAX_ROWS,
    SHIPPED_FLAVORS,
    AcceleratorClass,
    BadProfile,
    Profile,
    Support,
    builtin_profiles,
    extended_profiles,
)
from skerry_runtime.contract import Format

BUILTIN = {profile.name: profile for profile in builtin_profiles()}
ROW = {"name": "reef", "class": "npu", "resourceNames": ["example.com/reef"]}


def extended(*rows: dict[str, Any]) -> dict[str, Profile]:
    text = yaml.safe_dump(list(rows))
    return {profile.name: profile for profile in extended_profiles(text, "values")}


# --- what ships ---


def test_the_hardware_that_people_own_is_there() -> None:
    assert set(BUILTIN) >= {
        *("hailo-8", "hailo-8l", "hailo-10h", "coral-pcie", "coral-usb", "intel-npu", "amd-xdna"),
        *("movidius-ncs2", "qualcomm-qnn", "rockchip-rknpu"),
        *("nvidia-jetson", "nvidia-gpu", "nvidia-mig", "amd-gpu", "intel-gpu", "arm-mali"),
        *("cpu", "cpu-openvino", "cpu-x86-amx", "cpu-x86-vnni", "cpu-arm64-dotprod"),
    }


def test_the_plain_cpu_is_last_fits_every_node_and_is_found_by_its_class() -> None:
    cpu = list(BUILTIN.values())[-1]
    assert cpu.name == "cpu"
    assert {} in cpu.labels
    assert not cpu.only_by_name
    others = [row for row in BUILTIN.values() if row.accelerator_class is AcceleratorClass.CPU]
    assert [row.name for row in others if not row.only_by_name] == ["cpu"]


def test_what_skerry_builds_no_image_for_is_not_called_supported() -> None:
    supported = {row.flavor for row in BUILTIN.values() if row.support is Support.SUPPORTED}
    assert supported == set(SHIPPED_FLAVORS)
    own = [row for row in BUILTIN.values() if row.support is Support.BRING_YOUR_OWN_IMAGE]
    assert {row.flavor for row in own}.isdisjoint(supported)  # else the wrong image would start


def test_an_image_of_ones_own_is_described() -> None:
    for row in BUILTIN.values():
        assert row.description
        if row.support is Support.BRING_YOUR_OWN_IMAGE:
            assert "image" in row.description.lower(), row.name


def test_a_label_alone_places_nothing_on_an_accelerator() -> None:
    for row in BUILTIN.values():
        if row.accelerator_class is not AcceleratorClass.CPU:
            assert row.resource_names or row.support is Support.UNSUPPORTED, row.name


def test_two_families_share_a_resource_only_where_labels_tell_them_apart() -> None:
    claims: dict[str, list[Profile]] = {}
    for row in BUILTIN.values():
        for resource in row.resource_names:
            claims.setdefault(resource, []).append(row)
    shared = {name: [row.name for row in rows] for name, rows in claims.items() if len(rows) > 1}
    assert shared == {
        "nvidia.com/gpu": ["nvidia-jetson", "nvidia-gpu"],
        "nvidia.com/gpu.shared": ["nvidia-jetson", "nvidia-gpu"],
    }
    assert BUILTIN["nvidia-jetson"].excluded_by


def test_dead_hardware_says_what_to_do_instead() -> None:
    ncs2 = BUILTIN["movidius-ncs2"]
    assert ncs2.support is Support.UNSUPPORTED
    assert "2023.0" in ncs2.unsupported_reason
    assert "fallback" in ncs2.unsupported_reason


def test_vendors_formats_are_read_by_their_rows_alone() -> None:
    readers = {row.name for row in BUILTIN.values() if Format.CUSTOM in row.formats}
    assert readers == {"hailo-8", "hailo-8l", "hailo-10h", "rockchip-rknpu"}


def test_a_usb_stick_is_known_by_both_of_its_identities() -> None:
    labels = {key for alternative in BUILTIN["coral-usb"].labels for key in alternative}
    prefix = "feature.node.kubernetes.io/usb-"
    assert {f"{prefix}fe_1a6e_089a.present", f"{prefix}ff_18d1_9302.present"} <= labels


# --- what a profile knows of itself ---


@pytest.mark.parametrize(
    ("name", "entry", "answers"),
    [
        pytest.param("cpu", "cpu", True, id="a name that is the class too"),
        pytest.param("hailo-8", "npu", True, id="the class"),
        pytest.param("hailo-8", "hailo-8", True, id="the name"),
        pytest.param("hailo-8", "gpu", False, id="another class"),
        pytest.param("cpu-openvino", "cpu-openvino", True, id="a name that must be said"),
        pytest.param("cpu-openvino", "cpu", False, id="the class of a name that must be said"),
    ],
)
def test_a_profile_answers_to(name: str, entry: str, *, answers: bool) -> None:
    assert BUILTIN[name].answers_to(entry) is answers


def test_a_card_in_an_arm_server_is_no_jetson() -> None:
    jetson = BUILTIN["nvidia-jetson"]
    assert jetson.is_ruled_out({"feature.node.kubernetes.io/pci-0302_10de.present": "true"})
    assert not jetson.is_ruled_out({"feature.node.kubernetes.io/pci-0302_10de.present": "false"})
    assert not jetson.is_ruled_out({})


# --- a user's rows ---


def test_an_image_alone_completes_a_built_in_row() -> None:
    changed = extended({"name": "hailo-8", "image": "registry.example/hailo:1"})["hailo-8"]
    assert changed.image == "registry.example/hailo:1"
    assert changed.model_copy(update={"image": None, "flavor": "hailo"}) == BUILTIN["hailo-8"]


def test_a_changed_row_keeps_its_place_and_the_others() -> None:
    names = list(extended({"name": "cpu", "image": "registry.example/cpu:1"}))
    assert names == list(BUILTIN)


def test_a_new_row_comes_before_all_others() -> None:
    assert list(extended(ROW)) == ["reef", *BUILTIN]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"flavor": "cuda-12"}, {"flavor": "cuda-12"}, id="another flavor"),
        pytest.param({"runtimeClassName": None}, {"runtime_class_name": None}, id="null: none"),
        pytest.param({"watts": None}, {"watts": ""}, id="null: the default"),
        pytest.param({"resourceNames": ["a.b/c"]}, {"resource_names": ("a.b/c",)}, id="a list"),
        pytest.param({"image": None}, {"flavor": "jetson"}, id="no image leaves the flavor"),
    ],
)
def test_a_field_is_replaced_as_a_whole(change: dict[str, Any], expected: dict[str, Any]) -> None:
    changed = extended({"name": "nvidia-jetson", **change})["nvidia-jetson"]
    assert changed == BUILTIN["nvidia-jetson"].model_copy(update=expected)


def test_hardware_that_is_unsupported_can_be_made_to_work() -> None:
    change = {"support": "BringYourOwnImage", "image": "mali:1", "resourceNames": ["a.b/mali"]}
    mali = extended({"name": "arm-mali", **change})["arm-mali"]
    assert mali.support is Support.BRING_YOUR_OWN_IMAGE
    assert mali.unsupported_reason == ""


def test_the_rows_of_the_guide_are_taken() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "hardware.md").read_text()
    (rows,) = re.findall(r"```yaml\n(accelerators:\n.*?)```", guide, re.DOTALL)
    changed = extended(*yaml.safe_load(rows)["accelerators"])
    assert changed["hailo-8"].image == "registry.example/runtime-hailo:4.20"
    assert changed["nvidia-gpu"].runtime_class_name is None
    assert next(iter(changed)) == "memryx-mx3"


@pytest.mark.parametrize("text", ["", "[]", "null"], ids=["empty", "no rows", "null"])
def test_nothing_changes_nothing(text: str) -> None:
    assert extended_profiles(text, "values") == builtin_profiles()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({"name": "halo-8", "image": "a"}, "profile halo-8: class: Field required (got nothing): write npu, gpu or cpu; or, to change a built-in row, the exact name of that row", id="a misspelt name"),
        pytest.param({"class": "npu"}, "profile number 1: name: missing", id="no name"),
        pytest.param({"name": 8, "class": "npu"}, "profile number 1: name: missing", id="a number for a name"),
        pytest.param(ROW | {"name": "Reef"}, "profile Reef: name: not of the right form (got 'Reef'): write small letters", id="a capital"),
        pytest.param(ROW | {"name": "r" * 41}, "name: String should have at most 40", id="a long name"),
        pytest.param(ROW | {"name": "gpu"}, "profile gpu: name: 'gpu' is a class", id="the name of a class"),
        pytest.param({"name": "cpu", "class": "npu"}, "profile cpu: class: `cpu` is the row", id="the class of the plain CPU"),
        pytest.param(ROW | {"class": "tpu"}, "profile reef: class: Input should be 'npu', 'gpu' or 'cpu' (got 'tpu')", id="an unknown class"),
        pytest.param(ROW | {"resource_names": ["a/b"]}, "profile reef: resource_names: no such field; there are name, class,", id="a misspelt field"),
        pytest.param(ROW | {"privileged": True}, "profile reef: privileged: no such field", id="privileges"),
        pytest.param({"name": "reef", "class": "npu"}, "profile reef: resourceNames: no resource and no labels", id="nothing to match"),
        pytest.param(ROW | {"resourceNames": ["reef"]}, "profile reef: resourceNames.0: not of the right form (got 'reef'): write domain/name, for example hailo.ai/h8", id="a resource without domain"),
        pytest.param(ROW | {"resourceNames": ["kubernetes.io/reef"]}, "resourceNames.0: Kubernetes keeps this domain", id="a resource of Kubernetes"),
        pytest.param(ROW | {"resourceNames": ["a.b/c"] * 25}, "resourceNames: Tuple should have at most 24 items", id="too many resources"),
        pytest.param(ROW | {"labels": [{"a b": "c"}]}, "profile reef: labels.0.a b", id="a label key with a space"),
        pytest.param(ROW | {"labels": [{"n" * 64: "c"}]}, "profile reef: labels.0.n", id="a label name that is too long"),
        pytest.param(ROW | {"labels": [{"a..b/c": "c"}]}, "profile reef: labels.0.a..b/c", id="a label of no domain"),
        pytest.param(ROW | {"labels": [{"a": True}]}, "labels.0.a: Input should be a valid string (got True): write Kubernetes labels with quoted values", id="a label value that YAML read as a truth"),
        pytest.param(ROW | {"labels": [{"a": "x" * 64}]}, "labels.0.a: String should have at most 63", id="a long label value"),
        pytest.param(ROW | {"labels": {"a": "b"}}, "profile reef: labels: Input should be a valid tuple", id="labels without alternatives"),
        pytest.param(ROW | {"excludedBy": [{"a": "-"}]}, "profile reef: excludedBy.0.a: not of the right form", id="a bad label that excludes"),
        pytest.param(ROW | {"architectures": []}, "architectures: Tuple should have at least 1 item", id="no architecture"),
        pytest.param(ROW | {"architectures": ["ARM 64"]}, "architectures.0: not of the right form (got 'ARM 64')", id="an architecture"),
        pytest.param(ROW | {"providers": ["cuda"]}, "profile reef: providers.0: not of the right form (got 'cuda'): write names as ONNX Runtime has them", id="a provider"),
        pytest.param(ROW | {"providerOptions": {"CUDAExecutionProvider": {}}}, "profile reef: providerOptions: CUDAExecutionProvider is not among the providers", id="options for nobody"),
        pytest.param(ROW | {"providerOptions": {"CPUExecutionProvider": {"threads": 4}}}, "providerOptions.CPUExecutionProvider.threads: Input should be a valid string (got 4)", id="an option that is no text"),
        pytest.param(ROW | {"formats": ["PB"]}, "formats.0: Input should be 'ONNX'", id="a format"),
        pytest.param(ROW | {"formats": ["Custom"]}, "profile reef: formats: the image of the flavor cpu reads no Custom: give an image", id="a vendor's format without image"),
        pytest.param(ROW | {"precisions": ["INT4"]}, "precisions.0: Input should be 'FP32'", id="a precision"),
        pytest.param(ROW | {"image": "a b"}, "image: not of the right form (got 'a b'): write the address", id="an image with a space"),
        pytest.param(ROW | {"image": "a", "flavor": "cpu"}, "profile reef: image: flavor is given too", id="two images"),
        pytest.param(ROW | {"runtimeClassName": "Nvidia"}, "runtimeClassName: not of the right form", id="a runtime class"),
        pytest.param(ROW | {"supplementalGroups": [0]}, "supplementalGroups.0: Input should be greater than or equal to 1", id="the group of root"),
        pytest.param(ROW | {"tier": "tiny"}, "tier: Input should be 'micro'", id="a tier"),
        pytest.param(ROW | {"watts": "5 W"}, "watts: not of the right form (got '5 W'): write a number or a range, for example 7-25", id="watts with a unit"),
        pytest.param(ROW | {"topsInt8": 0}, "topsInt8: Input should be greater than 0", id="no operations"),
        pytest.param(ROW | {"support": "Unsupported"}, "unsupportedReason: say why", id="unsupported without a reason"),
        pytest.param(ROW | {"unsupportedReason": "old"}, "unsupportedReason: support is Supported: remove the reason", id="a reason without need"),
        pytest.param(ROW | {"description": "x" * 1025}, "description: String should have at most 1024", id="a long text"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_its_name_its_field_and_the_remedy(
    row: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadProfile) as caught:
        extended(row)
    assert str(caught.value).startswith("values: profile ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: b", "values: must be a list of profiles", id="a map"),
        pytest.param("- reef", "values: profile number 1: name: missing", id="a text for a row"),
        pytest.param("- [", "values: not YAML", id="no YAML"),
        pytest.param(yaml.safe_dump([ROW, ROW]), "profile reef: name: used twice", id="a name twice"),
        pytest.param(yaml.safe_dump([ROW] * (MAX_ROWS + 1)), f"at most {MAX_ROWS}", id="too many"),
    ],
)  # fmt: skip
def test_a_bad_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadProfile) as caught:
        extended_profiles(text, "values")
    assert message in str(caught.value)
