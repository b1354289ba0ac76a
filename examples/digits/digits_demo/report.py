"""The demo's result: what is written to report.json, and whether it is what was promised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from digits_demo.rollouts import Ending, Outcome, rollback_seconds
from digits_demo.samples import Sample, Tally, count
from digits_demo.watch import Memory, NodeView

REPORT_FILE = "report.json"


class Part(BaseModel):
    """Base: camelCase in the file."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class NodeReport(Part):
    """One node at the end."""

    name: str
    profile: str
    revision: str | None
    version: str | None
    simulated: bool
    """The accelerator is simulated: its resource is real to Kubernetes, the chip is not there."""
    requests: int
    failed_requests: int
    wrong_answers: int
    p50_ms: float | None
    p95_ms: float | None


class RolloutReport(Part):
    """One change of version."""

    from_: str | None
    to: str
    from_version: str | None
    to_version: str
    outcome: Outcome
    reason: str
    message: str
    seconds: float
    """From the moment the new version was applied until the rollout had ended."""
    rollback_seconds: float | None = None
    """From the decision until the last node served the stable revision."""

    model_config = ConfigDict(
        alias_generator=lambda name: to_camel(name.rstrip("_")), populate_by_name=True, frozen=True
    )


class SwapReport(Part):
    """One change of the model inside a pod."""

    node: str
    from_version: str | None
    to_version: str
    seconds: float
    """From the assignment read to the switch, download included."""
    switch_ms: float
    outage_ms: float
    fetched: bool


class RevisionReport(Part):
    """What the clients got from one revision on one node."""

    version: str
    revision: str
    node: str
    requests: int
    wrong_answers: int
    p50_ms: float | None
    p95_ms: float | None


class Report(Part):
    """Everything."""

    met: bool = False
    unmet: tuple[str, ...] = ()
    nodes: tuple[NodeReport, ...]
    requests: int
    failed_requests: int
    failures: dict[str, int]
    wrong_answers: int
    first_deployment: RolloutReport | None
    rollouts: tuple[RolloutReport, ...]
    rollback_seconds: float | None
    """The slowest of the rollbacks."""
    swap_seconds: tuple[float, ...]
    swaps: tuple[SwapReport, ...]
    restarts: int
    replaced_pods: int
    versions: dict[str, str]
    """Model version of each revision."""
    answers: tuple[RevisionReport, ...]
    seconds: float
    """The whole story, from the first version applied to the last rollback."""


class Expected(Part):
    """What a rollout must come to."""

    version: str
    outcome: Outcome
    reason: str = ""
    evidence: str = ""
    """A word that the message must hold."""


PROMISED = (
    Expected(version="2.0.0", outcome=Outcome.PROMOTED),
    Expected(
        version="3.0.0", outcome=Outcome.ROLLED_BACK, reason="UnitFailed", evidence="ExamFailed"
    ),
    Expected(
        version="4.0.0", outcome=Outcome.ROLLED_BACK, reason="MetricFailed", evidence="LatencyP95"
    ),
)


def is_simulated(profile: str) -> bool:
    """Tell whether a profile stands for hardware that is not there."""
    return profile.startswith("simulated-")


def node_report(node: NodeView, tally: Tally) -> NodeReport:
    """Describe one node at the end."""
    counts = tally.of(node.name)
    return NodeReport(
        name=node.name,
        profile=node.profile,
        revision=node.serves,
        version=node.version,
        simulated=is_simulated(node.profile),
        requests=counts.requests,
        failed_requests=counts.failed,
        wrong_answers=counts.wrong,
        p50_ms=counts.p50_ms,
        p95_ms=counts.p95_ms,
    )


def rollout_report(
    end: Ending, version: str, stable: tuple[str | None, str | None], seconds: float, memory: Memory
) -> RolloutReport:
    """Describe one rollout; `stable` is revision and version that served before."""
    revision, stable_version = stable
    back = None
    if end.decided_at is not None and revision is not None:
        back = rollback_seconds(memory.bands, revision, end.decided_at)
    return RolloutReport(
        from_=revision,
        to=end.revision,
        from_version=stable_version,
        to_version=version,
        outcome=end.outcome,
        reason=end.reason,
        message=end.message,
        seconds=round(seconds, 2),
        rollback_seconds=back,
    )


def swap_reports(memory: Memory) -> tuple[SwapReport, ...]:
    """Describe every swap, in order of time; a pod's first model is a start, not a swap."""
    swaps = sorted(memory.swaps.items(), key=lambda item: item[0][1])
    return tuple(
        SwapReport(
            node=node,
            from_version=memory.versions.get(swap.from_revision, swap.from_revision),
            to_version=memory.versions.get(swap.to_revision, swap.to_revision),
            seconds=round(swap.total_ms / 1000, 3),
            switch_ms=round(swap.switch_ms, 1),
            outage_ms=round(swap.outage_ms, 1),
            fetched=swap.fetched,
        )
        for (node, _), swap in swaps
        if swap.from_revision is not None
    )


def answer_reports(samples: Iterable[Sample]) -> tuple[RevisionReport, ...]:
    """Count what the clients got, by version and node."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        if sample.revision is not None:
            key = (sample.version or "", sample.revision, sample.node)
            groups.setdefault(key, []).append(sample)
    return tuple(_answers(*key, group) for key, group in sorted(groups.items()))


def _answers(version: str, revision: str, node: str, samples: list[Sample]) -> RevisionReport:
    counts = count(samples)
    return RevisionReport(
        version=version,
        revision=revision,
        node=node,
        requests=counts.requests,
        wrong_answers=counts.wrong,
        p50_ms=counts.p50_ms,
        p95_ms=counts.p95_ms,
    )


def build(
    nodes: Sequence[NodeView],
    memory: Memory,
    tally: Tally,
    rollouts: Sequence[RolloutReport],
    seconds: float,
) -> Report:
    """Put everything together and judge it; the first rollout is the first deployment."""
    totals = count(tally.all())
    swaps = swap_reports(memory)
    back = [r.rollback_seconds for r in rollouts if r.rollback_seconds is not None]
    report = Report(
        nodes=tuple(node_report(node, tally) for node in nodes),
        requests=totals.requests,
        failed_requests=totals.failed,
        failures=dict(tally.failures()),
        wrong_answers=totals.wrong,
        first_deployment=rollouts[0] if rollouts else None,
        rollouts=tuple(rollouts[1:]),
        rollback_seconds=max(back, default=None),
        swap_seconds=tuple(swap.seconds for swap in swaps),
        swaps=swaps,
        restarts=sum(pod.restarts for pod in memory.pods.values()),
        replaced_pods=len(memory.pods) - len({pod.node for pod in memory.pods.values()}),
        versions=memory.versions,
        answers=answer_reports(tally.all()),
        seconds=round(seconds, 1),
    )
    missing = unmet(report)
    return report.model_copy(update={"unmet": missing, "met": not missing})


def unmet(report: Report) -> tuple[str, ...]:
    """List what was promised and did not happen, in sentences; empty when all is well."""
    return (
        *_unmet_rollouts(report),
        *_unmet_requests(report),
        *_unmet_pods(report),
    )


def _unmet_rollouts(report: Report) -> Iterable[str]:
    found = {rollout.to_version: rollout for rollout in report.rollouts}
    if report.first_deployment is None:
        yield "the first version was not promoted"
    for expected in PROMISED:
        rollout = found.get(expected.version)
        if rollout is None:
            yield f"{expected.version}: its rollout did not end"
        elif rollout.outcome is not expected.outcome:
            yield f"{expected.version} was {rollout.outcome}, expected {expected.outcome}"
        elif not _is_for_the_right_reason(rollout, expected):
            wanted = f"{expected.reason} with {expected.evidence}"
            yield f"{expected.version} was taken back by {rollout.reason}, expected {wanted}"


def _is_for_the_right_reason(rollout: RolloutReport, expected: Expected) -> bool:
    is_reason = rollout.reason in (expected.reason, expected.evidence) or not expected.reason
    return is_reason and expected.evidence in f"{rollout.reason} {rollout.message}"


def _unmet_requests(report: Report) -> Iterable[str]:
    if report.failed_requests:
        causes = ", ".join(f"{n} x {cause}" for cause, n in report.failures.items())
        yield f"{report.failed_requests} of {report.requests} requests failed: {causes}"
    if not report.nodes:
        yield "no node had the model"
    for node in report.nodes:
        if not node.requests:
            yield f"{node.name} got no request"


def _unmet_pods(report: Report) -> Iterable[str]:
    if report.restarts:
        yield f"containers restarted {report.restarts} times"
    if report.replaced_pods:
        yield f"{report.replaced_pods} pods were replaced"


def write(report: Report, folder: Path) -> Path:
    """Write report.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REPORT_FILE
    path.write_text(report.model_dump_json(by_alias=True, indent=2) + "\n", "utf-8")
    return path
