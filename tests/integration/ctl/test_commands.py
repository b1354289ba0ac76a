"""The command line against a real API server: what it reads, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bare_api import Kubectl
from crd_objects import model
from ctl_objects import STABLE, TARGET, WHEN, condition, deployed, failure, status, waiting

pytestmark = pytest.mark.integration

Object = dict[str, Any]
Put = Callable[[Object], None]
Skerry = Callable[..., Any]


def read(kubectl: Kubectl, path: str) -> str:
    return kubectl("get", "ed", "digits", f"-o=jsonpath={path}")


def event(namespace: str, **fields: Any) -> Object:
    about = {"kind": "EdgeDeployment", "name": "digits", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "digits.1"},
        "involvedObject": about,
        "type": "Normal",
        "reason": "StepStarted",
        "lastTimestamp": WHEN,
    } | fields


def test_status_tells_the_object_its_cells_and_its_events(
    skerry: Skerry, put: Put, namespace: str
) -> None:
    put(deployed(waiting()))
    put(event(namespace, message="step 2/4 begins"))
    said = skerry("status", "digits")
    assert said.code == 0
    assert said.out.startswith(f"EdgeDeployment {namespace}/digits: Paused, step 2/4\n")
    assert "digits-cpu-amd64" in said.out
    assert "Normal  StepStarted  step 2/4 begins" in said.out


def test_status_in_json_is_the_status_and_more(skerry: Skerry, put: Put) -> None:
    put(deployed())
    found = json.loads(skerry("status", "digits", "-o", "json").out)
    assert found["stable"] == {"revision": STABLE, "version": "1.0.0"}
    assert found["status"]["cells"][0]["name"] == "digits-cpu-amd64"


def test_following_ends_at_once_when_the_end_is_there(skerry: Skerry, put: Put) -> None:
    stalled = condition("Stalled", "True", "RolledBack", "taken back")
    put(deployed(status(conditions=[stalled], failedRevisions=[failure()])))
    said = skerry("status", "digits", "-w")
    assert (said.code, said.out.splitlines()[-1]) == (3, "Stalled=True: RolledBack: taken back")


def test_following_ends_at_the_timeout(skerry: Skerry, put: Put) -> None:
    put(deployed(waiting()))
    assert skerry("status", "digits", "-w", "--timeout", "1ms").code == 4


def test_history_in_json_has_promotions_and_failures(skerry: Skerry, put: Put) -> None:
    put(deployed(status(failedRevisions=[failure()])))
    found = json.loads(skerry("history", "digits", "-o", "json").out)
    assert [entry["revision"] for entry in found["stable"]] == [STABLE]
    assert [entry["reason"] for entry in found["failed"]] == ["UnitFailed"]


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_promote_and_abort_annotate_the_target(
    verb: str, skerry: Skerry, put: Put, kubectl: Kubectl
) -> None:
    put(deployed(waiting()))
    assert skerry(verb, "digits").code == 0
    assert read(kubectl, rf"{{.metadata.annotations.skerry\.dev/{verb}}}") == TARGET


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_promote_and_abort_refuse_at_rest_and_write_nothing(
    verb: str, skerry: Skerry, put: Put, kubectl: Kubectl
) -> None:
    put(deployed())
    before = read(kubectl, "{.metadata.resourceVersion}")
    said = skerry(verb, "digits")
    assert (said.code, "no rollout is under way" in said.err) == (1, True)
    assert read(kubectl, "{.metadata.resourceVersion}") == before


def test_pause_retry_and_resume_set_the_spec_under_their_own_name(
    skerry: Skerry, put: Put, kubectl: Kubectl
) -> None:
    put(deployed())
    for arguments in (["pause", "digits"], ["retry", "digits", "again"]):
        assert skerry(*arguments).code == 0
    assert json.loads(read(kubectl, "{.spec.rollout}")) == {"paused": True, "retry": "again"}
    assert skerry("resume", "digits").code == 0
    assert read(kubectl, "{.spec.rollout.paused}") == "false"
    managers = kubectl("get", "ed", "digits", "--show-managed-fields", "-o=json")
    names = {one["manager"] for one in json.loads(managers)["metadata"]["managedFields"]}
    assert "skerry-cli" in names


def test_retry_without_a_text_is_new_every_time(skerry: Skerry, put: Put, kubectl: Kubectl) -> None:
    put(deployed())
    assert skerry("retry", "digits").code == 0
    assert read(kubectl, "{.spec.rollout.retry}").endswith("Z")


@pytest.mark.parametrize("verb", ["status", "history", "promote", "abort", "retry", "pause"])
def test_an_unknown_deployment_is_named_with_its_namespace(
    verb: str, skerry: Skerry, namespace: str
) -> None:
    said = skerry(verb, "nobody")
    assert (said.code, said.out) == (1, "")
    assert f"EdgeDeployment {namespace}/nobody does not exist" in said.err


def test_an_unknown_context_is_one_line(skerry: Skerry) -> None:
    said = skerry("--context", "nowhere", "status", "digits")
    assert (said.code, said.err.count("\n")) == (1, 1)


def test_the_versions_come_from_the_snapshots(skerry: Skerry, put: Put) -> None:
    put(deployed(waiting()))
    put(
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"digits-{TARGET}",
                "labels": {"skerry.dev/deployment": "digits"},
            },
            "revision": 1,
            "data": {
                "revision": TARGET,
                "models": [{"name": "digits", "spec": model(version="2.0.0")["spec"]}],
                "runtime": {},
                "serving": {},
                "defaultImage": "runtime:1",
            },
        }
    )
    assert f"target  {TARGET} (version 2.0.0)" in skerry("status", "digits").out
