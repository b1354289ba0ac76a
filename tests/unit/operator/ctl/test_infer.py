"""`skerry infer`: what is sent, through which door, and what is told of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctl_objects import deployed
from fake_kube import Answer, FakeKube, client_of, refusal, serving_fake
from serving.fakes import FakeModel, serving
from serving.running import running
from skerry_operator.ctl.answer import Declined, Exit
from skerry_operator.ctl.cluster import Cluster
from skerry_operator.ctl.infer import REQUEST_LIMIT, InferWish, infer, read_request
from skerry_operator.kube.access import Access
from unit.runtime.secrets_folder import Secret, certificate

SENT = "POST services/digits:http/proxy/v2/models/digits/infer"
PATH = "/apis/skerry.dev/v1alpha1/namespaces/edge/edgedeployments/digits"
TENSOR = {"name": "image", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1.0]}
ANSWER = {
    "model_name": "digits",
    "model_version": "2.0.0",
    "outputs": [{"name": "label", "datatype": "INT64", "shape": [12], "data": list(range(12))}],
}


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with serving_fake() as fake:
        fake.put(PATH, deployed())
        yield fake


@pytest.fixture
def cluster(kube: FakeKube) -> Iterator[Cluster]:
    with client_of(kube) as client:
        yield Cluster(Access(client, "edge"), "edge")


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"inputs": [TENSOR]}))
    return str(path)


def test_a_request_goes_through_the_api_server_to_the_service(
    kube: FakeKube, cluster: Cluster, request_file: str
) -> None:
    kube.script(SENT, Answer(200, ANSWER))
    told = infer(cluster, InferWish("digits", request_file), json=False)
    assert kube.requests[-1].body == {"inputs": [TENSOR]}
    assert told.text.startswith("model digits, version 2.0.0\n")
    assert "0, 1, 2, 3, 4, 5, 6, 7, and 4 more" in told.text
    assert told.code is Exit.OK


def test_json_is_the_answer_as_it_came(kube: FakeKube, cluster: Cluster, request_file: str) -> None:
    kube.script(SENT, Answer(200, ANSWER))
    told = infer(cluster, InferWish("digits", request_file), json=True)
    assert json.loads(told.text) == ANSWER


def test_the_canary_has_a_service_of_its_own(
    kube: FakeKube, cluster: Cluster, request_file: str
) -> None:
    kube.script(SENT.replace("digits:", "digits-canary:"), Answer(200, ANSWER))
    wish = InferWish("digits", request_file, service="canary")
    assert infer(cluster, wish, json=False).code is Exit.OK


def test_an_address_of_the_users_own_is_asked_directly(
    kube: FakeKube, cluster: Cluster, request_file: str
) -> None:
    kube.script("POST v2/models/digits/infer", Answer(200, ANSWER), Answer(429, {"error": "full"}))
    wish = InferWish("digits", request_file, url=f"{kube.url}/namespaces/x/")
    assert "0, 1, 2" in infer(cluster, wish, json=False).text
    with pytest.raises(Declined, match="HTTP 429: full"):
        infer(cluster, wish, json=False)
    assert kube.requests[-1].path == "/namespaces/x/v2/models/digits/infer"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(400, {"error": "input image has 3 axes, 2 expected"}), "HTTP 400: input image has"),
        (refusal(503, "ServiceUnavailable", "no endpoints available"), "no endpoints available"),
        (Answer(200, [1]), "the answer is no JSON"),
    ],
)
def test_a_refusal_says_what_the_server_says(
    kube: FakeKube, cluster: Cluster, request_file: str, answer: Answer, words: str
) -> None:
    kube.script(SENT, answer)
    with pytest.raises(Declined, match=words):
        infer(cluster, InferWish("digits", request_file), json=False)


def test_an_npz_is_one_input_for_each_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.array([[0.5, 1.0]], np.float32), flag=np.array([True]))
    assert read_request(str(tmp_path / "x.npz")) == {
        "inputs": [
            TENSOR,
            {"name": "flag", "shape": [1], "datatype": "BOOL", "data": [True]},
        ]
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"{", "no JSON"),
        ("a.json", b"[]", 'a list "inputs"'),
        ("a.npz", b"PK", "no .npz with plain arrays"),
        ("missing.json", None, "No such file"),
    ],
)
def test_a_file_that_is_no_request_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Declined, match=f"{name}.*{words}"):
        read_request(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(REQUEST_LIMIT + 1)
    with pytest.raises(Declined, match="larger than 16 MiB"):
        read_request(str(tmp_path / name))


def test_an_array_of_texts_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", words=np.array(["a"]))
    with pytest.raises(Declined, match=r"'words'.*use numbers"):
        read_request(str(tmp_path / "x.npz"))


def test_an_address_that_is_none_is_refused(cluster: Cluster, request_file: str) -> None:
    with pytest.raises(Declined, match="--url: 'file:///etc/passwd' is no address"):
        infer(cluster, InferWish("digits", request_file, url="file:///etc/passwd"), json=False)


def test_a_deployment_with_tls_is_asked_over_tls(
    kube: FakeKube, cluster: Cluster, request_file: str
) -> None:
    kube.put(PATH, secured(tls={"secretName": "web"}))
    kube.script(SENT.replace("digits:", "https:digits:", 1), Answer(200, ANSWER))
    assert infer(cluster, InferWish("digits", request_file), json=False).code is Exit.OK


def secured(**serving: object) -> dict[str, Any]:
    body = deployed()
    return {**body, "spec": {**body["spec"], "serving": serving}}


def test_a_token_that_the_api_server_would_keep_is_asked_for_at_an_address(
    kube: FakeKube, cluster: Cluster, request_file: str
) -> None:
    kube.put(PATH, secured(auth={"tokenSecretName": "tokens"}))
    with pytest.raises(Declined, match="--token-file"):
        infer(cluster, InferWish("digits", request_file), json=False)
    with pytest.raises(Declined, match="go with --url"):
        infer(cluster, InferWish("digits", request_file, token_file=request_file), json=False)


KNOWN = "of-this-test-0123456789"


def test_a_pod_with_tls_and_tokens_answers_who_has_both(
    cluster: Cluster, request_file: str, tmp_path: Path
) -> None:
    pair = certificate(tmp_path, "pods")
    tls, tokens = Secret(tmp_path / "tls", **pair), Secret(tmp_path / "t", token=KNOWN.encode())
    (tmp_path / "ca.pem").write_bytes(pair["tls_crt"])
    (tmp_path / "token").write_text(KNOWN + "\n")
    (tmp_path / "two").write_text("a secret")
    known = {"ca_file": str(tmp_path / "ca.pem"), "token_file": str(tmp_path / "token")}
    with running(tls_dir=tls.folder, token_dir=tokens.folder) as server:
        server.registry.switch(serving(FakeModel()))
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1] * 4}]}
        Path(request_file).write_text(json.dumps(body))
        wish = InferWish("digits", request_file, url=f"https://{server.http}", **known)
        assert infer(cluster, wish, json=False).code is Exit.OK
        for changes, words in (
            ({"token_file": None}, "HTTP 401"),
            ({"ca_file": None}, "certificate"),
            ({"token_file": str(tmp_path / "two")}, "2 words"),
            ({"ca_file": request_file}, "no certificates"),
        ):
            with pytest.raises(Declined, match=words) as caught:
                infer(cluster, replace(wish, **changes), json=False)
            assert "a secret" not in str(caught.value)
