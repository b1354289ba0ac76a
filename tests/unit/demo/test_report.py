"""The verdict at the end: each broken promise is named and fails the demo."""

import json

import pytest

from digits_demo.report import NodeReport, Report, RolloutReport, unmet, write
from digits_demo.rollouts import Outcome

NODE = NodeReport(
    name="node-a",
    profile="simulated-npu",
    revision="r2",
    version="2.0.0",
    simulated=True,
    requests=100,
    failed_requests=0,
    wrong_answers=1,
    p50_ms=1.0,
    p95_ms=2.0,
)


def rollout(version, outcome=Outcome.PROMOTED, reason="Promoted", message=""):
    return RolloutReport(
        from_="r1",
        to=f"r{version[0]}",
        from_version="1.0.0",
        to_version=version,
        outcome=outcome,
        reason=reason,
        message=message,
        seconds=10.0,
    )


V1 = rollout("1.0.0")
V2 = rollout("2.0.0")
V3 = rollout("3.0.0", Outcome.ROLLED_BACK, "UnitFailed", "node-a: ExamFailed: 0.01 of 0.93")
V4 = rollout("4.0.0", Outcome.ROLLED_BACK, "MetricFailed", "LatencyP95 in cell x is 90ms")

GOOD = Report(
    nodes=(NODE,),
    requests=100,
    failed_requests=0,
    failures={},
    wrong_answers=1,
    first_deployment=V1,
    rollouts=(V2, V3, V4),
    rollback_seconds=0.5,
    swap_seconds=(1.0,),
    swaps=(),
    restarts=0,
    replaced_pods=0,
    versions={"r1": "1.0.0"},
    answers=(),
    seconds=100.0,
)


def changed(**fields):
    return GOOD.model_copy(update=fields)


def with_rollout(number, **fields):
    rollouts = list(GOOD.rollouts)
    rollouts[number] = rollouts[number].model_copy(update=fields)
    return changed(rollouts=tuple(rollouts))


def test_nothing_is_unmet_when_all_went_as_promised():
    assert unmet(GOOD) == ()


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        pytest.param(
            changed(first_deployment=None, rollouts=()),
            "the first version was not promoted",
            id="v1 never came up",
        ),
        pytest.param(
            changed(rollouts=(V2, V3)), "4.0.0: its rollout did not end", id="v4 did not end"
        ),
        pytest.param(
            with_rollout(0, outcome=Outcome.ROLLED_BACK),
            "2.0.0 was RolledBack, expected Promoted",
            id="v2 was taken back",
        ),
        pytest.param(
            with_rollout(1, outcome=Outcome.PROMOTED),
            "3.0.0 was Promoted, expected RolledBack",
            id="v3 was promoted",
        ),
        pytest.param(
            with_rollout(1, reason="MetricFailed", message="ErrorRate"),
            "3.0.0 was taken back by MetricFailed, expected UnitFailed with ExamFailed",
            id="v3 was stopped by something else than the exam",
        ),
        pytest.param(
            with_rollout(1, message="node-a: FetchFailed: 404"),
            "3.0.0 was taken back by UnitFailed, expected UnitFailed with ExamFailed",
            id="v3 could not even be fetched",
        ),
        pytest.param(
            with_rollout(2, message="ErrorRate in cell x is 0.2"),
            "4.0.0 was taken back by MetricFailed, expected MetricFailed with LatencyP95",
            id="v4 was stopped by another metric",
        ),
        pytest.param(
            changed(failed_requests=2, failures={"TimeoutError: ": 2}),
            "2 of 100 requests failed: 2 x TimeoutError: ",
            id="requests failed",
        ),
        pytest.param(changed(nodes=()), "no node had the model", id="no nodes"),
        pytest.param(
            changed(nodes=(NODE.model_copy(update={"requests": 0}),)),
            "node-a got no request",
            id="a node without traffic",
        ),
        pytest.param(changed(restarts=1), "containers restarted 1 times", id="a restart"),
        pytest.param(changed(replaced_pods=1), "1 pods were replaced", id="a replaced pod"),
    ],
)
def test_each_broken_promise_is_named(report, sentence):
    assert sentence in unmet(report)


def test_the_file_has_the_names_that_readers_expect(tmp_path):
    found = json.loads(write(GOOD, tmp_path).read_text())
    assert {
        "nodes",
        "requests",
        "failedRequests",
        "rollouts",
        "rollbackSeconds",
        "swapSeconds",
        "restarts",
    } <= found.keys()
    assert {"name", "profile", "revision"} <= found["nodes"][0].keys()
    assert {"from", "to", "outcome", "reason", "seconds"} <= found["rollouts"][0].keys()
    assert [r["outcome"] for r in found["rollouts"]] == ["Promoted", "RolledBack", "RolledBack"]
