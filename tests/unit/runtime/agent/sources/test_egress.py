"""Fetches by way of a proxy, and from servers whose authority only the administrator knows."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from fetching import TUNING, Fetching, sha256_of
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.sources.egress import forbidden_literal, proxy_for

BODY = bytes(range(256)) * 512


@dataclass
class ConnectProxy:
    """A proxy that knows CONNECT, resolves names by a list of its own, and notes what it sees."""

    names: dict[str, tuple[str, int]]
    address: str = ""
    heads: list[str] = field(default_factory=list)
    passed: bytearray = field(default_factory=bytearray)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split("\r\n")[0].split(" ")
        place = self.names.get(target)
        if method != "CONNECT" or place is None:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()
            return
        onward, back = await asyncio.open_connection(*place)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(self._pump(reader, back), self._pump(onward, writer))

    async def _pump(self, one: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
        try:
            while data := await one.read(65536):
                self.passed += data
                other.write(data)
                await other.drain()
        except ConnectionError:
            pass
        finally:
            other.close()


@dataclass
class Site:
    """A TLS server for models.example, an authority of its own, and a proxy before it."""

    proxy: ConnectProxy
    ca: str
    address: str
    shown: list[str | None] = field(default_factory=list)

    def tuning(self, **more: object) -> Tuning:
        told = {"https_proxy": self.proxy.url, "ca_bundle": self.ca, **more}
        return TUNING.model_copy(update=told)


def _openssl(*argv: str) -> None:
    subprocess.run(["openssl", *argv], check=True, capture_output=True)


def authority(folder: Path) -> tuple[str, ssl.SSLContext]:
    """Make an authority and a certificate of it for models.example and loopback."""
    key = ("-newkey", "rsa:2048", "-nodes")
    ca, cert = folder / "ca.pem", folder / "cert.pem"
    _openssl(
        "req", "-x509", *key, "-subj", "/CN=own", "-keyout", f"{folder}/ca.key", "-out", str(ca)
    )
    names = folder / "names"
    names.write_text("subjectAltName=DNS:models.example,DNS:localhost,IP:127.0.0.1")
    asked = folder / "asked"
    subject = ("-subj", "/CN=models.example")
    _openssl("req", *key, *subject, "-keyout", f"{folder}/key.pem", "-out", str(asked))
    by = ("-CA", str(ca), "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-extfile", str(names))
    _openssl("x509", "-req", "-in", str(asked), *by, "-out", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, folder / "key.pem")
    return ca.read_text(), context


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    ca, context = await asyncio.to_thread(authority, tmp_path)
    found = Site(ConnectProxy({}), ca, "")

    async def answer(request: web.Request) -> web.StreamResponse:
        found.shown.append(request.headers.get("Authorization"))
        if request.path == "/moved":
            raise web.HTTPFound("https://elsewhere.example/model")
        return web.Response(body=BODY)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tcp = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await tcp.start()
    port = runner.addresses[0][1]
    found.address = f"127.0.0.1:{port}"
    found.proxy.names = {"models.example:443": ("127.0.0.1", port)}
    server = await asyncio.start_server(found.proxy.handle, "127.0.0.1", 0)
    found.proxy.address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
    yield found
    server.close()
    await runner.cleanup()


async def test_a_proxy_resolves_the_name_and_sees_no_credential(
    fetching: Fetching, site: Site
) -> None:
    fetching.tuning = site.tuning()
    keys = fetching.secret(hosts="models.example", token="secret-of-tests")  # noqa: S106
    uri = "https://models.example/model"
    assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY
    assert site.shown == ["Bearer secret-of-tests"]
    head = site.proxy.heads[0]
    assert head.startswith("CONNECT models.example:443 ")
    assert "Authorization" not in head
    assert b"secret-of-tests" not in site.proxy.passed
    assert BODY[:256] not in site.proxy.passed


async def test_what_the_proxy_forbids_is_not_reached_by_another_way(
    fetching: Fetching, site: Site
) -> None:
    fetching.tuning = site.tuning()
    told = await fetching.refusal("https://forbidden.example/model")
    assert "asked by way of the proxy that the operator names" in told
    assert site.shown == []


async def test_a_redirect_goes_by_the_proxy_too(fetching: Fetching, site: Site) -> None:
    fetching.tuning = site.tuning()
    await fetching.refusal("https://models.example/moved")
    assert [head.split(" ")[1] for head in site.proxy.heads] == [
        "models.example:443",
        "elsewhere.example:443",
    ]


async def test_an_address_in_the_url_is_judged_here_although_a_proxy_would_ask_it(
    fetching: Fetching, site: Site
) -> None:
    fetching.tuning = site.tuning()
    told = await fetching.refusal("https://169.254.169.254/latest")
    assert "link-local address, from which pods may not fetch" in told
    assert site.proxy.heads == []


async def test_what_needs_no_proxy_is_asked_directly(fetching: Fetching, site: Site) -> None:
    fetching.tuning = site.tuning(no_proxy="10.0.0.0/8,127.0.0.0/8")
    uri = f"https://{site.address}/model"
    assert await fetching.fetch(uri, sha256_of(BODY)) == BODY
    assert site.proxy.heads == []


async def test_an_own_authority_is_believed_only_where_it_was_named(
    fetching: Fetching, site: Site
) -> None:
    fetching.tuning = TUNING
    assert "could not be reached" in await fetching.refusal(f"https://{site.address}/model")
    fetching.tuning = TUNING.model_copy(update={"ca_bundle": site.ca})
    assert await fetching.fetch(f"https://{site.address}/model", sha256_of(BODY)) == BODY


async def test_a_bundle_that_holds_no_certificates_is_named(fetching: Fetching, site: Site) -> None:
    fetching.tuning = TUNING.model_copy(update={"ca_bundle": "no PEM"})
    told = await fetching.refusal(f"https://{site.address}/model")
    assert "fetch.caBundle) holds no certificates" in told


@pytest.mark.parametrize(
    ("place", "exempt", "is_proxied"),
    [
        ("https://models.example/x", "", True),
        ("http://models.example/x", "", False),
        ("https://models.example/x", "models.example", False),
        ("https://models.example/x", ".example", False),
        ("https://a.models.example/x", "models.example", False),
        ("https://a.models.example/x", "*.models.example", False),
        ("https://notmodels.example/x", "models.example", True),
        ("https://models.example:8443/x", "models.example:8443", False),
        ("https://models.example/x", "models.example:8443", True),
        ("https://MODELS.example./x", "other.example, models.example", False),
        ("https://10.1.2.3/x", "10.0.0.0/8", False),
        ("https://10.1.2.3/x", "10.1.2.3", False),
        ("https://11.1.2.3/x", "10.0.0.0/8", True),
        ("https://[fd00::1]/x", "fd00::/8", False),
        ("https://models.example/x", "*", False),
    ],
)
def test_whom_no_proxy_means(place: str, exempt: str, is_proxied: bool) -> None:
    tuning = Tuning(https_proxy="http://proxy.example:3128", no_proxy=exempt)
    assert (proxy_for(place, tuning) is not None) is is_proxied
    assert proxy_for(place, Tuning(no_proxy=exempt)) is None


def test_a_name_is_the_proxys_to_judge_and_an_address_is_not() -> None:
    assert forbidden_literal("https://localhost/x", ()) is None
    assert forbidden_literal("https://[::ffff:169.254.169.254]/x", ()) == "link-local"
    assert forbidden_literal("https://127.0.0.1/x", (IPv4Network("127.0.0.0/8"),)) is None
