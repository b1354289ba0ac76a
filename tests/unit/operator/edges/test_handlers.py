"""Which keys a change wakes; the watchdog; the sweep; the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kopf
import pytest

from fake_kube import FakeKube
from owned import controlled, workload
from skerry_operator import cli
from skerry_operator.constants import LABEL_DEPLOYMENT
from skerry_operator.handlers.change import Key
from skerry_operator.handlers.feed import SELECTOR, KindFeed
from skerry_operator.handlers.watch import build_feeds, build_registry, build_settings
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.read import pod_entry
from skerry_operator.kube.sweep import gone, list_existing
from skerry_operator.kube.tables import Cache
from skerry_operator.process.probes import Watchdog
from skerry_operator.settings import BadSettings, read_settings

Raw = dict[str, Any]


class World:
    """Feeds over a cache, with what they woke and where they saw a relist."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.woken: list[Key] = []
        self.relisted: list[str] = []
        self._version = 0
        feeds = build_feeds(self.cache, self.woken.append, self.relisted.append)
        self.feeds: dict[str, KindFeed[Any]] = {feed.kind: feed for feed in feeds}

    def raw(self, name: str, **fields: Any) -> Raw:
        self._version += 1
        metadata = {
            "name": name,
            "namespace": "edge",
            "uid": fields.pop("uid", f"uid-{name}"),
            "resourceVersion": str(self._version),
            **fields.pop("metadata", {}),
        }
        return {"metadata": metadata, **fields}

    async def tell(self, kind: str, raw: Raw, event: str | None = "MODIFIED") -> list[Key]:
        """Deliver an event as kopf does; return what it woke."""
        self.woken.clear()
        feed = self.feeds[kind]
        if event != "DELETED":
            await feed._index(kopf.Body(raw))
        await feed._event({"type": event, "object": raw})
        return list(self.woken)

    async def deployment(self, name: str, **placement: Any) -> list[Key]:
        spec = {"modelRef": {"name": "m"}, "placement": placement}
        return await self.tell("EdgeDeployment", self.raw(name, spec=spec))

    async def node(self, name: str, labels: Raw | None = None, **status: Any) -> list[Key]:
        raw = self.raw(name, metadata={"labels": labels or {}}, status=status)
        del raw["metadata"]["namespace"]
        return await self.tell("Node", raw)


@pytest.fixture
def world() -> World:
    return World()


def ed(name: str) -> Key:
    return ("EdgeDeployment", "edge", name)


async def test_a_deployment_wakes_itself_and_its_echo_nobody(world: World) -> None:
    assert await world.deployment("a") == [ed("a")]
    assert await world.deployment("a") == []


async def test_a_deleted_deployment_wakes_its_key_once_more_to_be_forgotten(world: World) -> None:
    await world.deployment("a")
    assert await world.tell("EdgeDeployment", world.raw("a"), "DELETED") == [ed("a")]
    assert world.cache.deployments.get(("edge", "a")) is None


async def test_a_model_wakes_itself_and_those_that_refer_to_it(world: World) -> None:
    await world.deployment("a")
    other = world.raw("b", spec={"modelRef": {"name": "other"}})
    await world.tell("EdgeDeployment", other)
    woken = await world.tell("EdgeModel", world.raw("m", spec={"version": "1"}))
    assert woken == [("EdgeModel", "edge", "m"), ed("a")]


async def test_a_node_wakes_those_that_select_it_or_did(world: World) -> None:
    await world.deployment("north", nodeSelector={"site": "north"})
    await world.deployment("south", nodeSelector={"site": "south"})
    await world.deployment("everywhere")
    assert await world.node("n", {"site": "north"}) == [ed("north"), ed("everywhere")]
    woken = await world.node("n", {"site": "south"})
    assert woken == [ed("north"), ed("south"), ed("everywhere")]


async def test_a_heartbeat_of_a_node_wakes_nobody(world: World) -> None:
    await world.deployment("everywhere")
    await world.node("n", conditions=[{"type": "Ready", "status": "True"}])
    beat = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "later"}]
    assert await world.node("n", conditions=beat, images=["x"]) == []
    down = [{"type": "Ready", "status": "Unknown"}]
    assert await world.node("n", conditions=down) == [ed("everywhere")]


async def test_a_node_wakes_those_that_have_a_pod_on_it_whatever_they_select_now(
    world: World,
) -> None:
    await world.deployment("north", nodeSelector={"site": "north"})
    await world.tell("DaemonSet", workload("maker", "north"))
    pod = world.raw("p", spec={"nodeName": "n"})
    await world.tell("Pod", controlled(pod, "maker"))
    assert await world.node("n", {"site": "south"}) == [ed("north")]


async def test_a_device_that_is_given_back_wakes_those_that_could_take_it(world: World) -> None:
    await world.node("n", {"site": "x"})
    await world.deployment("holder")
    await world.deployment("near", nodeSelector={"site": "x"})
    await world.deployment("far", nodeSelector={"site": "y"})
    await world.tell("DaemonSet", workload("maker", "holder"))
    limits = {"resources": {"limits": {"hailo.ai/h8": "1", "cpu": "1"}}}
    holding = controlled(world.raw("pod", spec={"nodeName": "n", "containers": [limits]}), "maker")
    assert await world.tell("Pod", holding) == [ed("holder")]
    assert set(await world.tell("Pod", holding, "DELETED")) == {ed("holder"), ed("near")}


async def test_a_pod_that_is_over_wakes_who_waits_for_its_device(world: World) -> None:
    await world.node("n", {"site": "x"})
    await world.deployment("near", nodeSelector={"site": "x"})
    await world.tell("DaemonSet", workload("maker", "holder"))
    spec = {"nodeName": "n", "containers": [{"resources": {"limits": {"hailo.ai/h8": "1"}}}]}
    for phase, woken in (("Running", []), ("Failed", [ed("near")]), ("Failed", [])):
        raw = world.raw("pod", spec=spec, status={"phase": phase})
        assert await world.tell("Pod", controlled(raw, "maker")) == woken


async def test_pods_of_strangers_that_come_and_go_wake_nobody(world: World) -> None:
    await world.node("n", {"site": "x"})
    await world.deployment("near", nodeSelector={"site": "x"})
    spec = {"nodeName": "n", "containers": [{"resources": {"limits": {"hailo.ai/h8": "1"}}}]}
    raw = world.raw("pod", metadata={"labels": {LABEL_DEPLOYMENT: "near"}}, spec=spec)
    assert await world.tell("Pod", raw) == []
    assert await world.tell("Pod", raw, "DELETED") == []


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "DaemonSet", "ReplicaSet", "Service", "ControllerRevision"]
)
async def test_a_generated_object_wakes_its_deployment_also_when_it_goes(
    world: World, kind: str
) -> None:
    await world.deployment("a")
    raw = world.raw("x", metadata={"labels": {LABEL_DEPLOYMENT: "a"}})
    assert await world.tell(kind, raw) == [ed("a")]
    assert await world.tell(kind, raw, "DELETED") == [ed("a")]


async def test_an_object_of_nobody_wakes_nobody(world: World) -> None:
    assert await world.tell("Pod", world.raw("x")) == []


async def test_the_first_list_is_no_relist_and_the_second_is(world: World) -> None:
    await world.tell("Pod", world.raw("x"), None)
    await world.tell("Pod", world.raw("y"), "ADDED")
    assert world.relisted == []
    await world.tell("Pod", world.raw("y"), None)
    assert world.relisted == ["Pod"]


def test_only_generated_kinds_are_filtered_by_the_server(world: World) -> None:
    selected = build_settings(world.feeds.values()).watching.label_selectors
    assert {str(value) for value in selected.values()} == {SELECTOR}
    assert len(selected) == 7


def test_kopf_is_told_to_write_nothing(world: World) -> None:
    settings = build_settings(world.feeds.values())
    assert not settings.posting.enabled
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert settings.queueing.worker_limit is None
    registry = build_registry(world.feeds.values(), Watchdog(60, lambda: 0).trace())
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()


def test_a_watch_that_is_not_renewed_is_a_problem_and_so_is_a_reconcile_without_end() -> None:
    oldest = 0.0
    watchdog = Watchdog(600, lambda: oldest)
    assert watchdog.problem(0) is None
    watchdog.begun("/api/v1/pods", 0)
    watchdog.begun("/api/v1/nodes", 500)
    assert watchdog.problem(600) is None
    assert "/api/v1/pods was not renewed for 601 s" in (watchdog.problem(601) or "")
    watchdog.begun("/api/v1/pods", 602)
    assert watchdog.problem(700) is None
    oldest = 601.0
    assert "a reconcile has not ended for 601 s" in (watchdog.problem(700) or "")


def test_a_sweep_finds_what_is_gone_and_spares_what_is_newer_than_the_list(
    kube: FakeKube, client: KubeClient
) -> None:
    cache = Cache()
    root = "/api/v1/namespaces/edge/pods"
    for name in ("stays", "goes"):
        cache.pods.seen(pod_entry(kube.put(f"{root}/{name}", {"metadata": {"name": name}})))
    del kube.objects[f"{root}/goes"]
    newer = {"metadata": {"name": "new", "uid": "new", "resourceVersion": "9999"}}
    cache.pods.seen(pod_entry(newer))
    existing = list_existing(client, "Pod", ["edge"], SELECTOR)
    assert [entry.key[1] for entry in gone(cache.pods, existing)] == ["goes"]
    assert kube.requests[-1].query["labelSelector"] == SELECTOR


def test_a_flag_goes_before_its_variable() -> None:
    environment = {"SKERRY_RUNTIME_IMAGE": "a", "SKERRY_WORKERS": "3"}
    settings = read_settings(environment, {"workers": "5"})
    assert (settings.runtime_image, settings.workers) == ("a", 5)


def test_namespaces_are_a_list_with_commas() -> None:
    settings = read_settings({"SKERRY_RUNTIME_IMAGE": "a", "SKERRY_NAMESPACES": "x, y,"}, {})
    assert settings.namespaces == ("x", "y")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "SKERRY_RUNTIME_IMAGE (or --runtime-image): field required"),
        ({"SKERRY_STATUS_ACCESS": "Magic"}, "should be 'PodIP' or 'Proxy'"),
        ({"SKERRY_WORKERS": "many"}, "SKERRY_WORKERS"),
        ({"SKERRY_PROFILES": "/no/such/file"}, "no such file"),
        ({"SKERRY_NAMESPACES": "Not_A_Name"}, "SKERRY_NAMESPACES"),
        ({"SKERRY_PROMETHEUS_URL": "prometheus:9090"}, "write http://HOST:PORT"),
        ({"SKERRY_PROMETHEUS_URL": "https://user:secret@a"}, "write no user"),
        (
            {"SKERRY_PROMETHEUS_URL": "http://a", "SKERRY_PROMETHEUS_TOKEN_FILE": __file__},
            "the token would go out in the clear",
        ),
        (
            {"SKERRY_PROMETHEUS_URL": "https://a", "SKERRY_PROMETHEUS_CA_FILE": "/no/such/file"},
            "SKERRY_PROMETHEUS_CA_FILE (or --prometheus-ca-file): value error, no such file",
        ),
    ],
    ids=[
        "missing",
        "not a choice",
        "not a number",
        "no file",
        "not a namespace",
        "an address without scheme",
        "an address with a password",
        "a token over plain http",
        "no certificates",
    ],
)
def test_a_wrong_setting_is_named_with_its_variable(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(BadSettings) as caught:
        read_settings(environment, {})
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_bad_profile_stops_the_start_with_its_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text("- {name: hailo, class: tpu}\n")
    status = cli.main(["run", "--runtime-image", "a", "--profiles", str(path)])
    assert status == cli.BAD_USAGE
    error = capsys.readouterr().err
    assert f"{path}: profile hailo: class: " in error
    assert "(got 'tpu'): write npu, gpu or cpu" in error


def test_an_own_profile_goes_before_the_built_in_ones(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text("- {name: my-npu, class: npu, resourceNames: [example.com/npu]}\n")
    profiles = cli.read_profiles(path)
    assert profiles[0].name == "my-npu"
    assert "cpu" in [profile.name for profile in profiles]


def test_nothing_of_an_object_is_copied_to_compare_it_with_later(world: World) -> None:
    base = build_settings(world.feeds.values()).persistence.diffbase_storage
    body = kopf.Body({"metadata": {"name": "a", "labels": {"b": "c"}}, "spec": {"d": [1] * 9}})
    patch = kopf.Patch()
    essence = base.build(body=body)
    base.store(body=body, patch=patch, essence=essence)
    assert (essence, base.fetch(body=body), dict(patch)) == ({}, None, {})
