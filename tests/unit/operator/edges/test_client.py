"""Requests, answers, errors and the fence, against a real socket."""

from __future__ import annotations

import socket

import pytest

from fake_kube import Answer, FakeKube, client_of, refusal
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.errors import (
    MESSAGE_LIMIT,
    Conflict,
    Fenced,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    Unavailable,
    error_of,
)
from skerry_operator.telemetry import Telemetry

PATH = "/api/v1/namespaces/edge/configmaps/digits"
NAME = "PATCH configmaps/digits"


class ClosedFence:
    def check(self) -> None:
        raise Fenced("no Lease")


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (400, Invalid, False),
        (401, Forbidden, False),
        (403, Forbidden, False),
        (404, NotFound, False),
        (409, Conflict, True),
        (422, Invalid, False),
        (429, Unavailable, True),
        (500, Unavailable, True),
        (503, Unavailable, True),
        (504, Unavailable, True),
    ],
)
def test_every_refusal_is_an_error_of_our_own(
    kube: FakeKube, client: KubeClient, code: int, kind: type[KubeError], retryable: bool
) -> None:
    kube.script(NAME, refusal(code, "Whatever", "this is why"))
    with pytest.raises(kind, match="this is why") as caught:
        client.apply(PATH, {"metadata": {}}, "ConfigMap")
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable


def test_only_a_kubernetes_status_is_quoted_and_only_so_much_of_it() -> None:
    assert str(error_of(500, "GET /x", b"<html>secret</html>")) == "GET /x: HTTP 500"
    long = error_of(422, "GET /x", b'{"kind": "Status", "message": "' + b"a" * 9999 + b'"}')
    assert len(str(long)) < MESSAGE_LIMIT + 20


def test_the_server_s_wait_is_kept(kube: FakeKube, client: KubeClient) -> None:
    kube.script(NAME, refusal(429, "TooManyRequests", Retry_After="7"))
    with pytest.raises(Unavailable) as caught:
        client.apply(PATH, {"metadata": {}}, "ConfigMap")
    assert caught.value.retry_after_s == 7.0


def test_a_server_that_is_not_there_is_unavailable(kube: FakeKube) -> None:
    kube.url = "http://127.0.0.1:9"
    with client_of(kube) as client, pytest.raises(Unavailable):
        client.get("/api")


def test_an_apply_names_the_manager_and_forces(kube: FakeKube, client: KubeClient) -> None:
    client.apply(PATH, {"metadata": {}}, "ConfigMap")
    request = kube.requests[0]
    assert request.query == {"fieldManager": "skerry-operator", "force": "true"}
    assert request.content_type == "application/apply-patch+yaml"


def test_behind_a_closed_fence_nothing_is_sent(kube: FakeKube, client: KubeClient) -> None:
    client.fence = ClosedFence()
    for write in (client.apply, client.merge, client.create):
        with pytest.raises(Fenced):
            write(PATH, {}, "ConfigMap")
    with pytest.raises(Fenced):
        client.delete(PATH, "ConfigMap")
    assert kube.requests == []


def test_writes_are_counted_by_kind_verb_and_result(kube: FakeKube) -> None:
    telemetry = Telemetry()
    kube.script(NAME, refusal(409, "Conflict"))
    with client_of(kube, telemetry) as client:
        with pytest.raises(Conflict):
            client.apply(PATH, {"metadata": {}}, "ConfigMap")
        client.apply(PATH, {"metadata": {}}, "ConfigMap")
    text = telemetry.text().decode()
    assert 'skerry_api_writes_total{kind="ConfigMap",result="conflict",verb="patch"} 1.0' in text
    assert 'skerry_api_writes_total{kind="ConfigMap",result="success",verb="patch"} 1.0' in text


def test_no_more_bytes_are_read_than_asked_for(kube: FakeKube, client: KubeClient) -> None:
    kube.script("GET pods/x:8082/proxy/status", Answer(200, b"a" * 5000))
    path = "/api/v1/namespaces/edge/pods/x:8082/proxy/status"
    assert client.read_bytes(path, 100, 2.0) == b"a" * 100


def test_a_server_that_is_away_is_named_with_the_reason() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = FakeKube()
        away.url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with client_of(away) as other, pytest.raises(Unavailable) as caught:
            other.get("/api/v1/nodes")
    assert str(caught.value) == (
        f"GET /api/v1/nodes: the API server {away.url} does not answer: Connection refused"
    )
