"""Another default runtime image on real pods: nothing comes unannounced, and a rollout of its own.

The two images are one under two names: what counts is what the pods were made of.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from digits_demo import cluster
from e2e.conftest import HELM_WAITS, RELEASE
from e2e.lab import Lab
from skerry_cluster.cluster import present_nodes
from skerry_cluster.settings import Layout

HARBOUR = {
    "nodeSelector": {"topology.kubernetes.io/zone": "harbour"},
    "accelerators": ["cpu"],
}
"""Two nodes are enough: one first, and the other after it."""
UnderName = Callable[[str], None]


@pytest.fixture(scope="module")
def next_name(images: dict[str, str]) -> Iterator[str]:
    """Let the nodes have the runtime's image under another name too."""
    name, _, tag = images["runtime"].rpartition(":")
    other, nodes = f"{name}-next:{tag}", present_nodes(Layout.from_environment())
    if not nodes:
        pytest.skip("no nodes of our own, whose images could be named anew")
    for node in nodes:
        node.ctr("images", "tag", "--force", images["runtime"], other)
    yield other
    for node in nodes:
        node.ctr("images", "rm", other)


@pytest.fixture(scope="module")
def chart_with(settings_come_back: None, helm: list[str]) -> UnderName:
    """Upgrade the chart to a default runtime image."""

    def upgrade(image: str) -> None:
        command = [*helm, "upgrade", RELEASE, str(cluster.CHART), "--reuse-values"]
        values = cluster.parse_image(image).settings("runtimeImage")
        subprocess.run([*command, *values, *HELM_WAITS], check=True)

    return upgrade


def images_of(lab: Lab) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in lab.living()}


def digits(lab: Lab, **rollout: Any) -> dict[str, Any]:
    return lab.deployment(rollout, placement=HARBOUR)


def test_a_model_only_change_is_swapped_in_place_after_the_chart_has_another_image(
    lab: Lab, images: dict[str, str], next_name: str, chart_with: UnderName, tmp_path: Path
) -> None:
    lab.start_stable(placement=HARBOUR)
    pods = lab.pods()
    chart_with(next_name)
    lab.wait(lambda: lab.status().upgrade, "the other image is on offer")
    assert lab.condition("Ready")[:2] == ("True", "Stable")
    assert f"{images['runtime']} -> {next_name}" in lab.condition("Ready")[2]
    file = tmp_path / "model-2.json"
    file.write_text(json.dumps(lab.model("v2")))
    told = lab.skerry("plan", "-f", str(file))
    assert "swapped in place" in told.stdout, told.stderr
    assert next_name in told.stdout
    lab.apply(lab.model("v2"))
    lab.wait_stable(lab.index.model("v2").version)
    assert lab.pods() == pods
    assert images_of(lab) == {images["runtime"]}


def test_the_image_is_rolled_out_by_steps_when_somebody_asks_for_it(
    lab: Lab, images: dict[str, str], next_name: str
) -> None:
    before = lab.status()
    assert "by the steps of the spec" in lab.skerry("upgrade", "digits").stdout
    lab.wait_event("RolloutStarted", f"runtime image {images['runtime']} -> {next_name}")
    both = {images["runtime"], next_name}
    lab.wait(lambda: images_of(lab) == both, "one unit has it first")
    done = lab.skerry("status", "digits", "-w", "--timeout", "3m")
    assert done.returncode == 0, done.stdout
    after = lab.status()
    assert images_of(lab) == {next_name}
    assert after.stable_revision != before.stable_revision
    assert after.upgrade is None
    assert [one.revision for one in after.history][1] == before.stable_revision


@pytest.mark.long
def test_an_earlier_model_comes_back_in_the_new_pods(lab: Lab, next_name: str) -> None:
    pods = lab.pods()
    lab.apply(lab.model("v1"))
    lab.wait_stable(lab.index.model("v1").version)
    assert lab.pods() == pods
    assert images_of(lab) == {next_name}


@pytest.mark.long
def test_an_image_that_does_not_come_is_taken_back_to_the_one_before(
    lab: Lab, next_name: str, chart_with: UnderName
) -> None:
    before = lab.status().stable_revision
    lab.apply(digits(lab, runtimeUpgrade="Rollout", progressDeadline="8s"))
    chart_with(next_name.replace("-next:", "-lost:"))
    lab.wait_rolled_back(lab.index.model("v1").version, "ProgressDeadlineExceeded")
    assert lab.status().stable_revision == before
    lab.wait(lambda: images_of(lab) == {next_name} and len(lab.pods()) == 2, "the pods are back")
    lab.wait(lambda: lab.status().units.serving == 2, "both serve")
