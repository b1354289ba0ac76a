"""Signatures against the examples in the documentation of Amazon S3."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from skerry_runtime.agent.sources.sigv4 import AccessKey, encoded, signed

KEY = AccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
HOST = "https://examplebucket.s3.amazonaws.com"
NOW = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("place", "headers", "signature"),
    [
        (
            "/test.txt",
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("/?lifecycle", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/?max-keys=2&prefix=J",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_a_request_of_the_documentation_has_the_signature_of_the_documentation(
    place: str, headers: dict[str, str], signature: str
) -> None:
    found = signed(f"{HOST}{place}", headers, KEY, NOW)["Authorization"]
    assert found.endswith(f",Signature={signature}")
    assert "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request" in found


def test_a_session_token_is_sent_and_signed() -> None:
    key = AccessKey("id", "secret", "eu-north-1", "token")
    headers = signed(f"{HOST}/x", {}, key, NOW)
    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["Authorization"]
    assert "secret" not in repr(key)


def test_a_key_is_encoded_byte_by_byte_and_keeps_its_slashes() -> None:
    assert encoded("a b/+ö~%.onnx") == "a%20b/%2B%C3%B6~%25.onnx"
