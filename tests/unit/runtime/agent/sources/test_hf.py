"""hf:// against a server that answers as a Hugging Face hub does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from aiohttp import web

from fetching import Fetching, sha256_of
from unit.runtime.agent.sources.server import Server, serving, wants
from unit.runtime.agent.support import ranged

BODY = bytes(range(256)) * 8192
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_tests"  # noqa: S105 (of a server of this test's own)


@dataclass
class Hub:
    """A hub, and the other host from which it gives large files."""

    server: Server
    store: Server

    @property
    def asked(self) -> list[str]:
        return [one.path for one in self.server.requests]


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[Hub]:
    async def stored(request: web.Request) -> web.StreamResponse:
        return ranged(request, BODY)

    async with serving(stored, "127.0.0.2") as store:

        async def resolve(request: web.Request) -> web.StreamResponse:
            if request.path.startswith("/gated/"):
                found = await wants(f"Bearer {TOKEN}", b"")(request)
                if found.status != 200:
                    return found
            if f"/resolve/{COMMIT}/" not in request.path:
                raise web.HTTPNotFound
            raise web.HTTPFound(f"{store.url}/signed?by=hub")

        async with serving(resolve) as server:
            yield Hub(server, store)


def asking(fetching: Fetching, hub: Hub) -> Fetching:
    tuning = fetching.tuning.model_copy(update={"hf_endpoint": f"{hub.server.url}/"})
    return replace(fetching, tuning=tuning)


async def test_a_file_at_a_commit_is_fetched_from_where_the_hub_keeps_it(
    fetching: Fetching, hub: Hub
) -> None:
    fetching = asking(fetching, hub)
    fetching.part.write_bytes(BODY[:1_000_000])
    uri = f"hf://org/repo/onnx/model.onnx@{COMMIT}"
    assert await fetching.fetch(uri, sha256_of(BODY)) == BODY
    assert hub.asked == [f"/org/repo/resolve/{COMMIT}/onnx/model.onnx"]
    assert fetching.seen[0] == (1_000_000, len(BODY))


async def test_a_gated_repository_sees_the_token_and_the_store_does_not(
    fetching: Fetching, hub: Hub
) -> None:
    fetching = asking(fetching, hub)
    uri = f"hf://gated/repo/model.onnx@{COMMIT}"
    assert "HTTP 401" in await fetching.refusal(uri)
    keys = fetching.secret(hosts=hub.server.url, token=TOKEN)
    assert await fetching.fetch(uri, sha256_of(BODY), keys) == BODY
    assert hub.store.shown == []


@pytest.mark.parametrize(
    "uri",
    [
        "hf://org/repo/model.onnx@main",
        "hf://org/repo/model.onnx",
        f"hf://org/model.onnx@{COMMIT}",
        f"hf://org/repo/../x@{COMMIT}",
        f"hf://org/repo//x@{COMMIT}",
        f"hf://org/repo/x?y@{COMMIT}",
    ],
)
async def test_what_names_no_file_at_a_commit_is_refused_before_anybody_is_asked(
    fetching: Fetching, hub: Hub, uri: str
) -> None:
    told = await asking(fetching, hub).refusal(uri)
    assert "write hf://ORG/REPO/PATH@COMMIT with the 40 digits of a commit" in told
    assert hub.asked == []
