"""Secrets of sources: who may see what is in them, and what is said when they will not do."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from fetching import Fetching, sha256_of
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.sources.keyring import Keyring, host_of, read_keyring
from unit.runtime.agent.sources.server import Server, body, serving, status, wants

BODY = b"model"
PASSWORD, TOKEN = "a-password-of-tests", "a-token-of-tests"
BASIC = f"Basic {base64.b64encode(f'edge:{PASSWORD}'.encode()).decode()}"
USER = {"username": "edge", "password": PASSWORD}


@pytest.mark.parametrize(
    ("values", "shown"), [(USER, BASIC), ({"token": f" {TOKEN}\n"}, f"Bearer {TOKEN}")]
)
async def test_a_host_that_the_secret_names_sees_what_is_in_it(
    fetching: Fetching, values: dict[str, str], shown: str
) -> None:
    async with serving(wants(shown, BODY)) as server:
        keys = fetching.secret(hosts=f"other.example\nhttp://{server.address},", **values)
        assert await fetching.fetch(f"{server.url}/m", sha256_of(BODY), keys) == BODY


async def test_a_new_password_counts_at_the_next_fetch(fetching: Fetching) -> None:
    async with serving(wants(BASIC, BODY)) as server:
        keys = fetching.secret(hosts=server.url, username="edge", password="old")  # noqa: S106
        assert "HTTP 401" in await fetching.refusal(f"{server.url}/m", secret=keys)
        fetching.secret(**USER)
        assert await fetching.fetch(f"{server.url}/m", sha256_of(BODY), keys) == BODY


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "not there, or empty: create it in the namespace of the EdgeDeployment"),
        (USER, "it has no key hosts, so nothing of it is sent anywhere"),
        ({"hosts": "", **USER}, "it has no key hosts"),
        ({"hosts": "models.example", **USER}, "its key hosts does not name 127.0.0.1:"),
        ({"hosts": "http://models.example", **USER}, "have it added there as http://NAME"),
        ({"hosts": "*", **USER}, "does not name"),
        ({"hosts": "http://", **USER}, "names what is no host"),
        ({"hosts": "http://a:b@c", **USER}, "names what is no host"),
        ({"hosts": "h " * 65, **USER}, "has 65 names: write at most 64"),
    ],
)
async def test_a_foreign_secret_that_a_model_names_leaves_no_byte(
    fetching: Fetching, values: dict[str, str], says: str
) -> None:
    async with serving(body(BODY)) as server:
        told = await fetching.refusal(f"{server.url}/m", secret=fetching.secret(**values))
        assert says in told
        assert told.startswith("Secret keys: ")
        assert PASSWORD not in told
        assert server.requests == []


async def test_a_host_that_is_named_without_http_is_shown_nothing_in_the_clear(
    fetching: Fetching,
) -> None:
    async with serving(body(BODY)) as server:
        keys = fetching.secret(hosts=server.address, **USER)
        assert "in the clear" in await fetching.refusal(f"{server.url}/m", secret=keys)
        assert server.requests == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"username": "edge"}, "both username, without a colon, and password; or token"),
        ({"username": "a:b", "password": PASSWORD}, "without a colon"),
        ({"token": f"{TOKEN}\nx-other: 1"}, "its key token is no text of one line"),
        ({"token": TOKEN, "ca_crt": "no pem"}, "its key ca.crt holds no certificates"),
    ],
)
async def test_a_secret_that_will_not_do_is_refused_by_the_name_of_its_key(
    fetching: Fetching, values: dict[str, str], says: str
) -> None:
    async with serving(body(BODY)) as server:
        keys = fetching.secret(hosts=server.url, **values)
        told = await fetching.refusal(f"{server.url}/m", secret=keys)
        assert says in told
        assert not {PASSWORD, TOKEN} & set(told.split())
        assert server.requests == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_carries_no_credentials(
    fetching: Fetching, code: int
) -> None:
    async with serving(body(BODY), "127.0.0.2") as other:
        async with serving(status(code, Location=f"{other.url}/elsewhere")) as server:
            keys = fetching.secret(hosts=server.url, **USER)
            assert await fetching.fetch(f"{server.url}/m", sha256_of(BODY), keys) == BODY
        assert server.shown == [BASIC]
        assert len(other.requests) == 1
        assert other.shown == []


async def test_another_port_of_the_same_host_is_another_host(fetching: Fetching) -> None:
    async with serving(body(BODY)) as other:
        async with serving(status(302, Location=f"{other.url}/elsewhere")) as server:
            keys = fetching.secret(hosts=server.url, **USER)
            assert await fetching.fetch(f"{server.url}/m", sha256_of(BODY), keys) == BODY
        assert other.shown == []


async def test_a_redirect_back_to_the_named_host_is_shown_them_again(fetching: Fetching) -> None:
    hops: list[Server] = []

    async def first(request: object) -> object:
        to_other = getattr(request, "path", "") == "/m"
        place = f"{hops[1].url}/b" if to_other else ""
        answer = status(302, Location=place) if to_other else wants(BASIC, BODY)
        return await answer(request)  # type: ignore[arg-type]

    async def second(request: object) -> object:
        return await status(302, Location=f"{hops[0].url}/c")(request)  # type: ignore[arg-type]

    async with serving(first) as one, serving(second, "127.0.0.2") as two:  # type: ignore[arg-type]
        hops += [one, two]
        keys = fetching.secret(hosts=one.url, **USER)
        assert await fetching.fetch(f"{one.url}/m", sha256_of(BODY), keys) == BODY
        assert two.shown == []


@pytest.mark.parametrize(
    ("place", "host"),
    [
        ("https://Models.Example./x", ("https", "models.example", 443)),
        ("http://models.example:8080/x", ("http", "models.example", 8080)),
        ("https://[2001:db8::1]/x", ("https", "2001:db8::1", 443)),
        ("https://models.example:99999/x", None),
        ("https://a@models.example/x", None),
        ("https:///x", None),
        ("ftp://models.example/x", None),
    ],
)
def test_a_host_is_scheme_name_and_port(place: str, host: tuple[str, str, int] | None) -> None:
    assert host_of(place) == host


def test_a_secret_is_read_through_the_links_of_the_kubelet(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    (folder / "..v1").mkdir(parents=True)
    (folder / "..v1" / "token").write_text(TOKEN)
    (folder / "..data").symlink_to("..v1")
    (folder / "token").symlink_to("..data/token")
    found = read_keyring(tmp_path, "keys")
    assert found.values == {"token": TOKEN.encode()}
    assert TOKEN not in repr(found)


async def test_files_of_a_secret_that_cannot_be_read_are_read_again_later(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path, *__: object) -> None:
        raise PermissionError(13, "Permission denied")

    keys = fetching.secret(hosts="models.example", **USER)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(Transient, match="Secret keys: its mounted files cannot be read: Perm"):
        read_keyring(fetching.root / "secrets", keys)


def test_a_value_that_is_no_text_is_refused() -> None:
    with pytest.raises(Refused, match="its key token is no text of one line"):
        Keyring("keys", {"token": b"\xff\xfe"}).authorization()
