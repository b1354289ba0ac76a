"""Rollouts on real pods beyond the demo's story."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.lab import QUICK_STEPS, Lab


def test_a_first_deployment_that_fails_says_there_is_nothing_to_roll_back_to(lab: Lab) -> None:
    lab.apply(lab.model("v3"), lab.deployment())
    lab.wait(lambda: lab.condition("Stalled")[0] == "True", "the first deployment failed")
    assert lab.status().phase == "Failed"
    assert "nothing to roll back to" in lab.condition("Ready")[2]
    assert "ExamFailed" in lab.condition("Ready")[2]
    assert lab.condition("Available")[0] == "False"


def test_a_fixed_spec_then_goes_out_at_once(lab: Lab) -> None:
    lab.apply(lab.model("v1"))
    status = lab.wait_stable(lab.index.model("v1").version)
    assert status.phase == "Stable"
    assert status.units.serving == 3


def test_a_failed_revision_is_remembered_until_retry_changes(lab: Lab) -> None:
    lab.apply(lab.model("v3"))
    version = lab.index.model("v3").version
    first = lab.wait_rolled_back(version, "ExamFailed").failed_revisions[0]
    lab.kubectl("annotate", "edgedeployment", "digits", "example.org/touched=yes")
    assert lab.status().rollout.stage == "Idle"
    lab.apply(lab.deployment(rollout={"retry": "again"}))

    def failed_again() -> bool:
        entries = lab.status().failed_revisions
        return bool(entries) and entries[0].at > first.at and entries[0].retry == "again"

    lab.wait(failed_again, "it was tried once more, and failed once more")


def test_a_pause_waits_for_a_person(lab: Lab, tmp_path: Path) -> None:
    steps = [QUICK_STEPS[0], {"pause": True}, QUICK_STEPS[1]]
    lab.apply(lab.deployment(rollout={"steps": steps}), lab.model("v2"))
    lab.wait(lambda: lab.status().phase == "Paused", "the rollout waits")
    v1, v2 = (lab.index.model(key).version for key in ("v1", "v2"))
    assert sorted(lab.versions().values(), key=str) == sorted([v1, v1, v2])
    request = tmp_path / "request.json"
    image = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}
    request.write_text(json.dumps({"inputs": [image]}))
    for service, version in (("stable", v1), ("canary", v2)):
        asked = ("infer", "digits", "-f", str(request), "--service", service, "-o", "json")
        answer = lab.skerry(*asked)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["model_version"] == version
    assert lab.skerry("promote", "digits").returncode == 0
    lab.wait_stable(v2)
    told = lab.skerry("status", "digits")
    assert told.returncode == 0
    assert "Stable" in told.stdout
    assert lab.skerry("abort", "digits").returncode == 1  # nothing is under way


def test_going_back_to_the_version_before_fetches_nothing(lab: Lab) -> None:
    lab.apply(lab.deployment(), lab.model("v1"))
    lab.wait_stable(lab.index.model("v1").version)
    swaps = [report.last_swap for report in lab.reports().values()]
    assert len(swaps) == 3
    assert all(swap is not None and not swap.fetched for swap in swaps)


def test_settings_that_need_new_pods_replace_them_and_lose_no_unit(lab: Lab) -> None:
    before = lab.pods()
    lab.apply(lab.deployment(runtime={"threads": 1, "resources": {"memoryRequest": "140Mi"}}))

    def replaced() -> bool:
        now = lab.pods()
        same_nodes = now.keys() == before.keys()
        return same_nodes and all(now[node].uid != before[node].uid for node in now)

    lab.wait(replaced, "every pod is a new one")
    status = lab.wait_stable(lab.index.model("v1").version)
    one_each = lambda: len(lab.items("daemonsets")) == len(status.cells)  # noqa: E731
    lab.wait(one_each, "each cell has one DaemonSet")
    assert all((cell.max_outage_ms or 0) > 0 for cell in status.cells)  # one node, one pod


def test_the_spec_and_what_users_own_are_never_written(lab: Lab) -> None:
    for kind in ("edgedeployment", "edgemodel"):
        metadata = lab.items(kind, "--show-managed-fields")[0]["metadata"]
        managers = metadata["managedFields"]
        ours = [entry for entry in managers if entry["manager"] == "skerry-operator"]
        assert ours
        assert all(set(entry["fieldsV1"]) == {"f:status"} for entry in ours)
        people = {entry["manager"] for entry in managers} - {"skerry-operator"}
        assert people <= {"git", "skerry-cli", "kubectl-annotate"}
        assert not metadata.get("finalizers")


def test_after_rollouts_and_rollbacks_git_has_nothing_to_correct(lab: Lab) -> None:
    wanted = lab.deployment(runtime={"threads": 1, "resources": {"memoryRequest": "140Mi"}})
    items = {"apiVersion": "v1", "kind": "List", "items": [wanted, lab.model("v1")]}
    flags = ("--server-side", "--field-manager=git", "-f", "-")
    assert lab.kubectl("diff", *flags, stdin=json.dumps(items)) == ""


def test_deleting_the_deployment_leaves_nothing_behind(lab: Lab) -> None:
    lab.kubectl("delete", "edgedeployment", "digits")
    kinds = "pods,daemonsets,configmaps,services,controllerrevisions"
    lab.wait(
        lambda: not lab.items(kinds, "-l", "app.kubernetes.io/managed-by=skerry"),
        "nothing generated is left",
    )
