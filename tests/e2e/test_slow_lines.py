"""A line on which a model takes longer than the progress deadline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e.dripping_server import DrippingServer
from e2e.lab import NODES, Lab
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage

DEADLINE_S = 20


@pytest.fixture(scope="module")
def line(lab: Lab, files: Path) -> Iterator[DrippingServer]:
    with DrippingServer(files, lab.access.host_address) as running:
        yield running


def over(lab: Lab, line: DrippingServer, version: str) -> dict[str, Any]:
    """Return the second model with its file at the other end of the slow line."""
    model = lab.model("v2", version=version)
    source = model["spec"]["variants"][0]["source"]
    source["uri"] = f"{line.url}/{source['uri'].rpartition('/')[2]}"
    return model


def is_past_the_deadline(lab: Lab) -> bool:
    rollout = lab.status().rollout
    if rollout.stage is not Stage.STEPPING or rollout.progress_at is None:
        return False
    return (datetime.now(UTC) - rollout.progress_at).total_seconds() > DEADLINE_S + 5


def test_a_download_that_moves_outlives_the_progress_deadline_and_tells_how_far_it_is(
    lab: Lab, line: DrippingServer
) -> None:
    lab.start_stable("v1")
    new = "2.0.0-slow"
    lab.apply(over(lab, line, new), lab.deployment({"progressDeadline": f"{DEADLINE_S}s"}))
    lab.wait(lambda: is_past_the_deadline(lab), "the deadline is past, and it is not taken back")
    told = lab.wait(lambda: lab.status().download, "the status has the numbers")
    assert told.percent is not None
    assert "at this rate" in lab.condition("Ready")[2]
    # what follows the download is no matter of the line: let a slow machine have its time
    lab.apply(lab.deployment({"progressDeadline": "10m"}))
    line.be_good()
    lab.wait_stable(new)
    assert lab.versions() == dict.fromkeys(NODES, new)


@pytest.mark.long
def test_one_that_drips_too_long_is_taken_back_and_goes_on_after_a_retry(
    lab: Lab, line: DrippingServer
) -> None:
    line.be_slow()
    new = "3.0.0-slow"
    old = "2.0.0-slow"
    short = {"progressDeadline": f"{DEADLINE_S}s", "download": {"deadline": f"{DEADLINE_S}s"}}
    model = over(lab, line, new)
    variant = model["spec"]["variants"][0]
    third = lab.index.model("v3").file
    variant["source"] = {"uri": f"{line.url}/{third.name}", "sha256": third.sha256}
    del model["spec"]["golden"]  # its exam would refuse it
    lab.apply(model, lab.deployment(short))
    message = lab.wait_rolled_back(new, "ProgressDeadlineExceeded").failed_revisions[0].message
    assert f"not fetched within {DEADLINE_S}s" in message
    assert "spec.rollout.download.deadline" in message
    assert lab.versions() == dict.fromkeys(NODES, old)
    line.be_good()
    lab.apply(lab.deployment({"retry": "a better line", "progressDeadline": "10m"}))
    lab.wait_stable(new)
    asked = [start for path, start in line.begun_at if path.endswith(third.name)]
    assert asked[0] == 0
    assert any(start > 0 for start in asked[1:])
