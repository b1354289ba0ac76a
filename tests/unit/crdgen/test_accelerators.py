"""The page of the catalogue: every profile, with what people must know before they use it."""

from __future__ import annotations

import re

import pytest

from skerry_operator.catalogue.profiles import Profile, builtin_profiles
from skerry_operator.crdgen.accelerators import page

PAGE = page(builtin_profiles())


def section(name: str, text: str = PAGE) -> str:
    return text.split(f"\n### {name}\n")[1].split("\n##", maxsplit=1)[0]


def row(name: str) -> list[str]:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| [{name}](#{name}) "))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("profile", builtin_profiles(), ids=lambda profile: profile.name)
def test_a_profile_is_told_whole(profile: Profile) -> None:
    text = section(profile.name)
    told = (*profile.resource_names, *profile.providers, profile.description)
    assert all(fact in text for fact in told)
    assert all(f"{key}={value}" in text for one in profile.labels for key, value in one.items())
    assert profile.unsupported_reason in text


def test_a_row_tells_size_formats_image_and_support() -> None:
    assert row("hailo-8")[1:] == [
        *("npu", "low", "2.5", "26", "Custom"),
        *("your image, flavor `hailo`", "bring your own image"),
    ]
    assert row("cpu")[-2:] == ["own image, flavor `cpu`", "supported"]
    assert row("movidius-ncs2")[-2:] == ["", "**unsupported**"]


def test_an_image_that_is_set_is_named() -> None:
    (hailo,) = (profile for profile in builtin_profiles() if profile.name == "hailo-8")
    assert "`hailo:1`" in page([hailo.model_copy(update={"image": "hailo:1"})])


def test_what_must_be_named_and_what_must_be_fixed_is_said() -> None:
    assert "its own name only" in section("cpu-openvino")
    assert "Input shapes: must be fixed" in section("intel-npu")
    assert "`OpenVINOExecutionProvider` `device_type=NPU`" in section("intel-npu")
    assert "RuntimeClass: `nvidia`" in section("nvidia-gpu")


def test_the_classes_stand_in_the_order_of_the_default_preference() -> None:
    classes = [line.split(" | ")[1] for line in PAGE.splitlines() if line.startswith("| [")]
    assert classes == sorted(classes, key=["npu", "gpu", "cpu"].index)


def test_every_field_of_a_row_has_a_meaning() -> None:
    table = PAGE.split("## Fields of a row")[1]
    for name, field in Profile.model_fields.items():
        assert re.search(rf"^\| `{field.alias or name}` \| \S", table, re.MULTILINE), name
