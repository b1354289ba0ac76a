"""Reading the cluster: how a rollout ended, who served what when, and what is told of it."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from digits_demo.cluster import image_values, parse_image
from digits_demo.kube import Deployment, Event, Pod
from digits_demo.rollouts import Before, Outcome, ending, rollback_seconds
from digits_demo.samples import Tally
from digits_demo.scene import Story, compose, named
from digits_demo.view import LineView, draw
from digits_demo.watch import Band, Memory, NodeView, Snapshot
from documents import make_served
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_runtime.contract import StatusReport, SwapMode, SwapRecord

MOMENT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW = MOMENT.timestamp()
POD = Pod("digits-1", "uid-1", "node-a", "cell", "10.0.0.1", 0, ready=True)
BEFORE = Before("r1", frozenset())


def status(**fields):
    ready = fields.pop("ready", "True")
    condition = {"type": "Ready", "status": ready, "reason": "X", "lastTransitionTime": MOMENT}
    cells = [{"name": "cell", "profile": "simulated-npu", "arch": "amd64"}]
    base = {"observedGeneration": 1, "conditions": [condition], "cells": cells}
    return EdgeDeploymentStatus.model_validate(base | fields)


def node(revision, since=NOW, uid="uid-1", swap=None):
    serving = revision and make_served(revision, f"{revision[1]}.0.0", since)
    report = StatusReport(
        unit="node-a",
        runtime_version="0",
        boot_id="b",
        started_at=0,
        now=NOW,
        serving=serving or None,
        last_swap=swap,
    )
    pod = Pod("digits-1", uid, "node-a", "cell", "10.0.0.1", 0, ready=True)
    return NodeView(pod, "simulated-npu", report)


def snapshot(found, serves="r2", at=NOW):
    return Snapshot(at, Deployment(1, found), (node(serves),))


PROMOTED = {"modelVersion": "2.0.0", "stableRevision": "r2", "targetRevision": "r2"}
FAILED = {"revision": "r3", "reason": "UnitFailed", "message": "ExamFailed", "at": MOMENT}
TAKEN_BACK = {
    "modelVersion": "2.0.0",
    "stableRevision": "r1",
    "failedRevisions": [FAILED],
    "ready": "False",
}


@pytest.mark.parametrize(
    ("found", "serves"),
    [
        pytest.param(status(), "r1", id="nothing is known yet"),
        pytest.param(
            status(**PROMOTED | {"modelVersion": "1.0.0"}), "r2", id="the model is not seen yet"
        ),
        pytest.param(
            status(**PROMOTED, rollout={"stage": "Soaking"}), "r2", id="it is still watched"
        ),
        pytest.param(
            status(**PROMOTED | {"stableRevision": "r1"}), "r1", id="the old one is still stable"
        ),
        pytest.param(status(**PROMOTED), "r1", id="a node does not serve it yet"),
        pytest.param(status(**PROMOTED), None, id="a node serves nothing"),
        pytest.param(status(**PROMOTED, ready="False"), "r2", id="not ready"),
        pytest.param(
            status(**PROMOTED | {"observedGeneration": 0}), "r2", id="of an older generation"
        ),
        pytest.param(status(**TAKEN_BACK), "r3", id="a node still serves the failed one"),
    ],
)
def test_a_rollout_that_has_not_ended(found, serves):
    assert ending(snapshot(found, serves), "2.0.0", BEFORE) is None


def test_a_promotion():
    end = ending(snapshot(status(**PROMOTED)), "2.0.0", BEFORE)
    assert end is not None
    assert (end.outcome, end.revision, end.decided_at) == (Outcome.PROMOTED, "r2", None)


def test_a_rollback_with_the_time_of_its_decision():
    end = ending(snapshot(status(**TAKEN_BACK), "r1"), "2.0.0", BEFORE)
    assert end is not None
    assert (end.outcome, end.revision, end.decided_at) == (Outcome.ROLLED_BACK, "r3", NOW)
    assert (end.reason, end.message) == ("UnitFailed", "ExamFailed")


def test_a_failure_of_an_earlier_rollout_is_no_ending():
    before = Before("r1", frozenset({"r3"}))
    assert ending(snapshot(status(**TAKEN_BACK), "r1"), "2.0.0", before) is None


def test_rollback_time_is_that_of_the_last_node_and_zero_when_none_left():
    stayed = Band("node-a", "r1", "1.0.0", NOW - 50, NOW + 50)
    back = [Band(f"node-{n}", "r1", "1.0.0", NOW + n, NOW + 9) for n in (1, 2)]
    assert rollback_seconds([stayed], "r1", NOW) == 0
    assert rollback_seconds([stayed, *back], "r1", NOW) == 2


def test_memory_joins_looks_into_bands_and_counts_a_swap_once():
    swap = SwapRecord(
        from_revision="r1",
        to_revision="r2",
        mode=SwapMode.OVERLAP,
        total_ms=900,
        switch_ms=80,
        outage_ms=0,
        fetched=True,
        at=NOW + 5,
    )
    memory = Memory()
    for at, view in (
        (NOW, node("r1", NOW - 1)),
        (NOW + 2, node("r1", NOW - 1)),
        (NOW + 6, node("r2", NOW + 5, swap=swap)),
        (NOW + 8, node("r2", NOW + 5, swap=swap)),
    ):
        memory.note(Snapshot(at, nodes=(view,)))
    assert memory.bands == [
        Band("node-a", "r1", "1.0.0", NOW - 1, NOW + 5),
        Band("node-a", "r2", "2.0.0", NOW + 5, NOW + 8),
    ]
    assert list(memory.swaps.values()) == [swap]


def test_memory_sees_a_replaced_pod():
    memory = Memory()
    for uid in ("uid-1", "uid-2"):
        memory.note(Snapshot(NOW, nodes=(node("r1", uid=uid),)))
    assert len(memory.pods) == 2


def test_revisions_in_texts_get_their_version_but_parts_of_words_do_not():
    assert named("v1-ab replaces v1-abc", {"v1-ab": "1.0.0"}) == "v1-ab (1.0.0) replaces v1-abc"


def test_an_event_is_told_once():
    story = Story()
    event = Event("uid/1", "EdgeDeployment/digits", "Promoted", "r2 is stable", warning=False)
    story.note_events([event], {"r2": "2.0.0"})
    story.note_events([event], {"r2": "2.0.0"})
    assert [line.text for line in story.lines] == [
        "EdgeDeployment/digits Promoted: r2 (2.0.0) is stable"
    ]


def test_without_a_terminal_each_change_is_one_line_and_simulated_is_said():
    out = io.StringIO()
    view, story = LineView(Console(file=out, width=200)), Story()
    story.say("it begins")
    scene = compose(snapshot(status(**PROMOTED)), Tally(), story, {"r2": "2.0.0"})
    view.show(scene)
    view.show(scene)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "it begins" in lines[0]
    assert "stable=r2 (2.0.0)" in lines[1]
    assert "node-a (simulated-npu) serves 2.0.0" in lines[2]


def test_the_picture_on_the_terminal_says_simulated():
    out = io.StringIO()
    scene = compose(snapshot(status(**PROMOTED)), Tally(), Story(), {})
    Console(file=out, width=160).print(draw(scene))
    assert "simulated-npu" in out.getvalue()


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("localhost/skerry/operator:1", ("localhost", "skerry/operator", "1", "")),
        ("registry.example:5000/a/b:2", ("registry.example:5000", "a/b", "2", "")),
        ("skerry/operator", ("", "skerry/operator", "", "")),
        ("r.example/a@sha256:ab", ("r.example", "a", "", "sha256:ab")),
    ],
)
def test_image_references(reference, parts):
    found = parse_image(reference)
    assert (found.registry, found.repository, found.tag, found.digest) == parts


def test_helm_gets_both_images():
    options = image_values({"operator": "localhost/o:1", "runtime": "localhost/r:2"})
    assert "--set-string=image.tag=1" in options
    assert "--set-string=runtimeImage.repository=r" in options
