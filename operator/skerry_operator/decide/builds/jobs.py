"""Jobs as they are in the cluster, and what their pods said in their last words. Pure.

A verdict is taken for something that any pod may have written: it has bounds, names its order's
key, and a file in the model's own place in the store and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from skerry_operator.api.bounds import on_one_line
from skerry_operator.api.v1alpha1.edgemodel_optimize import Built
from skerry_operator.api.v1alpha1.edgemodel_source import SourceSecret
from skerry_operator.decide.builds.effective import is_usable
from skerry_operator.decide.builds.wanted import WantedBuild
from skerry_operator.decide.observed import Pod
from skerry_runtime.contract import (
    MAX_VERDICT_BYTES,
    BuildPhase,
    BuildVerdict,
    BuildWorth,
    is_known,
)

_MESSAGE_LIMIT = 1024
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_SECONDS_LIMIT = 2**31 - 1
_BYTES_LIMIT = 2**53 - 1


@dataclass(frozen=True)
class ObservedJob:
    """A Job as it is in the cluster."""

    name: str
    uid: str
    is_complete: bool = False
    """A pod of it ended well: there is a verdict."""
    failure: str = ""
    """Why it was given up, such as `BackoffLimitExceeded: ...`; empty: it was not."""
    failed_pods: int = 0
    started_at: datetime | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def is_over(self) -> bool:
        """Tell whether it makes no more pods."""
        return self.is_complete or bool(self.failure)

    @property
    def is_settled(self) -> bool:
        """Tell whether it is over and its pods' last words are here: they come by another watch."""
        return self.is_over and all(pod.is_over for pod in self.pods)


@dataclass(frozen=True)
class StorePlace:
    """Where one model's builds lie."""

    uri: str
    pull_secret: SourceSecret | None = None

    def holds(self, uri: str) -> bool:
        """Tell whether an address is of this place."""
        joint = "@sha256:" if self.uri.startswith("oci://") else "/"
        rest = uri.removeprefix(f"{self.uri}{joint}")
        return rest != uri and "/" not in rest and ".." not in rest


def result_of_job(wanted: WantedBuild, job: ObservedJob, place: StorePlace) -> Built | None:
    """Return what a Job that is over came to; None: its pod is gone, and its verdict with it."""
    if job.is_complete:
        words = _words_of(job.pods)
        return None if words is None else _read(wanted, job, words, place)
    return _result(wanted, job, BuildPhase.FAILED, f"{job.failure}{_last_try(job)}")


def _words_of(pods: Iterable[Pod]) -> str | None:
    """Return the last words of the pod that ended well."""
    ended = [pod for pod in pods if pod.ending is not None and pod.ending.exit_code == 0]
    newest = sorted(ended, key=lambda pod: (pod.created_at or _BEGINNING, pod.name))
    return newest[-1].ending.words if newest and newest[-1].ending else None


def _last_try(job: ObservedJob) -> str:
    """Return how the last pod ended, for people."""
    ended = sorted(
        (pod for pod in job.pods if pod.ending is not None),
        key=lambda pod: (pod.created_at or _BEGINNING, pod.name),
    )
    if not ended or ended[-1].ending is None:
        waiting = next((pod for pod in job.pods if pod.waiting_reason), None)
        return f"; its pod waits: {waiting.waiting_reason}" if waiting else ""
    ending = ended[-1].ending
    words = on_one_line(ending.words, 512) if ending.exit_code else ""
    remedy = ": raise optimize.resources.memoryLimit" if ending.reason == "OOMKilled" else ""
    told = words or f"{on_one_line(ending.reason, 64)}, exit status {ending.exit_code}"
    return f"; the last try: {told}{remedy}"


def _read(wanted: WantedBuild, job: ObservedJob, words: str, place: StorePlace) -> Built:
    """Return what the last words say, as far as they may be believed."""
    try:
        verdict = BuildVerdict.model_validate_json(words[:MAX_VERDICT_BYTES])
    except ValidationError:
        shown = on_one_line(words, 200) or "nothing"
        return _result(wanted, job, BuildPhase.FAILED, f"its pod's last words are none: {shown}")
    problem = _problem(wanted, verdict, place)
    if problem:
        return _result(wanted, job, BuildPhase.FAILED, f"its pod's verdict: {problem}")
    build = verdict.build if verdict.phase is BuildPhase.SUCCEEDED else None
    more: dict[str, object] = {} if verdict.worth is None else _worth(verdict.worth)
    if build is not None:
        more |= {"uri": build.uri, "sha256": build.sha256, "format": build.format}
        more |= {"pull_secret": place.pull_secret} if place.pull_secret else {}
    if verdict.seconds:
        more["seconds"] = min(_SECONDS_LIMIT, round(verdict.seconds))
    told = verdict.message or _summary(verdict)
    result = _result(wanted, job, verdict.phase, told, more)
    if is_usable(result):
        return result
    text = "its pod's verdict names what is no address of a file"
    return _result(wanted, job, BuildPhase.FAILED, text)


def _problem(wanted: WantedBuild, verdict: BuildVerdict, place: StorePlace) -> str:
    if verdict.key != wanted.inputs_key:
        return "it answers another order"
    if not is_known(verdict.phase):
        return f"phase {on_one_line(verdict.phase, 64)} is not known: upgrade the operator"
    is_made = verdict.phase is BuildPhase.SUCCEEDED
    return _file_problem(wanted, verdict, place) if is_made else ""


def _file_problem(wanted: WantedBuild, verdict: BuildVerdict, place: StorePlace) -> str:
    if verdict.build is None:
        return "it succeeded and names no file"
    if not place.holds(verdict.build.uri):
        return f"its file {on_one_line(verdict.build.uri, 200)} is not in {place.uri}"
    if verdict.build.format is not wanted.format:
        return f"its file is {on_one_line(verdict.build.format, 64)}, not {wanted.format}"
    return ""


def _summary(verdict: BuildVerdict) -> str:
    """Return the figures of a build that is good enough, for people."""
    worth = verdict.worth
    if worth is None:
        return ""
    parts = [f"{worth.size_ratio:.3f} of the bytes"]
    if worth.accuracy is not None and worth.accuracy_drop is not None:
        worse = "worse" if worth.accuracy_drop > 0 else "better"
        parts.append(f"exam {worth.accuracy:.4f}, {abs(worth.accuracy_drop):.4f} {worse}")
    if worth.latency_ratio is not None:
        cpu = f" on {on_one_line(worth.cpu, 64)}" if worth.cpu else ""
        parts.append(f"{worth.latency_ratio:.2f} of the time{cpu}")
    stored = "; it was in the store" if verdict.was_stored else ""
    return f"{', '.join(parts)}{stored}"


def _worth(worth: BuildWorth) -> dict[str, object]:
    decimals = {
        "accuracy": worth.accuracy,
        "accuracy_drop": worth.accuracy_drop,
        "latency_ratio": worth.latency_ratio,
    }
    counts = {"size_bytes": worth.size_bytes, "peak_memory_bytes": worth.peak_memory_bytes}
    return {
        **{name: f"{value:.4f}" for name, value in decimals.items() if value is not None},
        **{name: min(_BYTES_LIMIT, n) for name, n in counts.items() if n is not None},
    }


def _result(
    wanted: WantedBuild,
    job: ObservedJob,
    phase: BuildPhase,
    message: str,
    more: dict[str, object] | None = None,
) -> Built:
    given: dict[str, object] = {
        "key": wanted.key,
        "job": wanted.name,
        "phase": phase,
        "message": on_one_line(message, _MESSAGE_LIMIT),
        **(more or {}),
    }
    if job.started_at is not None:
        given["started_at"] = job.started_at
    return Built.model_validate(given)
