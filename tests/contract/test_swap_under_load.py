"""Swaps of a whole pod while clients never rest: no failed request, no answer of two revisions.

`SKERRY_SWAPS` sets how many swaps there are.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from documents import make_content
from serving import models
from serving.deployed import DEADLINE_S, Deployed, FileServer, deployed, eventually, file_server
from skerry_runtime.contract import (
    GoldenExam,
    GoldenMetric,
    RevisionContent,
    SwapMode,
)
from unit.runtime.agent.support import npz, sha256

SWAPS = int(os.environ.get("SKERRY_SWAPS", "30"))
SETTLED = {"SKERRY_SETTLE_S": "0"}
VALUES = {"r1": 1.0, "r2": 2.0}
"""Every output element of a revision's model, so that each answer tells which model made it."""
REFUSED = "refused"
CLOSED = (
    "BrokenPipeError",
    "CANCELLED",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "RemoteDisconnected",
)
"""What a client meets that comes too late; anything else is an answer that was broken off."""

Ask = Callable[[], str]
"""Ask once; return the revision that answered, or REFUSED."""


@pytest.fixture
def source() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def described(
    source: FileServer, folder: Path, *, samples: int = 8, swap: SwapMode = SwapMode.OVERLAP
) -> dict[str, RevisionContent]:
    """Both revisions; an exam of many samples takes its time."""
    exam = npz(x=np.zeros((samples, 4), np.float32), labels=np.zeros(samples, np.int64))
    golden = GoldenExam(
        uri=source.add("exam.npz", exam),
        sha256=sha256(exam),
        metric=GoldenMetric.ACCURACY,
        threshold="0.9",
    )
    found = {}
    for revision, value in VALUES.items():
        body = models.constant(folder / f"{revision}.onnx", value).read_bytes()
        uri = source.add(f"{revision}.onnx", body)
        found[revision] = make_content(uri, sha256(body), version=revision, golden=golden)
    return {r: c.model_copy(update={"swap": swap}) for r, c in found.items()}


def checked(revision: str, *outputs: np.ndarray) -> str:
    """Return the revision; fail when an element is not what its model answers."""
    seen = {float(value) for output in outputs for value in output.flat}
    assert seen == {VALUES[revision]}, f"{revision} answered {seen}"
    return revision


@contextmanager
def rest(pod: Deployed) -> Iterator[Ask]:
    entry = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [1] * 8}
    body = json.dumps({"inputs": [entry]})
    with closing(http.client.HTTPConnection(pod.http, timeout=30)) as connection:

        def ask() -> str:
            connection.request("POST", "/v2/models/digits/infer", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status == 503:
                assert response.getheader("retry-after") == "1"
                return REFUSED
            assert response.status == 200, answer
            revision = answer["parameters"]["revision"]
            assert response.getheader("skerry-revision") == revision
            return checked(revision, *(np.array(o["data"]) for o in answer["outputs"]))

        yield ask


@contextmanager
def rpc(pod: Deployed) -> Iterator[Ask]:
    entry = triton_grpc.InferInput("x", [2, 4], "FP32")
    entry.set_data_from_numpy(np.ones((2, 4), np.float32))
    with closing(triton_grpc.InferenceServerClient(pod.grpc)) as client:

        def ask() -> str:
            try:
                result = client.infer("digits", [entry], client_timeout=30)
            except InferenceServerException as error:
                if error.status() == str(grpc.StatusCode.UNAVAILABLE):
                    return REFUSED
                raise AssertionError(f"{error.status()}: {error.message()}") from error
            revision = result.get_response().parameters["revision"].string_param
            return checked(revision, result.as_numpy("y"), result.as_numpy("z"))

        yield ask


class Traffic:
    """Clients that ask again as soon as they have an answer."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[str]] = {}
        self.faults: list[str] = []
        self._stop = threading.Event()

    @contextmanager
    def running(self, asks: dict[str, Ask]) -> Iterator[Traffic]:
        self.answers = {name: Counter() for name in asks}
        threads = [threading.Thread(target=self._run, args=item) for item in asks.items()]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in threads), "a request hangs"

    def _run(self, name: str, ask: Ask) -> None:
        while not self._stop.is_set():
            try:
                self.answers[name][ask()] += 1
            except Exception as error:  # noqa: BLE001 every failure is a finding
                self.faults.append(f"{name}: {error!r}")
                return

    def seen(self, revision: str) -> bool:
        """Tell whether every client got an answer of the revision."""
        return bool(self.faults) or all(count[revision] for count in self.answers.values())

    def met_a_closed_door(self) -> bool:
        """Tell whether no client gets answers any more: REST ends with a fault, gRPC is refused."""
        ended = {fault.partition(":")[0] for fault in self.faults}
        return all(name in ended or count[REFUSED] for name, count in self.answers.items())


@contextmanager
def traffic(pod: Deployed) -> Iterator[Traffic]:
    with rest(pod) as one, rest(pod) as two, rpc(pod) as three:
        asks = {"rest 1": one, "rest 2": two, "grpc": three}
        with Traffic().running(asks) as found:
            yield found


def test_swaps_at_full_traffic_fail_no_request_and_mix_no_answer(
    tmp_path: Path, source: FileServer
) -> None:
    revisions = described(source, tmp_path)
    with deployed(tmp_path, **SETTLED) as pod:
        pod.assign("r1", revisions)
        pod.until_serving("r1")
        with traffic(pod) as clients:
            for number in range(SWAPS):
                revision = ("r2", "r1")[number % 2]
                pod.assign(revision, revisions)
                status = pod.until_serving(revision)
                assert status.last_swap
                assert status.last_swap.outage_ms == 0
            last = revision
            eventually(lambda: clients.seen(last), "an answer of the last revision")
        assert not clients.faults
        assert not any(count[REFUSED] for count in clients.answers.values())
        counters = pod.status().counters
        assert not any(c.total.failures or c.total.rejected for c in counters)
        assert source.asked.count("r1.onnx") == source.asked.count("r2.onnx") == 1


def test_a_sequential_swap_refuses_in_words_while_it_is_dark_and_measures_that(
    tmp_path: Path, source: FileServer
) -> None:
    revisions = described(source, tmp_path, samples=400_000, swap=SwapMode.SEQUENTIAL)
    with deployed(tmp_path, **SETTLED) as pod:
        pod.assign("r1", revisions)
        pod.until_serving("r1")
        with traffic(pod) as clients:
            eventually(lambda: clients.seen("r1"), "answers before the swap")
            pod.assign("r2", revisions)
            status = pod.until_serving("r2")
            eventually(lambda: clients.seen("r2"), "answers after the swap")
        assert not clients.faults
        assert status.last_swap
        assert status.last_swap.mode is SwapMode.SEQUENTIAL
        assert status.last_swap.outage_ms > 0
        assert clients.seen(REFUSED), "nobody asked while it was dark"


def test_sigterm_at_full_traffic_breaks_no_answer_off(tmp_path: Path, source: FileServer) -> None:
    """Clients may find the door closed; what was taken is answered, and the process ends clean."""
    revisions = described(source, tmp_path)
    with deployed(tmp_path, SKERRY_LINGER_S="0.3", **SETTLED) as pod:
        pod.assign("r1", revisions)
        pod.until_serving("r1")
        with traffic(pod) as clients:
            eventually(lambda: clients.seen("r1"), "answers before the signal")
            pod.child.terminate()
            assert pod.child.wait(DEADLINE_S) == 0
            eventually(clients.met_a_closed_door, "the end of the traffic")
        assert [f for f in clients.faults if not any(word in f for word in CLOSED)] == []
