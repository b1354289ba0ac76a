"""Site caches against an API server: made, put right, removed, and their keys made once."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import make_node
from fake_kube import Answer, FakeKube, Request
from skerry_operator.constants import LABEL_GATEWAY
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.process.sites import SiteKeeping
from skerry_operator.settings import Settings, SiteCacheSettings

SYSTEM = "skerry-system"
SECRET = f"/api/v1/namespaces/{SYSTEM}/secrets/skerry-site-cache"
OWNER = f"/api/v1/namespaces/{SYSTEM}/configmaps/caches"
SERVICES = f"/api/v1/namespaces/{SYSTEM}/services"


@pytest.fixture(autouse=True)
def lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server answer a list of nothing, as a real one does."""
    usual = FakeKube._get

    def get(self: FakeKube, request: Request) -> Answer:
        found = usual(self, request)
        is_list = request.path.rpartition("/")[2] in {"services", "statefulsets", "networkpolicies"}
        return (
            Answer(200, {"metadata": {}, "items": []}) if found.code == 404 and is_list else found
        )

    monkeypatch.setattr(FakeKube, "_get", get)


class Keeping:
    """The loop, one look at a time."""

    def __init__(self, client: KubeClient, keys: Path, *, is_on: bool = True) -> None:
        self.nodes: list[Node] = []
        self.changes = 0
        self.threads = Threads()
        settings = Settings(
            runtime_image="runtime:1",
            site_cache=SiteCacheSettings(keys_dir=keys, owner="caches") if is_on else None,
        )
        self.it = SiteKeeping(settings, client, self.threads, lambda: self.nodes, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def gateway(self, name: str, site: str) -> None:
        labels = {"topology.kubernetes.io/zone": site, LABEL_GATEWAY: "true"}
        self.nodes.append(Node(name, "amd64", labels))


@pytest.fixture
def keeping(client: KubeClient, kube: FakeKube, tmp_path: Path) -> Iterator[Keeping]:
    kube.put(OWNER, {"metadata": {"name": "caches", "uid": "owner-1"}})
    found = Keeping(client, tmp_path)
    yield found
    found.threads.close()


def with_addresses(kube: FakeKube) -> None:
    """Give the Services addresses, as the API server does when it makes them."""
    for number, (path, body) in enumerate(sorted(kube.objects.items())):
        if path.startswith(SERVICES):
            kube.put(path, {**body, "spec": {**body["spec"], "clusterIP": f"10.96.0.{number}"}})


async def test_nothing_is_made_before_a_node_is_a_gateway(keeping: Keeping, kube: FakeKube) -> None:
    keeping.nodes = [make_node("n1")]
    for _ in range(3):
        await keeping.it.look()
    assert kube.writes == []
    assert keeping.it.caches is not None
    assert keeping.it.caches.urls == {}
    assert len(kube.requests) == 3  # the lists of the first look


async def test_a_gateway_gets_keys_and_a_cache_and_pods_its_address(
    keeping: Keeping, kube: FakeKube
) -> None:
    keeping.gateway("n1", "harbour")
    await keeping.it.look()
    assert {name.partition(" ")[2] for name in kube.writes} == {
        "secrets",
        "networkpolicies/skerry-site-harbour",
        "services/skerry-site-harbour",
        "statefulsets/skerry-site-harbour",
    }
    with_addresses(kube)
    await keeping.it.look()
    assert keeping.it.caches is not None
    assert list(keeping.it.caches.urls) == ["harbour"]
    assert keeping.it.caches.urls["harbour"].startswith("https://10.96.0.")
    assert keeping.it.caches.ticket("shop", "0" * 64).startswith("shop.")
    changes, writes = keeping.changes, len(kube.writes)
    await keeping.it.look()
    assert (keeping.changes, len(kube.writes)) == (changes, writes)  # nothing is written twice


async def test_keys_that_are_there_are_neither_read_nor_replaced(
    keeping: Keeping, kube: FakeKube, tmp_path: Path
) -> None:
    kube.put(SECRET, {"data": {}})
    keeping.gateway("n1", "harbour")
    await keeping.it.look()
    assert keeping.it.caches is None  # the kubelet will bring them
    assert not [one for one in kube.requests if one.method == "GET" and "secrets" in one.path]
    del kube.objects[SECRET]
    await keeping.it.look()
    made: dict[str, Any] = kube.objects[SECRET]["data"]
    first = keeping.it.caches
    for name, content in made.items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    keeping.it._signer = None  # another process
    await keeping.it.look()
    assert keeping.it.caches is not None
    assert first is not None
    assert keeping.it.caches.ticket("shop", "0" * 64) == first.ticket("shop", "0" * 64)


async def test_a_site_without_its_gateway_loses_its_cache_and_keeps_its_volume(
    keeping: Keeping, kube: FakeKube
) -> None:
    keeping.gateway("n1", "harbour")
    keeping.gateway("n2", "factory")
    await keeping.it.look()
    with_addresses(kube)
    claim = f"/api/v1/namespaces/{SYSTEM}/persistentvolumeclaims/data-skerry-site-factory-0"
    kube.put(claim, {})
    keeping.nodes.pop()
    await keeping.it.look()
    assert keeping.it.caches is not None
    assert list(keeping.it.caches.urls) == ["harbour"]
    names = {path.rpartition("/")[2] for path in kube.objects}
    assert "skerry-site-factory" not in names
    assert claim in kube.objects
    keeping.nodes.clear()
    await keeping.it.look()
    assert keeping.it.caches.urls == {}
    assert "skerry-site-harbour" not in {path.rpartition("/")[2] for path in kube.objects}


async def test_what_somebody_changed_without_our_digest_is_put_right(
    keeping: Keeping, kube: FakeKube
) -> None:
    keeping.gateway("n1", "harbour")
    await keeping.it.look()
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/statefulsets/skerry-site-harbour"
    kube.put(path, {"metadata": {"name": "skerry-site-harbour"}, "spec": {"replicas": 0}})
    await keeping.it.look()
    assert kube.objects[path]["spec"]["replicas"] == 1


def owners(kube: FakeKube) -> list[str]:
    """Return the uids of what the caches go with."""
    made = [body for path, body in kube.objects.items() if "skerry-site-harbour" in path]
    assert len(made) == 3
    return sorted({one["uid"] for body in made for one in body["metadata"]["ownerReferences"]})


async def test_all_that_is_made_goes_with_the_object_of_the_chart_also_when_that_is_another(
    keeping: Keeping, kube: FakeKube
) -> None:
    keeping.gateway("n1", "harbour")
    await keeping.it.look()
    assert owners(kube) == ["owner-1"]
    kube.put(OWNER, {"metadata": {"name": "caches", "uid": "owner-2"}})  # made again by hand
    await keeping.it.look()
    assert owners(kube) == ["owner-2"]


async def test_while_the_feature_is_being_switched_off_nothing_is_made_again(
    keeping: Keeping, kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    keeping.gateway("n1", "harbour")
    await keeping.it.look()
    del kube.objects[OWNER]
    for path in [path for path in kube.objects if "skerry-site-harbour" in path]:
        del kube.objects[path]  # as the garbage collector does
    await keeping.it.look()
    assert not [path for path in kube.objects if "skerry-site-harbour" in path]
    assert "the site caches are not as they ought to be" in caplog.text


async def test_a_server_that_refuses_is_told_once_and_asked_again(
    keeping: Keeping, kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    keeping.gateway("n1", "harbour")
    kube.script("POST secrets", *(Answer(403, {"reason": "Forbidden"}) for _ in range(2)))
    await keeping.it.look()
    await keeping.it.look()
    told = [one for one in caplog.records if "site caches are not" in one.message]
    assert len(told) == 1
    await keeping.it.look()
    assert SECRET in kube.objects


async def test_without_the_setting_nothing_is_asked(
    client: KubeClient, kube: FakeKube, tmp_path: Path
) -> None:
    found = Keeping(client, tmp_path, is_on=False)
    found.gateway("n1", "harbour")
    await found.it.look()
    assert kube.requests == []
    assert found.it.caches is not None
    found.threads.close()
