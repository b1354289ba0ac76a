"""Pages of named origins may ask, and nobody's may by default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from serving import models
from serving.asking import Answer, ask
from serving.fakes import load, serving
from serving.running import InThread, running
from skerry_runtime.settings import settings_from
from unit.runtime.secrets_folder import Secret

SHOP = "https://shop.example"
TOKEN = b"a-token-that-nobody-guesses"
ALLOW = "access-control-allow-origin"
INFER = "/v2/models/digits/infer"
ONES = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
BODY = json.dumps({"inputs": [ONES]}).encode()


@contextmanager
def server_for(origins: str, folder: Path, **settings: object) -> Iterator[InThread]:
    with running(cors_origins=origins, max_body_bytes=4096, **settings) as server:
        server.registry.switch(serving(load(models.product(folder / "m.onnx"))))
        yield server


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    """A server that asks for tokens, and lets one origin's pages ask."""
    folder = tmp_path_factory.mktemp("shop")
    secret = Secret(folder / "tokens", token=TOKEN)
    with server_for(f"{SHOP},http://localhost:3000", folder, token_dir=secret.folder) as server:
        yield server


def preflight(server: InThread, origin: str) -> Answer:
    asking = {"Access-Control-Request-Method": "POST"}
    return ask(server.http, "OPTIONS", INFER, headers={"Origin": origin, **asking})


def post(server: InThread, origin: str, body: bytes = BODY, **headers: str) -> Answer:
    authorization = {"Authorization": f"Bearer {TOKEN.decode()}"}
    return ask(server.http, "POST", INFER, body, {**authorization, "Origin": origin, **headers})


def test_a_page_is_told_beforehand_what_it_may_send_without_a_token(shop: InThread) -> None:
    answer = preflight(shop, SHOP)
    assert answer.status == 200
    assert answer.body == b""
    assert answer.headers[ALLOW] == SHOP
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"]
    for name in ("authorization", "content-type", "inference-header-content-length"):
        assert name in allowed


def test_the_answer_names_the_origin_and_what_a_page_may_read(shop: InThread) -> None:
    answer = post(shop, SHOP)
    assert answer.status == 200
    assert answer.headers[ALLOW] == SHOP
    assert answer.headers["vary"] == "origin"
    assert "skerry-revision" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(BODY, {"Authorization": "Bearer wrong"}, 401, id="without its token"),
        pytest.param(b"{", {}, 400, id="with no request"),
        pytest.param(bytes(5000), {}, 413, id="with too much"),
        pytest.param(b"x", {"Content-Encoding": "br"}, 415, id="in a strange encoding"),
        pytest.param(b"x", {"Content-Encoding": "gzip"}, 400, id="in a broken encoding"),
    ],
)
def test_a_page_may_read_why_it_is_refused(
    shop: InThread, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = post(shop, SHOP, body, **headers)
    assert answer.status == status
    assert answer.headers[ALLOW] == SHOP
    assert answer.json["error"]


@pytest.mark.parametrize(
    "origin", ["https://other.example", "http://shop.example", f"{SHOP}.evil.example", "null", ""]
)
def test_pages_of_other_origins_get_no_permission(shop: InThread, origin: str) -> None:
    asked = preflight(shop, origin)
    assert asked.status == 403
    assert ALLOW not in asked.headers
    assert ALLOW not in post(shop, origin).headers


def test_a_client_that_is_no_page_sees_no_difference(shop: InThread) -> None:
    answer = ask(shop.http, "GET", "/v2/health/ready")
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert ask(shop.http, "OPTIONS", "/v2/health/ready").status == 405


def test_any_origin_may_be_let_in(tmp_path: Path) -> None:
    with server_for("*", tmp_path) as server:
        assert preflight(server, "https://who.ever").headers[ALLOW] == "*"
        assert post(server, "null").headers[ALLOW] == "*"


def test_nothing_of_this_is_there_by_default(tmp_path: Path) -> None:
    with server_for("", tmp_path) as server:
        assert preflight(server, SHOP).status == 405
        assert ALLOW not in post(server, SHOP).headers


@pytest.mark.parametrize(
    "text",
    ["shop.example", "https://shop.example/", f"{SHOP}, {SHOP}", "https://a\r\nb", ",", "**"],
)
def test_what_is_no_origin_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValidationError, match="is no origin: write for example https://"):
        settings_from({"SKERRY_CORS_ORIGINS": text}, {})


@pytest.mark.parametrize("text", ["*", SHOP, f"{SHOP},http://[::1]:3000,http://10.0.0.1:80"])
def test_origins_are_named_in_the_environment(text: str) -> None:
    assert settings_from({"SKERRY_CORS_ORIGINS": text}, {}).cors_origins == text
