"""First deployments that fail, on real pods: none is a dead end."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.lab import NODES, QUICK_STEPS, Lab

NOT_THERE = {"sha256": "1" * 64}
SOON = {"progressDeadline": "8s"}


def test_a_first_deployment_that_comes_late_becomes_stable_by_itself(lab: Lab) -> None:
    lab.server.stop()
    try:
        lab.apply(lab.model("v1"), lab.deployment(rollout=SOON))
        lab.wait(lambda: lab.status().phase == "Failed", "the deadline passed")
        assert "ProgressDeadlineExceeded" in lab.condition("Ready")[2]
        assert "becomes stable by itself" in lab.condition("Ready")[2]
    finally:
        lab.server.start()
    status = lab.wait_stable(lab.index.model("v1").version)
    assert status.failed_revisions == ()
    assert set(lab.versions().values()) == {lab.index.model("v1").version}
    lab.delete_deployment()


def without_npu_file(lab: Lab) -> dict[str, Any]:
    """V1, whose file for the NPU nobody put on the server: node-a refuses it, the others serve."""
    model = lab.model("v1")
    variant = model["spec"]["variants"][0]
    source = {"uri": f"{lab.server.url}/nobody-put-me-here.onnx", **NOT_THERE}
    npu = {**variant, "name": "npu", "runsOn": ["npu"], "source": source}
    model["spec"]["variants"] = [npu, {**variant, "runsOn": ["cpu"]}]
    return model


@pytest.mark.long
def test_the_version_after_a_failed_first_deployment_has_its_canary(lab: Lab) -> None:
    v1, v2 = (lab.index.model(key).version for key in ("v1", "v2"))
    lab.apply(without_npu_file(lab), lab.deployment())
    lab.wait(lambda: lab.status().phase == "Failed", "node-a refuses it")
    others = [v1, v1]
    served = lambda: [lab.versions().get(node) for node in NODES[1:]]  # noqa: E731
    lab.wait(lambda: served() == others, "the others serve it")
    steps = [QUICK_STEPS[0], {"pause": True}, QUICK_STEPS[1]]
    # node-a takes the first version as little as before: the way back ends without it
    rollout = {"steps": steps, "progressDeadline": "30s"}
    lab.apply(lab.model("v2"), lab.deployment(rollout=rollout))
    lab.wait(lambda: lab.status().phase == "Paused", "one unit has the new version")
    status = lab.status()
    assert (status.stable_revision, status.step) == (None, "2/3")
    assert status.interim_revision is not None
    assert list(lab.versions().values()).count(v2) == 1
    lab.apply(without_npu_file(lab))
    lab.wait(lambda: served() == others and lab.status().phase == "Failed", "it went back")
    assert lab.status().stable_revision is None
    lab.apply(lab.model("v2"), lab.deployment())
    status = lab.wait_stable(v2)
    assert status.interim_revision is None
    assert set(lab.versions().values()) == {v2}
