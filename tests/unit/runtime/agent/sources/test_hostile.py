"""Registries, archives and hosts that mean harm: each is refused with the reason."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from fetching import Fetching, sha256_of
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.ocilogin import Login
from skerry_runtime.agent.sources.tarball import MAX_ENTRIES, MAX_TAIL_BYTES
from unit.runtime.agent.sources.server import Answer, body, serving, status

MODEL = b"model" * 100
PASSWORD = "a-password-of-tests"  # noqa: S105 (of servers of these tests)
USER = {"username": "edge", "password": PASSWORD}
TAR, TAR_GZIP = (f"application/vnd.oci.image.layer.v1.tar{kind}" for kind in ("", "+gzip"))
METADATA = "http://169.254.169.254/latest/meta-data/"


def layer(content: bytes, media: str = "application/octet-stream", **more: Any) -> dict[str, Any]:
    found = {"mediaType": media, "digest": f"sha256:{sha256_of(content)}", "size": len(content)}
    return {**found, **more}


def manifest(*layers: Mapping[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "layers": layers}).encode()


def index(*manifests: Mapping[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


def registry(documents: Mapping[str, bytes], blobs: Mapping[str, Answer] | None = None) -> Answer:
    """A registry that serves what it is told to, whatever its digest is."""

    async def answer(request: web.Request) -> web.StreamResponse:
        kind, _, name = request.path.rpartition("/")
        if kind.endswith("/manifests") and name in documents:
            return web.Response(body=documents[name])
        if kind.endswith("/blobs") and blobs:
            return await (blobs.get(name) or blobs["any"])(request)
        raise web.HTTPNotFound

    return answer


async def refusal(fetching: Fetching, answer: Answer, sha256: str = "", at: str = ":1") -> str:
    async with serving(answer) as server:
        keys = fetching.secret(hosts=server.url)
        uri = f"oci://{server.address}/models/digits{at}"
        return await fetching.refusal(uri, sha256 or sha256_of(MODEL), keys)


DEEP = b"[" * 100_000
MANIFESTS = {
    "10,000 layers": (manifest(*[layer(MODEL)] * 10_000), "10000 entries: at most 1000 are read"),
    "10,000 manifests": (index(*[layer(MODEL)] * 10_000), "10000 entries: at most 1000 are read"),
    "5 MiB": (b" " * (5 << 20), "an answer of more than 4.0 MiB: refused"),
    "no JSON": (b"<html>", "no OCI manifest"),
    "a list": (b"[]", "no OCI manifest"),
    "neither layers nor manifests": (b"{}", "no OCI manifest"),
    "no end of brackets": (DEEP, "no OCI manifest"),
    "another hash": (manifest({**layer(MODEL), "digest": "md5:00"}), "no OCI manifest"),
    "a way out": (manifest({**layer(MODEL), "digest": "sha256:../../x"}), "no OCI manifest"),
    "less than nothing": (manifest({**layer(MODEL), "size": -1}), "no OCI manifest"),
    "no layer": (manifest(), "which of its layers is not said"),
    "two layers": (manifest(layer(b"a"), layer(b"b")), "which of its layers is not said"),
    "another file": (manifest(layer(b"other")), "the layer is another file than the spec names"),
    "names that hide": (
        manifest(*[layer(b"a", annotations={"org.opencontainers.image.title": "a\x1b[2J"})] * 2),
        "with one of: a [2J",
    ),
}


@pytest.mark.parametrize(("document", "says"), MANIFESTS.values(), ids=MANIFESTS)
async def test_a_manifest_that_will_not_do_is_refused(
    fetching: Fetching, document: bytes, says: str
) -> None:
    assert says in await refusal(fetching, registry({"1": document}))


async def test_a_manifest_by_digest_must_be_the_one(fetching: Fetching) -> None:
    digest = f"sha256:{sha256_of(b'another')}"
    told = await refusal(fetching, registry({digest: manifest(layer(MODEL))}), at=f"@{digest}")
    assert f"the registry sent another manifest than {digest}" in told


async def test_an_index_that_points_to_itself_is_asked_twice_and_no_more(
    fetching: Fetching,
) -> None:
    inner = index(layer(b"whatever"))
    outer = index(layer(inner))
    documents = {"1": outer, f"sha256:{sha256_of(inner)}": inner}
    assert "an index within an index" in await refusal(fetching, registry(documents))
    itself = f"sha256:{sha256_of(b'itself')}"
    loop = index({**layer(b""), "digest": itself})
    told = await refusal(fetching, registry({"1": loop, itself: loop}))
    assert "sent another manifest than" in told


async def test_a_blob_of_other_bytes_than_its_digest_is_refused(fetching: Fetching) -> None:
    answer = registry({"1": manifest(layer(MODEL))}, {"any": body(b"other")})
    assert "has another sha256" in await refusal(fetching, answer)


async def test_a_blob_that_leads_to_a_metadata_address_is_refused(fetching: Fetching) -> None:
    answer = registry({"1": manifest(layer(MODEL))}, {"any": status(307, Location=METADATA)})
    told = await refusal(fetching, answer)
    assert "has a link-local address, from which pods may not fetch" in told


async def test_a_blob_that_lies_elsewhere_is_asked_for_without_credentials(
    fetching: Fetching,
) -> None:
    async with serving(body(MODEL), "127.0.0.2") as store:
        moved = status(307, Location=f"{store.url}/x")
        open_ = registry({"1": manifest(layer(MODEL))}, {"any": moved})
        async with serving(challenged('Basic realm="models"', open_)) as server:
            keys = fetching.secret(hosts=server.url, **USER)
            uri = f"oci://{server.address}/models/digits:1"
            assert await fetching.fetch(uri, sha256_of(MODEL), keys) == MODEL
            assert server.shown
        assert store.shown == []


# --- logins ---


def challenged(challenge: str, answer: Answer) -> Answer:
    """Give nothing to who shows nothing."""

    async def ask(request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return await answer(request)
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    return ask


async def test_a_realm_elsewhere_is_not_shown_the_password(fetching: Fetching) -> None:
    async with serving(body(b'{"token": "t"}'), "127.0.0.2") as realm:
        challenge = f'Bearer realm="{realm.url}/token",service="models"'
        async with serving(challenged(challenge, registry({}))) as server:
            keys = fetching.secret(hosts=server.url, **USER)
            uri = f"oci://{server.address}/models/digits:1"
            told = await fetching.refusal(uri, secret=keys)
            assert f"gives tokens at {realm.address}, which it does not name" in told
            assert PASSWORD not in told
            assert (realm.requests, server.shown) == ([], [])


async def test_a_token_that_expires_between_manifest_and_layer_is_asked_for_again(
    fetching: Fetching,
) -> None:
    documents = registry({"1": manifest(layer(MODEL))}, {"any": body(MODEL)})
    given: list[str] = []
    spent: set[str] = set()

    async def ask(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            given.append(f"t{len(given)}")
            return web.json_response({"token": given[-1], "expires_in": 1})
        shown = request.headers.get("Authorization", "")
        if shown.removeprefix("Bearer ") not in set(given) - spent:
            realm = f'Bearer realm="http://{request.host}/token",service="models"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        spent.add(given[-1])
        return await documents(request)

    async with serving(ask) as server:
        keys = fetching.secret(hosts=server.url)
        uri = f"oci://{server.address}/models/digits:1"
        assert await fetching.fetch(uri, sha256_of(MODEL), keys) == MODEL
        assert given == ["t0", "t1"]


async def test_a_realm_elsewhere_is_asked_by_who_has_no_password_and_its_token_goes_back_only(
    fetching: Fetching,
) -> None:
    documents = registry({"1": manifest(layer(MODEL))}, {"any": body(MODEL)})
    async with serving(body(b'{"access_token": "t"}'), "127.0.0.2") as realm:
        challenge = f'Bearer realm="{realm.url}/token?a=b",scope="repository:secrets:push"'
        async with serving(challenged(challenge, documents)) as server:
            keys = fetching.secret(hosts=server.url)
            uri = f"oci://{server.address}/models/digits:1"
            assert await fetching.fetch(uri, sha256_of(MODEL), keys) == MODEL
            assert set(server.shown) == {"Bearer t"}
        assert realm.shown == []
        assert {one.query["scope"] for one in realm.requests} == {"repository:models/digits:pull"}


@pytest.mark.parametrize(
    ("challenge", "says"),
    [
        ("Bearer", "names no address where it gives tokens"),
        ('Bearer realm="file:///etc/passwd"', "names no address where it gives tokens"),
        (f'Bearer realm="{METADATA}"', "has a link-local address"),
        ("Negotiate", "HTTP 401: name a Secret"),
        ('Basic realm="models"', "HTTP 401: name a Secret"),
    ],
)
async def test_a_challenge_that_cannot_be_met_is_refused(
    fetching: Fetching, challenge: str, says: str
) -> None:
    assert says in await refusal(fetching, challenged(challenge, registry({})))


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\r\\nX: y"}', b"x" * 100_000],
    ids=["nothing", "a list", "none", "a number", "a header more", "a flood"],
)
async def test_a_realm_that_gives_no_token_is_refused(fetching: Fetching, answer: bytes) -> None:
    async with serving(body(answer), "127.0.0.2") as realm:
        challenge = f'Bearer realm="{realm.url}/token"'
        told = await refusal(fetching, challenged(challenge, registry({})))
    assert "there is none in the answer" in told or "more than 64.0 KiB" in told


async def test_a_registry_with_tls_may_not_give_tokens_without(fetching: Fetching) -> None:
    login = Login("https://registry.example", None)
    challenge = 'Bearer realm="http://registry.example/token"'
    with pytest.raises(Refused, match="gives tokens over http: refused"):
        await login.answer([challenge], "models", "oci://registry.example/m:1", fetching.tuning)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("no json", "is no file of docker login"),
        ("[]", "is no file of docker login"),
        ('{"auths": {"other.example": {"auth": "YTpi"}}}', "has no entry for 127.0.0.1:"),
        ('{"auths": {"HOST": {"auth": "***"}}}', "has no user and password"),
        ('{"auths": {"HOST": {"identitytoken": "x"}}}', "has no user and password"),
        ('{"auths": {"HOST": 7}}', "has no user and password"),
    ],
)
async def test_a_docker_config_that_will_not_do_leaves_no_byte(
    fetching: Fetching, config: str, says: str
) -> None:
    async with serving(registry({})) as server:
        values = {"dockerconfigjson": config.replace("HOST", server.address)}
        keys = fetching.secret(hosts=server.url, **values)
        uri = f"oci://{server.address}/models/digits:1"
        assert says in await fetching.refusal(uri, secret=keys)
        assert server.requests == []


# --- archives ---

Entry = tuple[str, bytes, bytes]
"""Name, type and content."""


def archive(*entries: Entry, links: str = "", form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), links
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


FILE: Entry = ("model.onnx", tarfile.REGTYPE, MODEL)
WHOLE = archive(FILE)
LONG = "d/" * 80
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "two files": (archive(FILE, ("b", tarfile.REGTYPE, b"b")), "more than one file"),
    "a file twice": (archive(FILE, FILE), "more than one file"),
    "a link after it": (archive(FILE, ("l", tarfile.SYMTYPE, b"")), "more than one file"),
    "a link": (archive(("m", tarfile.SYMTYPE, b""), links="/etc/passwd"), "a link in it"),
    "a hard link": (archive(("m", tarfile.LNKTYPE, b""), links="x"), "a hard link in it"),
    "a device": (archive(("m", tarfile.CHRTYPE, b"")), "a device in it"),
    "a pipe": (archive(("m", tarfile.FIFOTYPE, b"")), "a pipe in it"),
    "an odd type": (archive(("m", b"Z", b"")), "what is no file in it"),
    "an absolute name": (archive(("/m", tarfile.REGTYPE, MODEL)), "an absolute name"),
    "a way out": (archive(("a/../../m", tarfile.REGTYPE, MODEL)), "one that leads outside"),
    "a long way out": (
        archive((f"{LONG}../m", tarfile.REGTYPE, MODEL), form=tarfile.GNU_FORMAT),
        "one that leads outside",
    ),
    "a pax way out": (
        archive((f"/{LONG}ö", tarfile.REGTYPE, MODEL), form=tarfile.PAX_FORMAT),
        "an absolute name",
    ),
    "nothing": (archive(), "without a file in it"),
    "folders only": (archive(("d", tarfile.DIRTYPE, b"")), "without a file in it"),
    "folders without end": (
        archive(*[("d", tarfile.DIRTYPE, b"")] * (MAX_ENTRIES + 1), FILE),
        f"more than {MAX_ENTRIES} entries",
    ),
    "a name without end": (archive(("x", b"x", b" " * (1 << 20)), FILE), "names are too long"),
    "a damaged pax header": (archive(("x", b"x", b"99 path=a\n"), FILE), "damaged extended header"),
    "no archive": (b"model" * 1000, "damaged header"),
    "something at its end": (WHOLE + b"x" * 512, "something after its end"),
    "zeros without end": (WHOLE + bytes(2 * MAX_TAIL_BYTES), "something after its end"),
}


def packed(content: bytes, media: str = TAR) -> Answer:
    return registry({"1": manifest(layer(content, media))}, {"any": body(content)})


@pytest.mark.parametrize("is_zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "says"), ARCHIVES.values(), ids=ARCHIVES)
async def test_an_archive_that_would_need_a_choice_is_refused(
    fetching: Fetching, content: bytes, says: str, is_zipped: bool
) -> None:
    answer = packed(gzip.compress(content), TAR_GZIP) if is_zipped else packed(content)
    told = await refusal(fetching, answer)
    assert "the layer is a tar archive" in told
    assert says in told
    assert not fetching.target.exists()


@pytest.mark.parametrize("cut", [10, 600, 1023])
async def test_an_archive_that_ends_in_the_middle_is_tried_again(
    fetching: Fetching, cut: int
) -> None:
    assert "ended in the middle" in await refusal(fetching, packed(WHOLE[:cut]))
    assert "ended" in await refusal(fetching, packed(gzip.compress(WHOLE)[:-cut], TAR_GZIP))


async def test_what_is_called_gzip_and_is_none_is_refused(fetching: Fetching) -> None:
    told = await refusal(fetching, packed(WHOLE, TAR_GZIP))
    assert "said to be compressed with gzip, and is not" in told


def claiming(size: int) -> bytes:
    """An archive whose file is said to be larger than anything."""
    info = tarfile.TarInfo("model.onnx")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


async def test_a_bomb_is_refused_by_the_size_that_it_claims_before_it_goes_off(
    fetching: Fetching,
) -> None:
    fetching.free = 1 << 30
    bomb = gzip.compress(claiming(1 << 40) + bytes(64 << 20), 9)
    told = await refusal(fetching, packed(bomb, TAR_GZIP))
    assert "1.0 TiB of it are still to come, but only 1.0 GiB are free" in told
    assert fetching.seen == []


async def test_a_bomb_that_claims_little_is_cut_off(fetching: Fetching) -> None:
    bomb = gzip.compress(WHOLE + bytes(64 << 20), 9)
    assert "something after its end" in await refusal(fetching, packed(bomb, TAR_GZIP))
    assert max(got for got, _ in fetching.seen) <= len(MODEL)
    assert not fetching.target.exists()


# --- S3 ---


def s3_keys(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_SESSION_TOKEN": "session",
    }


async def test_a_bucket_that_moved_to_another_host_is_asked_for_without_a_signature(
    fetching: Fetching,
) -> None:
    async with serving(body(MODEL), "127.0.0.2") as other:
        async with serving(status(307, Location=f"{other.url}/x")) as server:
            keys = fetching.secret(**s3_keys(server.url))
            assert await fetching.fetch("s3://models/m", sha256_of(MODEL), keys) == MODEL
            assert any("AWS4-HMAC-SHA256" in one for one in server.shown)
            assert "session" in server.shown
        assert other.shown == []


SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"


async def test_a_server_that_is_never_content_with_the_clock_is_asked_twice(
    fetching: Fetching,
) -> None:
    async def ask(_: web.Request) -> web.Response:
        return web.Response(status=403, body=SKEWED)

    async with serving(ask) as server:
        keys = fetching.secret(**s3_keys(server.url))
        assert "HTTP 403" in await fetching.refusal("s3://models/m", secret=keys)
        assert len(server.requests) == 2


async def test_an_answer_without_a_date_leaves_the_clock_alone(fetching: Fetching) -> None:
    async def ask(_: web.Request) -> web.Response:
        return web.Response(status=403, body=SKEWED, headers={"Date": "yesterday"})

    async with serving(ask) as server:
        keys = fetching.secret(**s3_keys(server.url))
        assert "HTTP 403" in await fetching.refusal("s3://models/m", secret=keys)
        assert len(server.requests) == 1


async def test_a_refusal_without_end_is_not_read_to_its_end(fetching: Fetching) -> None:
    async def ask(_: web.Request) -> web.Response:
        return web.Response(status=403, body=b"x" * (1 << 20))

    async with serving(ask) as server:
        keys = fetching.secret(**s3_keys(server.url))
        assert "more than 64.0 KiB" in await fetching.refusal("s3://models/m", secret=keys)


@pytest.mark.parametrize("code", ["ExpiredToken", "TokenRefreshRequired"])
async def test_a_session_that_has_expired_is_refused_and_its_token_not_told(
    fetching: Fetching, code: str
) -> None:
    async def ask(_: web.Request) -> web.Response:
        return web.Response(status=400, body=f"<Error><Code>{code}</Code></Error>".encode())

    async with serving(ask) as server:
        keys = fetching.secret(**s3_keys(server.url))
        told = await fetching.refusal("s3://models/m", secret=keys)
        assert "HTTP 400" in told
        assert "session" not in told
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "uri", ["s3://models", "s3://models/", "s3://M/x", "s3://models/../x", "s3://a..b/%2e%2e/x"]
)
async def test_what_names_no_object_is_refused(fetching: Fetching, uri: str) -> None:
    keys = fetching.secret(**s3_keys("http://127.0.0.1:1"))
    assert "write s3://BUCKET/KEY" in await fetching.refusal(uri, secret=keys)


async def test_a_bucket_without_a_secret_is_refused_with_the_remedy(fetching: Fetching) -> None:
    told = await fetching.refusal("s3://models/m")
    assert told == "s3 needs source.secretRef: the Secret says which endpoint and keys to use"
