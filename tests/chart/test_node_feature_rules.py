"""The rules for Node Feature Discovery: well formed, and in step with the catalogue.

Node Feature Discovery itself is not run here. `simulated_nfd` does what its guide says of the few
operators that the rules use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from helm_chart import Rendered
from skerry_operator.catalogue.profiles import builtin_profiles

Render = Callable[..., Rendered]
Rule = dict[str, Any]
Features = dict[str, Any]

BY_HAND = {"skerry.dev/accelerator-qualcomm-qnn", "skerry.dev/accelerator-arm-mali"}
"""Labels of hardware that no feature gives away: people set them."""

_EXPRESSION = {
    "oneOf": [
        {
            "additionalProperties": False,
            "required": ["op", "value"],
            "properties": {
                "op": {"enum": ["In", "InRegexp"]},
                "value": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            },
        },
        {
            "additionalProperties": False,
            "required": ["op"],
            "properties": {"op": {"const": "Exists"}},
        },
    ]
}


def _terms(feature: str, names: list[str], pattern: str) -> dict[str, Any]:
    """A term on one feature; names are its elements, and values look like the pattern."""
    return {
        "additionalProperties": False,
        "required": ["feature", "matchExpressions"],
        "properties": {
            "feature": {"const": feature},
            "matchExpressions": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"enum": names},
                "additionalProperties": _EXPRESSION
                | {"properties": {"value": {"items": {"pattern": pattern}}}},
            },
        },
    }


_HEX = "^[0-9a-f]{4}$"
_FEATURES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "oneOf": [
            _terms("pci.device", ["class", "vendor", "device"], _HEX),
            _terms("usb.device", ["class", "vendor", "device"], _HEX),
            _terms("kernel.version", ["full", "major", "minor", "revision"], ""),
            _terms("kernel.enabledmodule", ["rknpu"], ""),
        ]
    },
}
_MATCH = {
    "type": "object",
    "additionalProperties": False,
    "required": ["matchFeatures"],
    "properties": {"matchFeatures": _FEATURES},
}
RULE_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "labels"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "labels": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^skerry\\.dev/accelerator-[a-z0-9-]+$"},
            "additionalProperties": {"const": "present"},
        },
        "matchFeatures": _FEATURES,
        "matchAny": {"type": "array", "minItems": 1, "items": _MATCH},
    },
    "oneOf": [{"required": ["matchFeatures"]}, {"required": ["matchAny"]}],
}
"""The part of nfd.k8s-sigs.io/v1alpha1 that the rules use."""


@pytest.fixture
def rules(render: Render) -> list[Rule]:
    manifest = render({"nodeFeatureRules": {"enabled": True}}).one("NodeFeatureRule")
    assert manifest["apiVersion"] == "nfd.k8s-sigs.io/v1alpha1"
    assert "namespace" not in manifest["metadata"]  # the kind is cluster-wide
    found: list[Rule] = manifest["spec"]["rules"]
    return found


def simulated_nfd(rules: list[Rule], features: Features) -> set[str]:
    """Labels of a node with these features, without the domain and `accelerator-`."""
    return {
        label.removeprefix("skerry.dev/accelerator-")
        for rule in rules
        if any(
            all(_holds(term, features) for term in option["matchFeatures"])
            for option in rule.get("matchAny", [rule])
        )
        for label in rule["labels"]
    }


def _holds(term: Rule, features: Features) -> bool:
    found = features.get(term["feature"], [])
    instances = found if isinstance(found, list) else [found]
    return any(
        all(_meets(one.get(name), asked) for name, asked in term["matchExpressions"].items())
        for one in instances
    )


def _meets(value: str | None, asked: Rule) -> bool:
    match asked["op"]:
        case "Exists":
            return value is not None
        case "In":
            return value in asked["value"]
        case _:
            return value is not None and any(re.search(text, value) for text in asked["value"])


def catalogue_labels() -> Iterator[str]:
    for profile in builtin_profiles():
        for alternative in profile.labels:
            yield from (key for key in alternative if key.startswith("skerry.dev/"))


def test_the_rules_are_off_by_default(render: Render) -> None:
    assert render().all("NodeFeatureRule") == []


def test_every_rule_is_well_formed(rules: list[Rule]) -> None:
    for rule in rules:
        jsonschema.validate(rule, RULE_SCHEMA)
    names = [rule["name"] for rule in rules]
    assert len(set(names)) == len(names)


def test_the_catalogue_knows_every_label_of_the_rules_and_no_other(rules: list[Rule]) -> None:
    made = {label for rule in rules for label in rule["labels"]}
    assert made | BY_HAND == set(catalogue_labels())


def pci(kind: str, vendor: str, device: str) -> Features:
    root_port = {"class": "0604", "vendor": "8086", "device": "7d1d"}
    return {"pci.device": [root_port, {"class": kind, "vendor": vendor, "device": device}]}


def usb(vendor: str, device: str) -> Features:
    return {"usb.device": [{"class": "ff", "vendor": vendor, "device": device}]}


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        pytest.param({}, set(), id="nothing"),
        pytest.param(pci("0880", "1ac1", "089a"), {"coral-pcie"}, id="Coral on PCIe"),
        pytest.param(usb("1a6e", "089a"), {"coral-usb"}, id="Coral on USB, cold"),
        pytest.param(usb("18d1", "9302"), {"coral-usb"}, id="Coral on USB, in use"),
        pytest.param(usb("18d1", "089a"), set(), id="half of each identity of Coral"),
        pytest.param(pci("0b40", "1e60", "2864"), {"hailo"}, id="Hailo-8 or 8L"),
        pytest.param(pci("0b40", "1e60", "45c4"), {"hailo-10h"}, id="Hailo-10H"),
        pytest.param(pci("0b40", "1e60", "43a2"), set(), id="a Hailo that no profile knows"),
        pytest.param(pci("1200", "8086", "643e"), {"intel-npu"}, id="NPU of Lunar Lake"),
        pytest.param(pci("1200", "8086", "09c4"), set(), id="an FPGA of the NPU's class"),
        pytest.param(pci("1180", "1022", "1502"), {"amd-xdna"}, id="NPU of Phoenix"),
        pytest.param(pci("1180", "1022", "17f0"), {"amd-xdna"}, id="NPU of Strix"),
        pytest.param({"kernel.enabledmodule": {"rknpu": ""}}, {"rockchip-rknpu"}, id="Rockchip"),
        pytest.param({"kernel.enabledmodule": {"veth": ""}}, set(), id="another module"),
        pytest.param(
            {"kernel.version": {"full": "5.15.148-tegra"}}, {"nvidia-jetson"}, id="Jetson"
        ),
        pytest.param({"kernel.version": {"full": "6.8.0-tegra-tools"}}, set(), id="a like name"),
    ],
)
def test_hardware_is_labelled(rules: list[Rule], features: Features, labels: set[str]) -> None:
    assert simulated_nfd(rules, features) == labels
