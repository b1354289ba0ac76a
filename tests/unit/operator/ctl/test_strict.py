"""Manifests are checked strictly: every fault has its field, its value and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crd_objects import (
    EVERYTHING_DEPLOYMENT,
    EVERYTHING_MODEL,
    deployment,
    metric,
    model,
    placement,
    rollout,
    source,
    steps,
    variant,
)
from skerry_operator.ctl.strict import faults

Object = dict[str, Any]


@pytest.mark.parametrize("body", [EVERYTHING_DEPLOYMENT, EVERYTHING_MODEL, deployment(), model()])
def test_a_right_manifest_has_no_fault(body: Object) -> None:
    assert faults(body) == ()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        pytest.param(
            steps({"unit": "1"}), "spec.rollout.steps[0].unit: unknown field: did you mean units?",
            id="a slip of the pen",
        ),
        pytest.param(
            deployment(colour="red"),
            "spec.colour: unknown field: remove it; known are "
            "modelRef, placement, pods, rollout, runtime, serving",
            id="a field that nothing resembles",
        ),
        pytest.param(
            rollout(max_unavailable=1),
            "spec.rollout.max_unavailable: unknown field: did you mean maxUnavailable?",
            id="snake case, which the API server does not know",
        ),
        pytest.param(
            model(variants=[{"name": "a", "format": "ONNX"}]),
            "spec.variants[0].source: is missing: add it",
            id="a required field",
        ),
        pytest.param(
            steps({"units": 1}),
            "spec.rollout.steps[0].units: 1 is wrong: write text, in quotes where it looks like "
            "a number",
            id="a number where text belongs",
        ),
        pytest.param(
            rollout(progressDeadline="5 min"),
            'spec.rollout.progressDeadline: "5 min" is wrong: write a duration, for example 90s, '
            "1h30m or 2d",
            id="no duration",
        ),
        pytest.param(
            variant(memory="1 GB"),
            'spec.variants[0].memory: "1 GB" is wrong: write a quantity, for example 200Mi or 500m',
            id="no quantity",
        ),
        pytest.param(
            source(sha256="ABC"),
            'spec.variants[0].source.sha256: "ABC" is wrong: write the 64 lower-case hex digits '
            "that `sha256sum FILE` prints",
            id="no digest",
        ),
        pytest.param(
            source(uri="gs://models/digits"),
            'spec.variants[0].source.uri: "gs://models/digits" is wrong: write https://HOST/FILE '
            "without user and password, s3://BUCKET/KEY, oci://REGISTRY/REPOSITORY@sha256:DIGEST "
            "(or :TAG), hf://ORG/REPO/FILE@COMMIT with the 40 digits of a commit, or "
            "pvc://CLAIM/FILE; what is special in a name is written as %XX",
            id="an unknown scheme",
        ),
        pytest.param(
            source(uri="s3://models/digits"),
            "spec.variants[0].source.secretRef: an s3:// address needs one: name the Secret that "
            "says which endpoint and keys to use",
            id="an address without its secret",
        ),
        pytest.param(
            steps({"units": "0%"}),
            'spec.rollout.steps[0].units: "0%" is wrong: write a count such as "1" or a percentage '
            'such as "25%"',
            id="no share",
        ),
        pytest.param(
            placement(fallback="Never"),
            "spec.placement.fallback: \"Never\" is wrong: write 'Allow' or 'Forbid'",
            id="not one of the words",
        ),
        pytest.param(
            rollout(maxUnavailable=0),
            "spec.rollout.maxUnavailable: 0 is wrong: it should be greater than or equal to 1",
            id="out of range",
        ),
        pytest.param(
            rollout(paused="true"),
            'spec.rollout.paused: "true" is wrong: it should be a valid boolean',
            id="text where a truth value belongs",
        ),
        pytest.param(
            metric(name="ErrorRat", max="0.1"),
            'spec.rollout.analysis.metrics[0].name: "ErrorRat" is not measured: write one of '
            "ErrorRate, LatencyP50, LatencyP95, LatencyP99, GoldenAccuracy, Accelerated, "
            "Restarts, OutputAgreement, or add prometheus.query",
            id="a metric that nobody measures",
        ),
        pytest.param(
            deployment(name="Digits"),
            "metadata.name: \"Digits\" is no name: write at most 253 lower-case letters, digits, "
            "'-' and '.'",
            id="no name",
        ),
        pytest.param(
            deployment() | {"apiVersion": "skerry.dev/v2"},
            'apiVersion: "skerry.dev/v2" is not known: write skerry.dev/v1alpha1',
            id="another version",
        ),
        pytest.param(
            deployment() | {"sepc": {}}, "sepc: unknown field: did you mean spec?", id="at the top"
        ),
        pytest.param(
            deployment() | {"spec": None},
            "spec: nothing is no object: write the spec, docs/api.md has it",
            id="no spec",
        ),
        pytest.param(
            model(golden={"source": {"uri": "http://x.example/g", "sha256": "a" * 64},
                          "threshold": "93"}),
            'spec.golden.threshold: Accuracy is a share: write 0 to 1, for example "0.95"',
            id="an exam that nothing passes",
        ),
    ],
)  # fmt: skip
def test_a_fault_names_field_value_and_remedy(body: Object, fault: str) -> None:
    assert [str(one) for one in faults(body)] == [fault]


@pytest.mark.parametrize(
    ("window", "fault"),
    [
        ({"start": "2:00", "duration": "1h"}, "windows[0].start: "),
        ({"start": "24:00", "duration": "1h"}, "windows[0].start: "),
        ({"start": "02:00", "duration": "8d"}, "windows[0].duration: "),
        ({"start": "02:00", "duration": "1s"}, "windows[0].duration: "),
        ({"start": "02:00"}, "windows[0].duration: "),
        ({"start": "02:00", "duration": "1h", "days": ["Monday"]}, "windows[0].days[0]: "),
        ({"start": "02:00", "duration": "1h", "timeZone": "Mars/Olympus"}, "[0].timeZone: 'Mars"),
        ({"start": "02:00", "duration": "1h", "timeZone": "../x"}, "windows[0].timeZone: "),
    ],
)
def test_a_window_that_is_none_is_named(window: Object, fault: str) -> None:
    found = [str(one) for one in faults(rollout(windows=[window]))]
    assert len(found) == 1
    assert fault in found[0]


def test_all_faults_are_told_at_once() -> None:
    body = deployment(colour="red", rollout={"paused": 1, "retry": 2})
    assert len(faults(body)) == 3


def test_a_list_is_not_blamed_for_its_items() -> None:
    assert [one.path for one in faults(source(sha256="x"))] == ["spec.variants[0].source.sha256"]


@pytest.mark.parametrize("kind", [model, deployment])
def test_a_name_may_have_dots_as_it_may_in_kubernetes(kind: Callable[..., Object]) -> None:
    assert list(faults(kind(name="resnet-1.5"))) == []
    assert list(faults(deployment(modelRef={"name": "resnet-1.5"}))) == []


@pytest.mark.parametrize(("soak", "fault"), [("1d", ""), ("30d", ""), ("31d", "write 0s to 720h"),
                                             ("1d12h", "write a duration")])  # fmt: skip
def test_a_soak_may_last_days(soak: str, fault: str) -> None:
    found = [str(one) for one in faults(steps({"units": "1", "soak": soak}))]
    assert bool(found) == bool(fault)
    assert all(fault in one for one in found)
