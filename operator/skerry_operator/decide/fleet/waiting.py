"""What keeps a unit from serving, for people: what its pod says, or what Kubernetes says of it."""

from __future__ import annotations

from skerry_operator.constants import Reason
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.reported import ReportedFailure
from skerry_runtime.contract import FailureReason

_OUT_OF_MEMORY = "OOMKilled"
ADMIN = "its admin port (8082)"


def pod_missing(fleet: Fleet, unit: str) -> str:
    """Return why a unit has no pod: the one before is ending, or none may be made."""
    cause = fleet.observed.causes.get(unit)
    if cause:
        return cause
    ending = [pod for pod in fleet.observed.pods if pod.unit == unit and pod.deleting]
    reasons = [pod.disruption for pod in ending if pod.disruption]
    if reasons:
        return f"its pod is taken away: {reasons[-1]}"
    return "its pod is ending, another is to come" if ending else "no pod yet"


def pod_silent(fleet: Fleet, pod: Pod) -> str:
    """Return why a pod says nothing: its answer is no use, it does not run, or is out of reach."""
    observed = fleet.observed
    refused = observed.refused_reports.get(pod.unit)
    if refused:
        return refused
    if pod.waiting_reason:
        return f"{pod.waiting_reason}: {pod.waiting_message}".rstrip(": ")
    if pod.unit in observed.causes:
        return observed.causes[pod.unit]
    if pod.is_started and pod.unit in observed.silent:
        return (
            f"Unreachable: the pod runs, but the operator cannot reach {ADMIN}: is there a "
            "NetworkPolicy that denies it? See `kubectl get networkpolicy`"
        )
    if pod.last_exit and not pod.is_started:
        return f"pod is starting again; {last_exit(pod)}"
    return "pod does not answer" if pod.ready or pod.is_started else "pod is starting"


def crash_loop(pod: Pod) -> str:
    """Return what is known of a pod that crashes again and again."""
    memory = f"{last_exit(pod)}; " if pod.last_exit.startswith(_OUT_OF_MEMORY) else ""
    return f"{Reason.CRASH_LOOP}: {pod.restarts} restarts; {memory}{pod.waiting_message}".rstrip(
        "; "
    )


def explained(failure: ReportedFailure, pod: Pod) -> str:
    """Return a refusal; of one for the end of the process, the kubelet knows how that ended."""
    is_of_the_end = failure.reason == FailureReason.SELF_REVERTED and pod.last_exit
    exit_ = f"{last_exit(pod)}; " if is_of_the_end else ""
    return f"{failure.reason}: {exit_}{failure.message}"


def last_exit(pod: Pod) -> str:
    """Return how the pod's container ended last, with what to do; empty when it never did."""
    if not pod.last_exit:
        return ""
    if not pod.last_exit.startswith(_OUT_OF_MEMORY):
        return f"last exit: {pod.last_exit}"
    return (
        f"last exit: {pod.last_exit}: raise spec.runtime.resources.memoryLimit, or give the node "
        "more memory"
    )
