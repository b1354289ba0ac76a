"""TLS and tokens from secrets, on a real pod: who may ask, and what a renewal changes."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc, http
from tritonclient.utils import InferenceServerException

from e2e.lab import NODES, Lab, PodView
from unit.runtime.secrets_folder import certificate

NODE = NODES[2]
TLS, TOKENS = "shop-tls", "shop-tokens"
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


@pytest.fixture(scope="module")
def pod(lab: Lab, pairs: tuple[dict[str, bytes], dict[str, bytes]]) -> Iterator[PodView]:
    """V1 is stable on one node, and its pod wants TLS and a token."""
    give(lab, pairs[0], FIRST)
    serving = {"tls": {"secretName": TLS}, "auth": {"tokenSecretName": TOKENS}}
    placement = {"nodeSelector": {"kubernetes.io/hostname": NODE}}
    lab.start_stable(serving=serving, placement=placement)
    yield lab.pods()[NODE]
    lab.kubectl("delete", "ed", "digits", "--wait=true")


def image(client: object) -> list[object]:
    """Return the inputs of a request: one empty image."""
    module = http if isinstance(client, http.InferenceServerClient) else grpc
    asked = module.InferInput("image", [1, 64], "FP32")
    asked.set_data_from_numpy(np.zeros((1, 64), np.float32))
    return [asked]


def rest(pod: PodView, token: str | None, *, tls: bool = True) -> None:
    """Ask over REST; the certificate is another test's matter.

    Raises:
        InferenceServerException: the pod refuses the request.
    """
    options = {"ssl": True, "insecure": True} if tls else {}
    client = http.InferenceServerClient(f"{pod.ip}:8080", network_timeout=5, **options)
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
        client.infer("digits", image(client), headers=bearer(token), client_timeout=5)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def shown(pod: PodView) -> str:
    """Return the digest of the certificate that the REST port shows."""
    text = ssl.get_server_certificate((pod.ip, 8080), timeout=5)
    return digest(text.encode())


def digest(pem: bytes) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


def test_a_pod_with_tls_and_tokens_is_rolled_out_and_answers_only_who_has_a_token(
    pod: PodView, pairs: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(pairs[0]["tls_crt"])
    rest(pod, FIRST)
    rpc(pod, FIRST, root)
    for token in (None, SECOND):
        with pytest.raises(InferenceServerException, match="401"):
            rest(pod, token)
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            rpc(pod, token, root)
    with pytest.raises(Exception, match=r"(?i)closed|reset|response"):
        rest(pod, FIRST, tls=False)


def test_a_swap_changes_the_model_and_leaves_tls_and_tokens(lab: Lab, pod: PodView) -> None:
    lab.apply(lab.model("v2"))
    lab.wait_stable(lab.index.model("v2").version)
    rest(pod, FIRST)
    with pytest.raises(InferenceServerException, match="401"):
        rest(pod, None)
    assert lab.pods()[NODE] == pod


def test_renewed_secrets_count_in_the_pod_that_runs(
    lab: Lab, pod: PodView, pairs: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(pairs[1]["tls_crt"])
    give(lab, pairs[1], SECOND)
    lab.wait(lambda: shown(pod) == digest(pairs[1]["tls_crt"]), "the new certificate", 90)
    lab.wait(lambda: is_taken(pod, SECOND), "the new token is taken", 90)
    rpc(pod, SECOND, root)
    assert not is_taken(pod, FIRST)
    assert lab.pods()[NODE] == pod


def is_taken(pod: PodView, token: str) -> bool:
    try:
        rest(pod, token)
    except InferenceServerException:
        return False
    return True
