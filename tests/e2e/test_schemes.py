"""The same model from each of the five schemes, and back; from S3 and the hub with them away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from digits_demo import cluster
from e2e.conftest import HELM_WAITS, RELEASE
from e2e.hub_server import TOKEN, HubServer
from e2e.lab import NODES, Lab
from e2e.test_sources import Stores, claim, secret, stores, uids

__all__ = ["claim", "stores"]  # fixtures

pytestmark = pytest.mark.long
OLD = "1.0.0"
AT_ONCE = {"steps": [{"units": "100%", "soak": "1s"}]}


@pytest.fixture(scope="module")
def hub(lab: Lab, files: Path, settings_come_back: None, helm: list[str]) -> Iterator[HubServer]:
    """A mirror of Hugging Face on site, which the chart names."""
    del settings_come_back
    with HubServer(files, lab.access.host_address) as running:
        command = [*helm, "upgrade", RELEASE, str(cluster.CHART), "--reuse-values"]
        value = f"--set-string=fetch.hfEndpoint={running.url}"
        subprocess.run([*command, value, *HELM_WAITS], check=True)
        yield running


def goes_and_comes_back(lab: Lab, new: dict[str, Any], source: Any = None) -> bool:
    """Roll a version out and take it back with its source off; tell whether pods were kept."""
    version = str(new["spec"]["version"])
    lab.apply(new)
    lab.wait_stable(version)
    assert lab.versions() == dict.fromkeys(NODES, version)
    before = uids(lab)
    if source is not None:
        source.switch_off()
    lab.apply(lab.model("v1"))
    lab.wait_stable(OLD)
    assert lab.versions() == dict.fromkeys(NODES, OLD)
    return uids(lab) == before


def test_a_model_comes_from_every_scheme_and_the_way_back_needs_none(
    lab: Lab, stores: Stores, hub: HubServer, claim: str
) -> None:
    second = lab.index.model("v2").file
    keys = secret("hub", hosts=hub.url, token=TOKEN)
    lab.apply(stores.secret, keys, lab.model("v1"), lab.deployment(AT_ONCE))
    lab.wait_stable(OLD)
    # http, without credentials
    assert goes_and_comes_back(lab, lab.model("v2", "2.0.0-http"))
    # oci by tag, with a password; the Secret is new, so that these pods are, too
    closed = stores.in_registry(stores.closed, "v2", "2.0.0-oci", ":{version}")
    lab.apply(closed)
    lab.wait_stable("2.0.0-oci")
    lab.apply(lab.model("v1"))
    lab.wait_stable(OLD)
    # s3, and both stores are off before the way back
    assert goes_and_comes_back(lab, stores.in_bucket("v2", "2.0.0-s3"), stores)
    # hf, with a token
    source = {"uri": hub.uri(second.name), "sha256": second.sha256, "secretRef": {"name": "hub"}}
    lab.apply(lab.model("v2", "2.0.0-hf", source=source))
    lab.wait_stable("2.0.0-hf")
    assert lab.versions() == dict.fromkeys(NODES, "2.0.0-hf")
    hub.switch_off()
    lab.apply(lab.model("v1"))
    lab.wait_stable(OLD)
    # pvc: new pods
    volume = {"uri": f"pvc://{claim}/{second.name}", "sha256": second.sha256}
    goes_and_comes_back(lab, lab.model("v2", "2.0.0-pvc", source=volume))
    assert TOKEN not in lab.story()
