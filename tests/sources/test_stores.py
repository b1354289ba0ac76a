"""Builds kept in a real registry and in a real S3 server, and fetched again as pods do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fetching import TUNING, Fetching, sha256_of
from local_registry import running_registry
from local_s3 import S3Server, running_s3
from skerry_optimize import ordered
from skerry_optimize.store import store_of
from skerry_optimize.store.base import BuildFile, BuildStore
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.sources.keyring import Keyring, read_keyring
from skerry_runtime.contract import BuildPhase, OrderedStore
from sources.test_oci import HTPASSWD
from sources.tokens import PASSWORD, USER
from unit.optimize.ordering import Files, Told, order, served, workplace
from unit.optimize.test_ordered import archive

BODY = bytes(range(256)) * 8192  # 2 MiB
KEY = "ab" * 32


@dataclass(frozen=True)
class Shop:
    """A store, and the Secret by which pods read what is in it."""

    uri: str
    keys: dict[str, str]

    def open(self, fetching: Fetching) -> BuildStore:
        fetching.secret(**self.keys)
        keyring = read_keyring(fetching.root / "secrets", "keys")
        return store_of(self.uri, keyring, TUNING)


@pytest.fixture(scope="module")
def registry_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}"
    with running_registry(folder, auth) as found:
        yield found.address


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        (found.root / "models").mkdir()
        yield found


@pytest.fixture(params=["oci", "s3"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    name = tmp_path.name.lower().replace("[", "-").replace("]", "")
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return Shop(f"s3://models/{name}/ns/digits", server.keys)
    address: str = request.getfixturevalue("registry_address")
    keys = {"username": USER, "password": PASSWORD, "hosts": f"http://{address}"}
    return Shop(f"oci://{address}/{name}/ns/digits", keys)


@pytest.fixture
def build(tmp_path: Path) -> BuildFile:
    path = tmp_path / "int8.onnx"
    path.write_bytes(BODY)
    return BuildFile(path, path.name, sha256_of(BODY))


async def test_a_build_is_kept_and_pods_fetch_it(
    fetching: Fetching, shop: Shop, build: BuildFile
) -> None:
    store = shop.open(fetching)
    uri = await store.keep(build)
    assert await store.holds(uri)
    assert await fetching.fetch(uri, build.sha256, "keys") == BODY


async def test_a_build_has_the_same_name_every_time(
    fetching: Fetching, shop: Shop, build: BuildFile
) -> None:
    first = await shop.open(fetching).keep(build)
    assert await shop.open(fetching).keep(build) == first


async def test_a_note_is_found_under_its_key_and_the_last_one_counts(
    fetching: Fetching, shop: Shop
) -> None:
    store = shop.open(fetching)
    assert await store.note(KEY) is None
    await store.write_note(KEY, b'{"a": 1}')
    assert await store.note(KEY) == b'{"a": 1}'
    await store.write_note(KEY, b'{"b": 2}')
    assert await store.note(KEY) == b'{"b": 2}'
    assert await store.note("cd" * 32) is None


async def test_what_is_not_there_or_elsewhere_is_not_held(fetching: Fetching, shop: Shop) -> None:
    store = shop.open(fetching)
    assert not await store.holds("oci://registry.example/other@sha256:" + "0" * 64)
    is_oci = shop.uri.startswith("oci://")
    absent = f"{shop.uri}@sha256:{'0' * 64}" if is_oci else f"{shop.uri}/{'0' * 64}.onnx"
    assert not await store.holds(absent)


async def test_wrong_keys_are_refused_with_the_field_that_names_the_secret(
    fetching: Fetching, shop: Shop, build: BuildFile
) -> None:
    name = "password" if "password" in shop.keys else "AWS_SECRET_ACCESS_KEY"
    wrong = replace(shop, keys={**shop.keys, name: "swordfish"})
    with pytest.raises(Refused, match=r"store\.pushSecretRef that may") as caught:
        await wrong.open(fetching).keep(build)
    assert "swordfish" not in str(caught.value)


async def test_a_registry_that_nobody_may_write_to_without_a_name_says_so(
    registry_address: str, build: BuildFile
) -> None:
    anybody = Keyring("keys", {"hosts": f"http://{registry_address}".encode()})
    with pytest.raises(Refused, match=r"HTTP 401: name a Secret in store\.pushSecretRef"):
        await store_of(f"oci://{registry_address}/models", anybody, TUNING).keep(build)


async def test_a_store_that_is_away_may_come_back(fetching: Fetching, build: BuildFile) -> None:
    away = Shop("oci://127.0.0.1:9/models", {"hosts": "http://127.0.0.1:9"})
    with pytest.raises(Transient, match="could not be reached"):
        await away.open(fetching).keep(build)


async def test_a_bucket_that_is_not_there_refuses(
    fetching: Fetching, s3: S3Server, build: BuildFile
) -> None:
    with pytest.raises(Refused, match="PUT s3://nowhere/x: HTTP 404"):
        await Shop("s3://nowhere/x", s3.keys).open(fetching).keep(build)


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    from optimize_models import cnn, data_of, golden_of  # noqa: PLC0415 (trains)

    arrays = {"data": data_of("cnn"), "golden": golden_of("cnn")}
    with served(model=cnn(), **{name: archive(one) for name, one in arrays.items()}) as found:
        yield found


def test_a_whole_job_ends_in_a_build_that_pods_fetch_and_no_job_makes_twice(
    fetching: Fetching, shop: Shop, files: Files, tmp_path: Path
) -> None:
    fetching.secret(**shop.keys)
    told = Told()
    place = workplace(tmp_path, told)
    place = replace(place, tuning=TUNING.model_copy(update={"sources_dir": tmp_path / "secrets"}))
    wanted = order(files, store=OrderedStore(uri=shop.uri, secret="keys"))  # noqa: S106 (its name)
    first = ordered.carry_out(wanted, place)
    assert first.phase is BuildPhase.SUCCEEDED, first
    assert first.build is not None
    again = ordered.carry_out(wanted, place)
    assert again == first.model_copy(update={"was_stored": True})
    assert told.names.count("made") == 1
    content = asyncio.run(fetching.fetch(first.build.uri, first.build.sha256, "keys"))
    assert sha256_of(content) == first.build.sha256
    if shop.uri.startswith("s3://"):
        note = json.loads(asyncio.run(shop.open(fetching).note(wanted.key)) or b"{}")
        assert note["verdict"]["build"]["uri"] == first.build.uri
