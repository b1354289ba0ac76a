"""`skerry push` and `skerry resolve oci://` against real registries; pods fetch what they print."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fetching import Fetching, sha256_of
from local_registry import running_registry
from skerry_operator.ctl.answer import Declined
from skerry_operator.ctl.cli import main
from skerry_operator.ctl.layers import resolve_layer
from skerry_operator.ctl.push import BUNDLE, PushWish, push
from skerry_operator.ctl.registry import RegistryClient, RegistryWish
from skerry_runtime.trust.bundle import BUNDLE_MEDIA_TYPE
from skerry_runtime.trust.keys import public_key
from skerry_runtime.trust.vouch import Files, vouching_key
from sources.oras import RAW, Oras
from sources.test_oci import BODY, HTPASSWD, OTHER, TAR, TAR_GZIP, tar
from sources.tokens import PASSWORD, USER, Tokens


@pytest.fixture(scope="module")
def oras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oras]:
    """An open registry."""
    folder = tmp_path_factory.mktemp("open")
    (folder / "files").mkdir()
    with running_registry(folder) as registry:
        yield Oras(registry, folder / "files")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(BODY)
    return path


def config(folder: Path, address: str, password: str = PASSWORD) -> str:
    """Write what `docker login` writes."""
    path = folder / "config.json"
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    return str(path)


def pushed(path: Path, uri: str, config: str | None = None) -> dict[str, str]:
    wish = PushWish(str(path), RegistryWish(uri, config, plain_http=True))
    source: dict[str, str] = json.loads(push(wish, json=True).text)["source"]
    return source


def resolved(uri: str) -> dict[str, str]:
    answer = resolve_layer(RegistryWish(uri, plain_http=True), json=True)
    source: dict[str, str] = json.loads(answer.text)["source"]
    return source


async def test_what_was_pushed_is_what_a_pod_fetches_by_its_digest(
    fetching: Fetching, oras: Oras, model: Path
) -> None:
    uri = f"oci://{oras.registry.address}/models/pushed:1"
    source = await asyncio.to_thread(pushed, model, uri)
    assert source["sha256"] == sha256_of(BODY)
    assert source["uri"].startswith(f"oci://{oras.registry.address}/models/pushed@sha256:")
    secret = fetching.secret(hosts=f"http://{oras.registry.address}")
    assert await fetching.fetch(source["uri"], source["sha256"], secret) == BODY
    # the name that it was pushed under names the file, too, and so does the tag
    fetching.target.unlink()
    assert await fetching.fetch(f"{uri}#model.onnx", source["sha256"], secret) == BODY


def test_a_push_repeats_itself_and_is_a_modelpack_artefact(oras: Oras, model: Path) -> None:
    uri = f"oci://{oras.registry.address}/models/twice:1"
    first = pushed(model, uri)
    assert pushed(model, uri) == first
    assert oras.digest("models/twice:1") == first["uri"].rpartition("@")[2]
    client = RegistryClient.of(RegistryWish(uri, plain_http=True))
    manifest = json.loads(client.manifest("1"))
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert [layer["mediaType"] for layer in manifest["layers"]] == [RAW]
    assert manifest["layers"][0]["annotations"]["org.cncf.model.filepath"] == "model.onnx"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"


def test_a_tag_is_resolved_to_digest_and_sha256(oras: Oras, model: Path) -> None:
    uri = f"oci://{oras.registry.address}/models/tagged:1"
    source = pushed(model, uri)
    assert resolved(uri) == source


@pytest.mark.parametrize("kind", [RAW, ""])
def test_what_others_push_is_resolved_whatever_its_layer_is_called(oras: Oras, kind: str) -> None:
    digest = oras.push("models/other:1", {"model.onnx": OTHER}, kind)
    assert resolved(f"oci://{oras.registry.address}/models/other:1") == {
        "uri": f"oci://{oras.registry.address}/models/other@{digest}",
        "sha256": sha256_of(OTHER),
    }


@pytest.mark.parametrize("kind", [TAR, TAR_GZIP])
def test_of_an_archive_it_is_the_sha256_of_the_file_inside(oras: Oras, kind: str) -> None:
    body = tar("models/", "models/model.onnx")
    body = gzip.compress(body) if kind == TAR_GZIP else body
    oras.push("models/packed:1", {"model.tar": body}, kind)
    found = resolved(f"oci://{oras.registry.address}/models/packed:1")
    assert found["sha256"] == sha256_of(BODY)


def test_an_archive_of_several_files_is_refused(oras: Oras) -> None:
    oras.push("models/several:1", {"model.tar": tar("a.onnx", "b.onnx")}, TAR)
    with pytest.raises(Declined, match="more than one plain file"):
        resolved(f"oci://{oras.registry.address}/models/several:1")


def test_one_of_several_layers_is_named(oras: Oras) -> None:
    oras.push("models/two:1", {"a.onnx": BODY, "b.onnx": OTHER})
    uri = f"oci://{oras.registry.address}/models/two:1"
    with pytest.raises(Declined, match=r"add #FILE with one of: a\.onnx, b\.onnx"):
        resolved(uri)
    found = resolved(f"{uri}#b.onnx")
    assert found["sha256"] == sha256_of(OTHER)
    assert found["uri"].endswith("#b.onnx")


def test_an_index_names_its_manifests(oras: Oras) -> None:
    oras.push("models/arch:amd64", {"a.onnx": BODY})
    oras.index("models/arch:1", "amd64")
    with pytest.raises(Declined, match=r"an index, whose files differ by platform.*@sha256:"):
        resolved(f"oci://{oras.registry.address}/models/arch:1")


def test_a_closed_registry_takes_the_user_of_docker_login(tmp_path: Path, model: Path) -> None:
    (tmp_path / "users").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: models, path: {tmp_path}/users}}}}"
    with running_registry(tmp_path, auth) as registry:
        uri = f"oci://{registry.address}/models/digits:1"
        assert pushed(model, uri, config(tmp_path, registry.address))["sha256"] == sha256_of(BODY)
        with pytest.raises(Declined, match="HTTP 401: `docker login` there first"):
            pushed(model, uri, config(tmp_path, registry.address, "wrong"))
        with pytest.raises(Declined, match="`docker login` there first"):
            pushed(model, uri, config(tmp_path, "another.example"))


async def test_a_registry_with_tokens_is_asked_for_one_that_may_push(
    tokens: Tokens, tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with running_registry(folder, tokens.config) as registry:
        uri = f"oci://{registry.address}/models/digits:1"
        login = config(tmp_path, registry.address)
        source = await asyncio.to_thread(pushed, model, uri, login)
    assert source["sha256"] == sha256_of(BODY)
    assert {one["scope"] for one in tokens.asked} == {"repository:models/digits:pull,push"}


def test_the_command_line_prints_a_source_to_paste(
    oras: Oras, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"oci://{oras.registry.address}/models/cli:1"
    assert main(["push", str(model), uri, "--plain-http"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("source:\n  uri: oci://")
    assert main(["resolve", uri, "--plain-http"]) == 0
    assert capsys.readouterr().out == told


def private_key(folder: Path) -> tuple[Path, str]:
    """Make a key; return its file and the public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = folder / "key.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key.private_bytes(*form))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return path, public.decode()


def test_a_signature_refers_to_the_model_where_every_tool_looks_for_it(
    oras: Oras, model: Path, tmp_path: Path
) -> None:
    uri = f"oci://{oras.registry.address}/models/signed:1"
    key, public = private_key(tmp_path)
    wish = PushWish(str(model), RegistryWish(uri, plain_http=True), str(key))
    for times in (1, 2):  # this registry notes no referrers: an index under a tag, that grows
        source = json.loads(push(wish, json=True).text)["source"]
        digest = source["uri"].rpartition("@")[2]
        client = RegistryClient.of(wish.to)
        entries = client.index_at(digest.replace(":", "-"))
        assert len(entries) == times
        assert {one["artifactType"] for one in entries} == {BUNDLE}
    referrer = json.loads(client.manifest(entries[0]["digest"]))
    assert referrer["subject"]["digest"] == digest
    assert referrer["artifactType"] == BUNDLE == BUNDLE_MEDIA_TYPE
    with client.blob(referrer["layers"][0]["digest"]) as answer:
        bundle = answer.read()
    assert vouching_key(bundle, [public_key(public)], Files(source["sha256"], {}))


def test_a_key_that_is_none_is_named_before_anything_is_sent(model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no key")
    for key, fault in ((bad, "--key: "), (tmp_path / "none.pem", "name a private key")):
        wish = PushWish(str(model), RegistryWish("oci://127.0.0.1:9/models/a:1"), str(key))
        with pytest.raises(Declined, match=fault):
            push(wish, json=False)


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("oci://registry.example/UPPER:1", "write oci://REGISTRY/REPOSITORY:TAG"),
        ("oci://registry.example/a@sha256:" + "0" * 64, "write a tag and no digest"),
        ("oci://127.0.0.1:9/models/a:1", "is it up? One that speaks plain HTTP needs"),
    ],
)
def test_what_cannot_be_pushed_to_is_refused_with_the_remedy(
    model: Path, uri: str, fault: str
) -> None:
    with pytest.raises(Declined) as refused:
        push(PushWish(str(model), RegistryWish(uri)), json=False)
    assert fault in str(refused.value)


def test_a_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.touch()
    for path, fault in ((tmp_path / "none.onnx", "No such file"), (empty, "is empty")):
        with pytest.raises(Declined, match=fault):
            pushed(path, "oci://127.0.0.1:9/models/a:1")


def test_a_helper_of_docker_is_not_asked_and_the_way_round_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {}, "credsStore": "desktop"}))
    with pytest.raises(Declined, match="in a helper, which is not asked"):
        RegistryClient.of(RegistryWish("oci://registry.example/a:1", str(path)))
