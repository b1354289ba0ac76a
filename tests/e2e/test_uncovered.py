"""A version with a build for the NPU alone, where two of three nodes serve on something else."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.lab import NODES, Lab

NPU_NODE, *OTHERS = NODES


def test_a_version_without_a_build_for_nodes_that_serve_is_held_and_plan_says_it_first(
    lab: Lab, tmp_path: Path
) -> None:
    old = lab.index.model("v1").version
    lab.start_stable("v1")
    before = lab.pods()
    narrow = lab.model("v2", runsOn=["npu"])
    file = tmp_path / "model.json"
    file.write_text(json.dumps(narrow))
    foreseen = lab.skerry("plan", "-f", str(file))
    assert foreseen.returncode == 3, foreseen.stdout + foreseen.stderr
    assert "UnitsUncovered" in foreseen.stdout
    lab.apply(narrow)
    lab.wait(lambda: lab.condition("Stalled")[1] == "UnitsUncovered", "it is held")
    message = lab.condition("Ready")[2]
    assert all(node in message for node in OTHERS)
    assert NPU_NODE not in message
    assert lab.condition("Available")[0] == "True"
    assert lab.versions() == dict.fromkeys(NODES, old)
    assert lab.pods() == before


def test_with_exclude_those_nodes_keep_their_model_also_in_a_new_pod(lab: Lab) -> None:
    old, new = (lab.index.model(key).version for key in ("v1", "v2"))
    lab.apply(lab.deployment(rollout={"onUncovered": "Exclude"}))
    status = lab.wait_stable(new)
    expected = {NPU_NODE: new, **dict.fromkeys(OTHERS, old)}
    assert lab.versions() == expected
    ready = next(one for one in status.conditions if one.type == "Ready")
    assert all(node in ready.message for node in OTHERS)
    former = lab.pods()[OTHERS[0]]
    lab.kubectl("delete", "pod", former.name)
    lab.wait(lambda: lab.pods().get(OTHERS[0], former).uid != former.uid, "there is another pod")
    lab.wait_serves(OTHERS[0], old)


def test_the_next_version_with_a_build_for_all_takes_them_along(lab: Lab) -> None:
    again = "2.1.0"
    lab.apply(lab.model("v2", version=again))
    lab.wait_stable(again)
    assert lab.versions() == dict.fromkeys(NODES, again)
