"""TLS and tokens from secrets, on a real pod: who may ask, and what a renewal changes."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc, http
from tritonclient.utils import InferenceServerException

from e2e.lab import ANSWER_S, NODES, Lab, PodView
from unit.runtime.secrets_folder import certificate

NODE = NODES[2]
TLS, TOKENS = "shop-tls", "shop-tokens"
PLACEMENT = {"nodeSelector": {"kubernetes.io/hostname": NODE}}
HOST = "localhost"
"""Name in the certificates; the test reaches the pod by its address."""
FIRST, SECOND = ("first-token-of-the-shop", "second-token-of-the-shop")


def secret(name: str, kind: str, **files: bytes) -> dict[str, object]:
    data = {key.replace("_", "."): base64.b64encode(body).decode() for key, body in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": kind,
        "data": data,
    }


def give(lab: Lab, pair: dict[str, bytes], *tokens: str) -> None:
    """Put the certificate and the tokens where the kubelet takes them from."""
    lines = "\n".join(tokens).encode()
    lab.apply(secret(TLS, "kubernetes.io/tls", **pair), secret(TOKENS, "Opaque", clients=lines))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("certificates")
    return certificate(folder, "before"), certificate(folder, "after")


@pytest.fixture
def roots(pairs: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path) -> tuple[Path, Path]:
    """Both certificates, as what a client trusts."""
    before, after = (tmp_path / f"{name}.pem" for name in ("before", "after"))
    before.write_bytes(pairs[0]["tls_crt"])
    after.write_bytes(pairs[1]["tls_crt"])
    return before, after


@pytest.fixture(scope="module")
def pod(lab: Lab, pairs: tuple[dict[str, bytes], dict[str, bytes]]) -> Iterator[PodView]:
    """V1 is stable on one node, and its pod wants TLS and a token."""
    give(lab, pairs[0], FIRST)
    serving = {"tls": {"secretName": TLS}, "auth": {"tokenSecretName": TOKENS}}
    lab.start_stable(serving=serving, placement=PLACEMENT)
    yield lab.pods()[NODE]
    lab.delete_deployment()


def image(client: object) -> list[object]:
    """Return the inputs of a request: one empty image."""
    module = http if isinstance(client, http.InferenceServerClient) else grpc
    asked = module.InferInput("image", [1, 64], "FP32")
    asked.set_data_from_numpy(np.zeros((1, 64), np.float32))
    return [asked]


def rest(pod: PodView, token: str | None, root: Path | None) -> None:
    """Ask over REST, and trust only the certificate in `root`; without one, in plain text.

    Raises:
        InferenceServerException: the pod refuses the request.
        OSError: it has another certificate.
    """
    trusts = {"ssl_options": {"ca_certs": str(root)}, "insecure": True}  # whatever its name
    options = {"ssl": True, **trusts} if root else {}
    client = http.InferenceServerClient(f"{pod.ip}:8080", network_timeout=ANSWER_S, **options)
    try:
        client.infer("digits", image(client), headers=bearer(token))
    finally:
        client.close()


def rpc(pod: PodView, token: str | None, root: Path) -> None:
    """Ask over gRPC, and trust only the certificate in `root`.

    Raises:
        InferenceServerException: the pod refuses the request, or has another certificate.
    """
    named = [("grpc.ssl_target_name_override", HOST)]
    with grpc.InferenceServerClient(
        f"{pod.ip}:8081", ssl=True, root_certificates=str(root), channel_args=named
    ) as client:
        client.infer("digits", image(client), headers=bearer(token), client_timeout=ANSWER_S)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def shows(pod: PodView, pair: dict[str, bytes]) -> bool:
    """Say whether the REST port shows this certificate."""
    try:
        shown = ssl.get_server_certificate((pod.ip, 8080), timeout=ANSWER_S)
    except OSError:
        return False
    return ssl.PEM_cert_to_DER_cert(shown) == ssl.PEM_cert_to_DER_cert(pair["tls_crt"].decode())


def test_a_pod_with_tls_and_tokens_is_rolled_out_and_answers_only_who_has_a_token(
    pod: PodView, roots: tuple[Path, Path]
) -> None:
    root = roots[0]
    rest(pod, FIRST, roots[0])
    rpc(pod, FIRST, root)
    for token in (None, SECOND):
        with pytest.raises(InferenceServerException, match="401"):
            rest(pod, token, root)
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            rpc(pod, token, root)
    with pytest.raises(Exception, match=r"(?i)closed|reset|response"):
        rest(pod, FIRST, None)


def test_a_swap_changes_the_model_and_leaves_tls_and_tokens(
    lab: Lab, pod: PodView, roots: tuple[Path, Path]
) -> None:
    lab.apply(lab.model("v2"))
    lab.wait_stable(lab.index.model("v2").version)
    rest(pod, FIRST, roots[0])
    with pytest.raises(InferenceServerException, match="401"):
        rest(pod, None, roots[0])
    assert lab.pods()[NODE] == pod


def test_renewed_secrets_count_in_the_pod_that_runs(
    lab: Lab,
    pod: PodView,
    pairs: tuple[dict[str, bytes], dict[str, bytes]],
    roots: tuple[Path, Path],
) -> None:
    give(lab, pairs[1], SECOND)
    lab.wait(lambda: shows(pod, pairs[1]), "the new certificate")
    lab.wait(lambda: is_taken(pod, SECOND, roots[1]), "the new token is taken")
    rpc(pod, SECOND, roots[1])
    assert not is_taken(pod, FIRST, roots[1])
    assert lab.pods()[NODE] == pod


def test_the_command_line_asks_a_pod_that_wants_tls_alone_through_the_api_server(
    lab: Lab, pod: PodView, tmp_path: Path
) -> None:
    del pod  # it is there, and is replaced by one that wants no token
    version = lab.status().model_version
    lab.apply(lab.deployment(serving={"tls": {"secretName": TLS}}, placement=PLACEMENT))
    lab.wait_stable(version)
    file = tmp_path / "request.json"
    entry = {"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}
    file.write_text(json.dumps({"inputs": [entry]}))
    told = lab.skerry("infer", "digits", "-f", str(file))
    assert told.returncode == 0, told.stderr
    assert f"version {version}" in told.stdout


def is_taken(pod: PodView, token: str, root: Path) -> bool:
    try:
        rest(pod, token, root)
    except InferenceServerException:
        return False
    return True
