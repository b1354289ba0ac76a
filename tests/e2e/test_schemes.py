"""One model out and back by every scheme, named by tag and by digest, with a login and without.

The way back finds everything off that the model came from.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from digits_demo import cluster
from e2e.conftest import HELM_WAITS, RELEASE
from e2e.guarded_server import GuardedServer
from e2e.lab import NODES, Lab
from e2e.test_offline import outside_down
from e2e.test_sources import (
    FOLDER,
    HTPASSWD,
    PASSWORD,
    USER,
    claim,
    registry,
    run_on_nodes,
    secret,
    uids,
)
from fetching import sha256_of
from local_s3 import KEY_ID, SECRET_KEY, running_s3
from skerry_runtime.agent.ports import Tuning
from sources.oras import Oras

__all__ = ["claim"]  # a fixture

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("settings_come_back")]
AT_ONCE = {"steps": [{"units": "100%", "soak": "1s"}]}
SETTLED_S = Tuning().settle_s + 1.0
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_tests"  # noqa: S105 (of a server of the tests' own)
BASIC = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
DOORS = {
    "": None,
    "/closed": BASIC,
    "/bucket": None,
    f"/edge/open/resolve/{COMMIT}": None,
    f"/edge/gated/resolve/{COMMIT}": f"Bearer {TOKEN}",
}
REGISTRIES = {
    "oci-tag": (":{version}", ""),
    "oci-digest": ("@{digest}", ""),
    "oci-tag-password": (":{version}", HTPASSWD),
    "oci-digest-password": ("@{digest}", HTPASSWD),
}
WAYS = ("http", "http-password", "s3", "s3-public", "hf", "hf-token", *REGISTRIES)


@dataclass(frozen=True)
class Way:
    """How models come, and how what they come from is switched off and on."""

    source: Callable[[str, str], dict[str, str]]
    """(trained model, version) -> where it is, its sha256, and the Secret for it."""
    off: Callable[[], object]
    on: Callable[[], object] = lambda: None


class Places:
    """Everything that models come from, each with the files of the trained ones."""

    def __init__(self, lab: Lab, files: Path, folder: Path) -> None:
        self._lab = lab
        self._files = files
        self._folder = folder
        self._running = ExitStack()
        host = lab.access.host_address
        self.web = self._running.enter_context(GuardedServer(files, host, DOORS))
        self._bucket = ExitStack()
        (folder / "s3").mkdir()
        self._s3 = self._bucket.enter_context(running_s3(folder / "s3", host))
        self._stops: dict[str, ExitStack] = {}
        self._registries = {name: self._registry(name, REGISTRIES[name][1]) for name in REGISTRIES}

    def _registry(self, name: str, users: str) -> Oras:
        self._stops[name] = ExitStack()
        starting = registry(self._folder / name, self._lab.access.host_address, users)
        return self._stops[name].enter_context(starting)

    def close(self) -> None:
        for one in (self._running, self._bucket, *self._stops.values()):
            one.close()

    @property
    def secrets(self) -> tuple[dict[str, Any], ...]:
        """Return one Secret for each kind of login."""
        hosts = dict.fromkeys(("", HTPASSWD), "")
        for name, (_, users) in REGISTRIES.items():
            hosts[users] += f"http://{self._registries[name].registry.address}\n"
        user = {"username": USER, "password": PASSWORD}
        keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        return (
            secret("plain", hosts=hosts[""], AWS_ENDPOINT_URL=self.web.url),
            secret("login", hosts=f"{hosts[HTPASSWD]}{self.web.url}", **user),
            secret("keys", AWS_ENDPOINT_URL=self._s3.url, **keys),
            secret("hub", hosts=self.web.url, token=TOKEN),
        )

    def way(self, name: str) -> Way:
        """Return one of WAYS."""
        if name in REGISTRIES:
            return Way(lambda *of: self._pushed(name, *of), self._stops[name].close)
        if name == "s3":
            return Way(self._put, self._bucket.close)
        return Way(lambda *of: self._served(name, *of), self._hang_up, self._answer)

    def _hang_up(self) -> None:
        self.web.is_off = True

    def _answer(self) -> None:
        self.web.is_off = False

    def _bytes(self, key: str, version: str) -> bytes:
        """Return a model that no disk has: what is known by its sha256 is fetched from nowhere."""
        # the last producer_version (field 3, text) of an ONNX file counts
        mark = b"\x1a" + bytes([len(version)]) + version.encode()
        return (self._files / self._lab.index.model(key).file.name).read_bytes() + mark

    def _put(self, key: str, version: str) -> dict[str, str]:
        body = self._bytes(key, version)
        uri = self._s3.put("models", f"{version}.onnx", body)
        return {"uri": uri, "sha256": sha256_of(body), "secret": "keys"}

    def _pushed(self, name: str, key: str, version: str) -> dict[str, str]:
        oras, (place, users) = self._registries[name], REGISTRIES[name]
        body = self._bytes(key, version)
        digest = oras.push(f"models/digits:{version}", {"model.onnx": body})
        named = place.format(version=version, digest=digest)
        uri = f"oci://{oras.registry.address}/models/digits{named}"
        return {"uri": uri, "sha256": sha256_of(body), "secret": "login" if users else "plain"}

    def _served(self, name: str, key: str, version: str) -> dict[str, str]:
        file, body = f"{version}.onnx", self._bytes(key, version)
        (self._files / file).write_bytes(body)
        found = {
            "http": {"uri": f"{self.web.url}/{file}"},
            "http-password": {"uri": f"{self.web.url}/closed/{file}", "secret": "login"},
            "s3-public": {"uri": f"s3://bucket/{file}", "secret": "plain"},
            "hf": {"uri": f"hf://edge/open/{file}@{COMMIT}"},
            "hf-token": {"uri": f"hf://edge/gated/{file}@{COMMIT}", "secret": "hub"},
        }[name]
        return {**found, "sha256": sha256_of(body)}


@pytest.fixture(scope="module")
def places(
    lab: Lab,
    files: Path,
    settings_come_back: None,
    helm: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Places]:
    """All of them; the chart names the mirror of Hugging Face."""
    del settings_come_back
    found = Places(lab, files, tmp_path_factory.mktemp("places"))
    try:
        command = [*helm, "upgrade", RELEASE, str(cluster.CHART), "--reuse-values"]
        value = f"--set-string=fetch.hfEndpoint={found.web.url}"
        subprocess.run([*command, value, *HELM_WAITS], check=True)
        lab.apply(*found.secrets)
        yield found
    finally:
        found.close()


def model(lab: Lab, way: Way, key: str, version: str) -> dict[str, Any]:
    """Return an EdgeModel whose file comes this way."""
    told = way.source(key, version)
    source: dict[str, Any] = {"uri": told["uri"], "sha256": told["sha256"]}
    if "secret" in told:
        source["secretRef"] = {"name": told["secret"]}
    return lab.model(key, version, source=source)


def has_settled(lab: Lab) -> bool:
    """Tell whether every pod counts what it serves as good, so that it stays on its disk."""
    served = [
        report.now - report.serving.since for report in lab.reports().values() if report.serving
    ]
    return len(served) == len(NODES) and min(served) > SETTLED_S


def goes_and_comes_back(lab: Lab, way: Way, name: str) -> None:
    """Roll a version out and take it back with everything off that it came from."""
    old, new = (f"{number}.0.0-{name}" for number in (1, 2))
    lab.apply(before := model(lab, way, "v1", old), lab.deployment(AT_ONCE))
    lab.wait_stable(old)
    lab.wait(lambda: has_settled(lab), "what serves counts as good: it is kept")
    lab.apply(model(lab, way, "v2", new))
    lab.wait_stable(new)
    assert lab.versions() == dict.fromkeys(NODES, new)
    pods = uids(lab)
    way.off()
    try:
        with outside_down(lab):
            lab.apply(before)
            lab.wait_stable(old)
            assert lab.versions() == dict.fromkeys(NODES, old)
    finally:
        way.on()
    assert uids(lab) == pods


@pytest.mark.parametrize("name", WAYS)
def test_a_model_goes_out_and_comes_back_with_its_source_off(
    lab: Lab, places: Places, name: str
) -> None:
    goes_and_comes_back(lab, places.way(name), name)
    story = lab.story()
    assert TOKEN not in story
    assert PASSWORD not in story


def test_a_model_of_a_volume_goes_out_and_comes_back_with_the_volume_empty(
    lab: Lab, images: dict[str, str], claim: str
) -> None:
    def source(key: str, _: str) -> dict[str, str]:
        file = lab.index.model(key).file
        return {"uri": f"pvc://{claim}/{file.name}", "sha256": file.sha256}

    empty = f"import pathlib; [one.unlink() for one in pathlib.Path({FOLDER!r}).iterdir()]"
    way = Way(source, lambda: run_on_nodes(lab, images["runtime"], empty))
    goes_and_comes_back(lab, way, "pvc")
