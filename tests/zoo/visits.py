"""Takes a model the whole way through a pod: fetched, probed, examined, switched to, and asked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import np_to_triton_dtype

from documents import make_content
from serving.deployed import Deployed, FileServer
from skerry_runtime.contract import (
    GoldenExam,
    GoldenMetric,
    RevisionContent,
    StatusReport,
    SwapPhase,
)
from unit.runtime.agent.support import sha256
from zoo import raw
from zoo.specimens import Specimen

MODEL = "digits"
DEADLINE_S = 900.0


class Verdict(StrEnum):
    """What became of a model."""

    EQUAL = "answers as its engine does, over all three"
    ENGINE = "refused by its engine"
    TYPE = "has a type that the protocol has not"
    RANDOM = "answers otherwise each time"
    OURS = "refused by us alone"
    DIFFERS = "answers otherwise than its engine"


FAULTS = (Verdict.OURS, Verdict.DIFFERS)


@dataclass(frozen=True)
class Visit:
    """One model's way through the pod."""

    name: str
    verdict: Verdict
    detail: str = ""


def visit(pod: Deployed, source: FileServer, specimen: Specimen, number: int) -> Visit:
    """Put the model before its engine, and what the engine runs before the pod."""
    known = raw.ask(specimen)
    if known.strange_type:
        return Visit(specimen.name, Verdict.TYPE, known.strange_type)
    if known.refusal:
        return Visit(specimen.name, Verdict.ENGINE, known.refusal)
    if not known.is_steady:
        return Visit(specimen.name, Verdict.RANDOM)
    revision = f"z{number}"
    pod.assign(revision, {revision: _described(source, specimen, known)})
    ends = (SwapPhase.SERVING, SwapPhase.FAILED)
    status = pod.until(lambda said: _phase(said, revision) in ends, DEADLINE_S)
    assert status.progress
    if status.progress.phase is not SwapPhase.SERVING:
        detail = f"{status.progress.reason}: {status.progress.message}"
        return Visit(specimen.name, Verdict.OURS, detail)
    wrong = {how: said for how, said in _asked(pod, specimen, known).items() if said}
    return Visit(specimen.name, Verdict.DIFFERS if wrong else Verdict.EQUAL, str(wrong or ""))


def _phase(status: StatusReport, revision: str) -> SwapPhase | None:
    progress = status.progress
    return progress.phase if progress and progress.revision == revision else None


def counts(visits: Iterable[Visit]) -> dict[str, int]:
    """Return how many models came to what."""
    found = [one.verdict for one in visits]
    return {verdict.value: found.count(verdict) for verdict in Verdict}


def _described(source: FileServer, specimen: Specimen, known: raw.Raw) -> RevisionContent:
    digest, exam = sha256(specimen.body), _golden(specimen, known)
    golden = GoldenExam(
        uri=source.add(sha256(exam), exam),
        sha256=sha256(exam),
        metric=_metric(known),
        threshold="0.001" if _metric(known) is GoldenMetric.MAX_ABS_ERROR else "1",
    )
    uri = source.add(digest, specimen.body)
    return make_content(uri, digest, format=specimen.format, golden=golden)


def _metric(known: raw.Raw) -> GoldenMetric:
    are_texts = all(array.dtype.kind in "OUS" for array in known.outputs.values())
    return GoldenMetric.AGREEMENT if are_texts else GoldenMetric.MAX_ABS_ERROR


def _golden(specimen: Specimen, known: raw.Raw) -> bytes:
    """Write the request and what the engine answers as a golden file of one request."""
    are_texts = _metric(known) is GoldenMetric.AGREEMENT
    expected = {
        f"0/expected_{name}": array.astype(str) if are_texts else array
        for name, array in known.outputs.items()
        if are_texts or array.dtype.kind not in "OUS"
    }
    asked = {f"0/{name}": _plain(array) for name, array in specimen.request.items()}
    out = io.BytesIO()
    np.savez(out, **{**asked, **expected})
    return out.getvalue()


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(str) if array.dtype.kind == "O" else array


def _asked(pod: Deployed, specimen: Specimen, known: raw.Raw) -> dict[str, str]:
    """Return what is wrong with the answers, by way of asking; empty texts: nothing."""
    feed = {
        name: np.char.encode(_plain(array), "utf-8").astype(object)
        if array.dtype.kind in "OUS"
        else array
        for name, array in specimen.request.items()
    }
    ways: dict[str, Callable[[], Mapping[str, np.ndarray]]] = {
        "REST binary": lambda: _over_http(pod, feed, list(known.outputs), binary=True),
        "REST JSON": lambda: _over_http(pod, feed, list(known.outputs), binary=False),
        "gRPC": lambda: _over_grpc(pod, feed, list(known.outputs)),
    }
    return {how: _difference(way, known, how) for how, way in ways.items()}


def _difference(way: Callable[[], Mapping[str, np.ndarray]], known: raw.Raw, how: str) -> str:
    try:
        given = way()
    except Exception as error:  # noqa: BLE001 (whatever the client raises is what a user sees)
        return f"{type(error).__name__}: {error}"[:200]
    same = _same_numbers if how == "REST JSON" else raw.are_equal
    wrong = [n for n, array in known.outputs.items() if not same(given[n], array)]
    return f"outputs {wrong[:3]} differ" if wrong else ""


def _same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Compare values: a JSON number has one zero, and texts come as letters."""
    if other.dtype.kind in "OUS":
        return raw.are_equal(one, other)
    return one.shape == other.shape and np.array_equal(
        one, other, equal_nan=other.dtype.kind == "f"
    )


def _over_http(
    pod: Deployed, feed: Mapping[str, np.ndarray], names: list[str], *, binary: bool
) -> dict[str, np.ndarray]:
    with over_http.InferenceServerClient(pod.http, network_timeout=120) as client:
        inputs = []
        for name, array in feed.items():
            one = over_http.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            one.set_data_from_numpy(array, binary_data=binary)
            inputs.append(one)
        outputs = [over_http.InferRequestedOutput(name, binary_data=binary) for name in names]
        result = client.infer(MODEL, inputs, outputs=outputs)
        return {name: result.as_numpy(name) for name in names}


def _over_grpc(
    pod: Deployed, feed: Mapping[str, np.ndarray], names: list[str]
) -> dict[str, np.ndarray]:
    with over_grpc.InferenceServerClient(pod.grpc) as client:
        inputs = []
        for name, array in feed.items():
            one = over_grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            one.set_data_from_numpy(array)
            inputs.append(one)
        outputs = [over_grpc.InferRequestedOutput(name) for name in names]
        result = client.infer(MODEL, inputs, outputs=outputs, client_timeout=120)
        return {name: result.as_numpy(name) for name in names}
