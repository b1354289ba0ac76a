"""Where an object is, by what the Secret says of the endpoint."""

from __future__ import annotations

import pytest

from skerry_runtime.agent.sources.keyring import Keyring
from skerry_runtime.agent.sources.s3 import access_key, object_url


def keyring(**values: str) -> Keyring:
    return Keyring("models", {name: value.encode() for name, value in values.items()})


@pytest.mark.parametrize(
    ("values", "uri", "place"),
    [
        ({}, "s3://models/a", "https://models.s3.us-east-1.amazonaws.com/a"),
        (
            {"AWS_REGION": "eu-north-1"},
            "s3://models/a%20b/%C3%B6+c",
            "https://models.s3.eu-north-1.amazonaws.com/a%20b/%C3%B6%2Bc",
        ),
        (
            {"AWS_DEFAULT_REGION": "eu-north-1"},
            "s3://models.of.mine/a",
            "https://s3.eu-north-1.amazonaws.com/models.of.mine/a",
        ),
        (
            {"AWS_ENDPOINT_URL": "https://store.example:9000/base/"},
            "s3://models/a",
            "https://store.example:9000/base/models/a",
        ),
        (
            {"AWS_ENDPOINT_URL": "https://a", "AWS_ENDPOINT_URL_S3": "https://b"},
            "s3://models/a",
            "https://b/models/a",
        ),
        (
            {"AWS_ENDPOINT_URL": "https://store.example", "AWS_S3_ADDRESSING_STYLE": "virtual"},
            "s3://models/a",
            "https://models.store.example/a",
        ),
        (
            {"AWS_S3_ADDRESSING_STYLE": "path"},
            "s3://models/a",
            "https://s3.us-east-1.amazonaws.com/models/a",
        ),
    ],
)
def test_an_object_lies_where_aws_tools_would_look_for_it(
    values: dict[str, str], uri: str, place: str
) -> None:
    assert object_url(uri, keyring(**values)) == place


def test_a_session_token_and_a_region_are_those_of_the_secret_and_no_key_is_nobody() -> None:
    both = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
    more = {"AWS_SESSION_TOKEN": "session", "AWS_REGION": "eu-north-1"}
    found = access_key(keyring(**both, **more))
    assert found is not None
    assert (found.id, found.session_token, found.region) == ("id", "session", "eu-north-1")
    assert access_key(keyring(AWS_REGION="eu-north-1")) is None
