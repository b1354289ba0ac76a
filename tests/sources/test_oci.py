"""oci:// against a real registry, with artefacts that were pushed as people push them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetching import Fetching, sha256_of
from local_registry import Registry, running_registry
from sources.oras import Oras
from sources.tokens import PASSWORD, USER, Tokens

BODY = bytes(range(256)) * 8192  # 2 MiB
OTHER = BODY[::-1]
TAR, TAR_GZIP = (f"application/vnd.cncf.model.weight.v1.{kind}" for kind in ("tar", "tar+gzip"))
# The password, as the test vectors of bcrypt have it.
HTPASSWD = f"{USER}:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


@pytest.fixture(scope="module")
def oras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oras]:
    """An open registry."""
    folder = tmp_path_factory.mktemp("open")
    with running_registry(folder) as registry:
        yield Oras(registry, folder / "files")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oras]:
    """A registry that wants a password."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "users").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: models, path: {folder}/users}}}}"
    with running_registry(folder, auth) as registry:
        yield Oras(registry, folder / "files", ("--username", USER, "--password", PASSWORD))


def plain(fetching: Fetching, registry: Registry, **values: str) -> str:
    """A Secret that says that the registry speaks plain HTTP."""
    return fetching.secret(hosts=f"http://{registry.address}", **values)


def tar(*names: str, body: bytes = BODY, kind: str = "ustar") -> bytes:
    out = io.BytesIO()
    form = {"ustar": tarfile.USTAR_FORMAT, "pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}
    with tarfile.open(fileobj=out, mode="w", format=form[kind]) as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
                continue
            entry.size = len(body)
            if kind == "pax":
                entry.pax_headers = {"comment": "größe"}
            archive.addfile(entry, io.BytesIO(body))
    return out.getvalue()


@pytest.mark.parametrize("kind", ["application/vnd.cncf.model.weight.v1.raw", ""])
@pytest.mark.parametrize("form", ["@{digest}", ":1", ":1@{digest}"])
async def test_a_file_is_fetched_by_digest_and_by_tag_whatever_its_layer_is_called(
    fetching: Fetching, oras: Oras, kind: str, form: str
) -> None:
    digest = oras.push("models/digits:1", {"model.onnx": BODY}, kind)
    uri = f"oci://{oras.registry.address}/models/digits{form.format(digest=digest)}"
    assert await fetching.fetch(uri, sha256_of(BODY), plain(fetching, oras.registry)) == BODY


async def test_a_begun_layer_is_gone_on_with(fetching: Fetching, oras: Oras) -> None:
    digest = oras.push("models/begun:1", {"model.onnx": BODY})
    fetching.part.write_bytes(BODY[:1_500_000])
    uri = f"oci://{oras.registry.address}/models/begun@{digest}"
    assert await fetching.fetch(uri, sha256_of(BODY), plain(fetching, oras.registry)) == BODY
    assert fetching.seen[0] == (1_500_000, len(BODY))


@pytest.mark.parametrize("name", ["model.onnx", "weights/model.onnx"])
async def test_one_of_several_files_is_named_by_title_or_by_its_path_in_the_pack(
    fetching: Fetching, oras: Oras, name: str
) -> None:
    files = {"model.onnx": BODY, "labels.txt": b"0 1 2"}
    digest = oras.push("models/two:1", files, path="weights/")
    uri = f"oci://{oras.registry.address}/models/two@{digest}#{name}"
    assert await fetching.fetch(uri, sha256_of(BODY), plain(fetching, oras.registry)) == BODY


async def test_of_several_files_the_one_with_the_named_sha256_is_meant(
    fetching: Fetching, oras: Oras
) -> None:
    digest = oras.push("models/two:2", {"model.onnx": BODY, "labels.txt": b"0 1 2"})
    uri = f"oci://{oras.registry.address}/models/two@{digest}"
    assert await fetching.fetch(uri, sha256_of(BODY), plain(fetching, oras.registry)) == BODY
    told = await fetching.refusal(uri, "0" * 64, plain(fetching, oras.registry))
    assert "add #FILE with one of: labels.txt, model.onnx" in told


async def test_an_index_gives_what_is_for_this_machine(fetching: Fetching, oras: Oras) -> None:
    for arch, body in (("amd64", BODY), ("arm64", OTHER), ("arm", b"arm")):
        flags = ("--artifact-platform", f"linux/{arch}")
        oras.push(f"models/many:{arch}", {"model.onnx": body}, "", *flags)
    digest = oras.index("models/many:all", "amd64", "arm64", "arm")
    foreign = oras.index("models/many:foreign", "arm")
    base, keys = f"oci://{oras.registry.address}/models/many", plain(fetching, oras.registry)
    body = BODY if platform.machine() == "x86_64" else OTHER
    assert await fetching.fetch(f"{base}@{digest}", sha256_of(body), keys) == body
    told = await fetching.refusal(f"{base}@{foreign}", sha256_of(body), keys)
    assert "has nothing for linux/" in told
    assert "only for linux/arm" in told


@pytest.mark.parametrize("kind", ["ustar", "pax", "gnu"])
@pytest.mark.parametrize("names", [("model.onnx",), ("models/", "models/deep/model.onnx")])
async def test_the_one_file_in_an_archive_is_unpacked(
    fetching: Fetching, oras: Oras, kind: str, names: tuple[str, ...]
) -> None:
    for suffix, media, pack in (("tar", TAR, bytes), ("gz", TAR_GZIP, gzip.compress)):
        archive = pack(tar(*names, kind=kind))
        digest = oras.push(f"models/packed:{suffix}", {"model.tar": archive}, media)
        uri = f"oci://{oras.registry.address}/models/packed@{digest}"
        assert await fetching.fetch(uri, sha256_of(BODY), plain(fetching, oras.registry)) == BODY


async def test_an_archive_of_two_files_is_refused_and_so_is_one_packed_with_zstd(
    fetching: Fetching, oras: Oras
) -> None:
    base, keys = f"oci://{oras.registry.address}/models/packed", plain(fetching, oras.registry)
    two = oras.push("models/packed:two", {"model.tar": tar("a.onnx", "b.onnx")}, TAR)
    assert "more than one file" in await fetching.refusal(f"{base}@{two}", sha256_of(BODY), keys)
    zstd = oras.push("models/packed:zstd", {"model.tar": b"zstd"}, f"{TAR}+zstd")
    assert "push it uncompressed" in await fetching.refusal(f"{base}@{zstd}", secret=keys)


@pytest.mark.parametrize("is_config", [True, False])
async def test_a_registry_with_a_password_takes_that_of_the_secret(
    fetching: Fetching, closed: Oras, is_config: bool
) -> None:
    digest = closed.push("models/digits:1", {"model.onnx": BODY})
    uri = f"oci://{closed.registry.address}/models/digits@{digest}"
    both = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    config = json.dumps({"auths": {closed.registry.address: {"auth": both}}})
    values = {"dockerconfigjson": config} if is_config else {"username": USER, "password": PASSWORD}
    keys = plain(fetching, closed.registry, **values)
    assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY


async def test_a_registry_with_a_password_refuses_who_has_none_or_a_wrong_one(
    fetching: Fetching, closed: Oras
) -> None:
    uri = f"oci://{closed.registry.address}/models/digits:1"
    told = await fetching.refusal(uri, secret=plain(fetching, closed.registry))
    assert "name a Secret in source.secretRef that may pull" in told
    wrong = plain(fetching, closed.registry, username=USER, password=PASSWORD[:-1])
    assert "HTTP 401" in await fetching.refusal(uri, secret=wrong)


async def test_a_registry_that_speaks_no_tls_is_not_asked_in_the_clear_unless_the_secret_says_so(
    fetching: Fetching, closed: Oras
) -> None:
    uri = f"oci://{closed.registry.address}/models/digits:1"
    before = closed.registry.log.read_text()
    assert "could not be reached" in await fetching.refusal(uri)
    keys = fetching.secret(hosts=closed.registry.address, username=USER, password=PASSWORD)
    assert "could not be reached" in await fetching.refusal(uri, secret=keys)
    assert "GET" not in closed.registry.log.read_text().removeprefix(before)


async def test_a_token_is_asked_for_with_the_password_only_where_the_secret_names_the_place(
    fetching: Fetching, tokens: Tokens, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with running_registry(folder, tokens.config) as registry:
        loggedin = Oras(registry, folder / "files", ("--username", USER, "--password", PASSWORD))
        digest = await asyncio.to_thread(loggedin.push, "models/digits:1", {"model.onnx": BODY})
        uri = f"oci://{registry.address}/models/digits@{digest}"
        tokens.asked.clear()
        user = {"username": USER, "password": PASSWORD}
        stingy = plain(fetching, registry, **user)
        told = await fetching.refusal(uri, secret=stingy)
        assert f"gives tokens at {tokens.address}, which it does not name" in told
        assert tokens.asked == []
        hosts = f"http://{registry.address}, http://{tokens.address}"
        keys = fetching.secret("both", hosts=hosts, **user)
        assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY
        assert {one["scope"] for one in tokens.asked} == {"repository:models/digits:pull"}
        nobody = fetching.secret("nobody", hosts=hosts)
        fetching.target.unlink()
        assert "HTTP 401" in await fetching.refusal(uri, sha256_of(BODY), nobody)


async def test_two_files_of_one_artefact_are_told_apart_by_their_sha256(
    fetching: Fetching, oras: Oras
) -> None:
    weights = b"weights" * 1000
    digest = oras.push("models/both:1", {"model.onnx": BODY, "weights.bin": weights})
    uri = f"oci://{oras.registry.address}/models/both@{digest}"
    for body in (BODY, weights):
        assert await fetching.fetch(uri, sha256_of(body), plain(fetching, oras.registry)) == body
