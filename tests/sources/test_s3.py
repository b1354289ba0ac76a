"""s3:// against a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fetching import Fetching, sha256_of
from local_s3 import S3Server, running_s3
from skerry_runtime.agent.part import Part
from skerry_runtime.agent.sources import s3 as module
from skerry_runtime.clock import unix_now

BODY = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.mark.parametrize("key", ["digits/1.onnx", "a b+c/größe=1&x.onnx", "~tilde-_.(1)*!'.onnx"])
async def test_an_object_is_fetched_whatever_its_key_is_made_of(
    fetching: Fetching, server: S3Server, key: str
) -> None:
    server.put("models", key, BODY)
    keys = fetching.secret(**server.keys)
    uri = f"s3://models/{key.replace(' ', '%20')}"
    assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY


async def test_a_begun_object_is_gone_on_with(fetching: Fetching, server: S3Server) -> None:
    uri = server.put("models", "begun.onnx", BODY)
    keys = fetching.secret(**server.keys)
    fetching.part.write_bytes(BODY[:1_500_000])
    assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY
    assert fetching.seen[0] == (1_500_000, len(BODY))


async def test_a_begun_object_that_was_replaced_meanwhile_is_fetched_whole(
    fetching: Fetching, server: S3Server
) -> None:
    uri = server.put("models", "replaced.onnx", BODY)
    keys = fetching.secret(**server.keys)
    part = Part(fetching.part, uri)
    part.open()
    part.append(b"x" * 1_000_000)
    part.describe('"another"')
    part.close()
    assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY


async def test_a_clock_that_is_wrong_by_years_is_set_by_the_answer_of_the_server(
    fetching: Fetching, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = server.put("models", "late.onnx", BODY)
    keys = fetching.secret(**server.keys)
    monkeypatch.setattr(module, "unix_now", lambda: unix_now() - 20 * 365 * 86400)
    assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "HTTP 403"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "HTTP 40"),
        ({"AWS_ACCESS_KEY_ID": ""}, "both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "HTTP 403"),
        ({"AWS_ENDPOINT_URL": "models.example"}, "write https://HOST:PORT"),
        ({"AWS_REGION": "no region"}, "AWS_REGION is no region"),
        ({"AWS_S3_ADDRESSING_STYLE": "odd"}, "neither path nor virtual"),
    ],
)
async def test_keys_that_will_not_do_are_refused_with_their_name_and_never_shown(
    fetching: Fetching, server: S3Server, changed: dict[str, str], says: str
) -> None:
    uri = server.put("models", "closed.onnx", BODY)
    values = {**server.keys, **changed}
    told = await fetching.refusal(uri, sha256_of(BODY), fetching.secret(**values))
    assert says in told
    assert not [v for k, v in values.items() if k.startswith("AWS_SECRET") and v and v in told]


async def test_an_object_that_is_not_there_is_a_404(fetching: Fetching, server: S3Server) -> None:
    server.put("models", "other.onnx", BODY)
    told = await fetching.refusal("s3://models/absent.onnx", secret=fetching.secret(**server.keys))
    assert told == "GET s3://models/absent.onnx: HTTP 404"


async def test_other_bytes_than_the_spec_names_are_refused(
    fetching: Fetching, server: S3Server
) -> None:
    uri = server.put("models", "tampered.onnx", BODY[:-1] + b"!")
    told = await fetching.refusal(uri, sha256_of(BODY), fetching.secret(**server.keys))
    assert "has another sha256" in told


async def test_a_server_that_is_gone_is_asked_again_later(
    fetching: Fetching, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    with running_s3(tmp_path / "gone") as server:
        uri = server.put("models", "x.onnx", BODY)
        keys = fetching.secret(**server.keys)
    assert "could not be reached" in await fetching.refusal(uri, sha256_of(BODY), keys)
