"""Whose word counts on real pods, and what an encrypted model leaves on their disks: nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from age import age, age_key
from digits_demo import cluster
from e2e.conftest import HELM_WAITS, RELEASE
from e2e.lab import NODES, Lab
from e2e.test_offline import WITHOUT_DEVICE, outside_down, reboot, wait_restarted
from keypair import KeyPair, keypair
from model_signing import in_cosigns_form, sign
from skerry_runtime.contract import SLOTS_DIR

MIB = 1024 * 1024
AT_ONCE = {"steps": [{"units": "100%", "soak": "1s"}]}
_SEARCH = """
import pathlib, sys
wanted = bytes.fromhex(sys.argv[2])
files = [path for path in pathlib.Path(sys.argv[1]).rglob('*') if path.is_file()]
print(len(files), sum(wanted in path.read_bytes() for path in files))
"""


@dataclass(frozen=True)
class Signer:
    """Puts signatures, and encrypted models, beside the trained ones."""

    lab: Lab
    files: Path
    keys: Path

    def pair(self, name: str) -> KeyPair:
        return keypair(self.keys, name=name)

    def name(self, key: str) -> str:
        return self.lab.index.model(key).file.name

    def body(self, key: str) -> bytes:
        return (self.files / self.name(key)).read_bytes()

    def put(self, name: str, body: bytes) -> str:
        (self.files / name).write_bytes(body)
        return f"{self.lab.server.url}/{name}"

    def bundle(self, key: str, by: KeyPair, name: str) -> str:
        """Sign a trained model with OpenSSF's tool; return where the bundle is."""
        body = sign(self.files / self.name(key), by.private, self.keys / name)
        return self.put(name, body)

    def model(self, key: str, version: str, uri: str, *counting: KeyPair) -> dict[str, Any]:
        signature = {"uri": uri, "publicKeys": [pair.pem for pair in counting]}
        return self.lab.model(key, version, signature=signature)

    def padded(self, key: str, size: int) -> bytes:
        """Return a trained model that is larger."""
        model = onnx.load_model_from_string(self.body(key))
        entry = model.metadata_props.add()
        entry.key, entry.value = "padding", "x" * size
        return bytes(model.SerializeToString())

    def sealed(
        self, key: str, version: str, recipient: str, secret: str, plain: bytes = b""
    ) -> dict[str, Any]:
        """Return a trained model that was encrypted with the command line of age."""
        body = age(plain or self.body(key), recipient)
        uri = self.put(f"{version}.onnx.age", body)
        source = {"uri": uri, "sha256": hashlib.sha256(body).hexdigest()}
        encryption = {"keyRef": {"name": secret}}
        return self.lab.model(key, version, source=source, encryption=encryption)


@pytest.fixture(scope="module")
def signer(lab: Lab, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(lab, files, tmp_path_factory.mktemp("keys"))


def uids(lab: Lab) -> dict[str, str]:
    return {node: pod.uid for node, pod in lab.pods().items()}


def signers(lab: Lab) -> set[str]:
    """Whose keys vouched for what serves, as the status has it."""
    return {key for cell in lab.status().cells for key in cell.signed_by or ()}


def wait_signed_by(lab: Lab, *pairs: KeyPair) -> None:
    wanted = {pair.fingerprint for pair in pairs}
    lab.wait(lambda: signers(lab) == wanted, f"the status names {wanted}")


def found_in_slots(lab: Lab, wanted: bytes) -> int:
    """Return in how many files of all pods' slots some bytes are."""
    total = 0
    for pod in lab.pods().values():
        search = ("python3", "-c", _SEARCH, SLOTS_DIR, wanted.hex())
        count, hits = map(int, lab.kubectl("exec", pod.name, "--", *search).split())
        assert count > 0
        total += hits
    return total


def test_a_signed_model_serves_what_others_signed_is_taken_back_and_a_key_can_be_rotated(
    lab: Lab, signer: Signer
) -> None:
    first, second, stranger = (signer.pair(name) for name in ("first", "second", "stranger"))
    good = signer.bundle("v1", first, "good.sig")
    lab.apply(signer.model("v1", "1.0.0-signed", good, first), lab.deployment(AT_ONCE))
    lab.wait_stable("1.0.0-signed")
    wait_signed_by(lab, first)
    before = uids(lab)

    foreign = signer.bundle("v2", stranger, "foreign.sig")
    lab.apply(signer.model("v2", "2.0.0-foreign", foreign, first))
    lab.wait_rolled_back("2.0.0-foreign", "not signed by the key that counts here")
    lab.apply(signer.model("v2", "2.0.0-of-another", good, first))
    lab.wait_rolled_back("2.0.0-of-another", "vouches for another model")
    lab.apply(signer.model("v2", "2.0.0-unsigned", f"{good}.not-there", first))
    lab.wait_rolled_back("2.0.0-unsigned", "the model's signature: GET")
    assert lab.versions() == dict.fromkeys(NODES, "1.0.0-signed")

    rotated = signer.bundle("v2", second, "rotated.sig")
    lab.apply(signer.model("v2", "2.0.0-rotated", rotated, first, second))
    lab.wait_stable("2.0.0-rotated")
    wait_signed_by(lab, second)
    assert uids(lab) == before, "every one of these was swapped in place"
    lab.delete_deployment()


@pytest.mark.long
def test_a_bundle_of_cosigns_kind_vouches_as_well(lab: Lab, signer: Signer) -> None:
    pair = signer.pair("cosign")
    body = in_cosigns_form(signer.files / signer.name("v1"), pair.private)
    uri = signer.put("cosign.sig", body)
    lab.apply(signer.model("v1", "1.0.0-cosign", uri, pair), lab.deployment(AT_ONCE))
    lab.wait_stable("1.0.0-cosign")
    wait_signed_by(lab, pair)
    lab.delete_deployment()


def test_an_encrypted_model_serves_and_no_slot_holds_a_word_of_it(lab: Lab, signer: Signer) -> None:
    key, other = age_key(), age_key()
    for name, held in (("site-key", key), ("other-key", other)):
        text = {"identity": held.identity}
        lab.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": text}
        )
    model = signer.sealed("v1", "1.0.0-sealed", key.recipient, "site-key")
    lab.apply(model, lab.deployment(AT_ONCE))
    lab.wait_stable("1.0.0-sealed")
    assert lab.versions() == dict.fromkeys(NODES, "1.0.0-sealed")
    plain = signer.body("v1")
    assert found_in_slots(lab, b"age-encryption.org/v1\n") == len(NODES)
    for place in range(0, len(plain) - 64, max(1, len(plain) // 4)):
        assert found_in_slots(lab, plain[place : place + 64]) == 0

    lab.apply(signer.sealed("v2", "2.0.0-other", key.recipient, "other-key"))
    lab.wait_rolled_back("2.0.0-other", "encrypted for other recipients than the key that keyRef")
    assert lab.versions() == dict.fromkeys(NODES, "1.0.0-sealed")
    assert "AGE-SECRET-KEY" not in lab.story()
    lab.delete_deployment()


@pytest.mark.long
def test_a_node_that_reboots_with_the_line_down_serves_its_encrypted_model_again(
    lab: Lab, signer: Signer, cluster_command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    key = age_key()
    text = {"identity": key.identity}
    lab.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "boot-key"}, "stringData": text}
    )
    padded = signer.padded("v1", 16 * MIB)
    model = signer.sealed("v1", "1.0.0-boot", key.recipient, "boot-key", padded)
    lab.apply(model, lab.deployment(AT_ONCE))
    lab.wait_stable("1.0.0-boot")
    node = WITHOUT_DEVICE  # its pod, and so its disk, stay over a reboot
    before = lab.pods()[node]
    with outside_down(lab):
        began = time.monotonic()
        reboot(cluster_command, node)
        wait_restarted(lab, before)
        report = lab.wait_serves(node, "1.0.0-boot")
        took = time.monotonic() - began
    assert report.last_swap
    assert not report.last_swap.fetched
    assert report.serving
    memory = next(iter(report.serving.models.values())).memory
    with capsys.disabled():
        peak = (memory.peak_bytes or 0) / MIB if memory else 0.0
        rss = (report.rss_bytes or 0) / MIB
        print(  # noqa: T201 (for people)
            f"\n  an encrypted model of {len(padded) / MIB:.1f} MiB serves {took:.1f} s after the"
            f" reboot; its trial's peak {peak:.1f} MiB, the pod's resident {rss:.1f} MiB"
        )
    assert found_in_slots(lab, padded[:64]) == 0
    lab.delete_deployment()


@pytest.fixture
def policy(settings_come_back: None, helm: list[str], lab: Lab) -> Iterator[Any]:
    """Set the chart's policy for the lab's namespace."""

    def apply(pairs: Sequence[KeyPair], revoked: Sequence[str] = ()) -> None:
        entry = {"namespaces": [lab.namespace], "publicKeys": [pair.pem for pair in pairs]}
        told = {"signatures": [entry] if pairs else [], "revokedKeys": list(revoked)}
        command = [*helm, "upgrade", RELEASE, str(cluster.CHART), "--reuse-values"]
        subprocess.run(
            [*command, "--set-json", f"policy={json.dumps(told)}", *HELM_WAITS], check=True
        )

    yield apply
    apply(())


def test_a_namespace_with_a_policy_takes_nothing_unsigned_and_outlives_a_rotated_key(
    lab: Lab, signer: Signer, policy: Any
) -> None:
    first, second, tenants = (signer.pair(name) for name in ("policy", "next", "tenant"))
    policy([first])
    uri = signer.bundle("v1", tenants, "tenant.sig")
    lab.apply(signer.model("v1", "1.0.0-own", uri, tenants), lab.deployment(AT_ONCE))
    lab.wait(
        lambda: "not signed by the key that counts here" in lab.condition("Ready")[2],
        "a key of the tenant's own does not count",
    )
    assert set(lab.versions().values()) == {None}
    lab.delete_deployment()

    uri = signer.bundle("v1", first, "policy.sig")
    lab.apply(signer.model("v1", "1.0.0-policy", uri, tenants), lab.deployment(AT_ONCE))
    lab.wait_stable("1.0.0-policy")
    wait_signed_by(lab, first)
    before = uids(lab)

    policy([second])  # rotated: what passed stays, what is new needs the new key
    uri = signer.bundle("v2", first, "late.sig")
    lab.apply(signer.model("v2", "2.0.0-late", uri, tenants))
    lab.wait_rolled_back("2.0.0-late", "not signed by the key that counts here")
    assert lab.versions() == dict.fromkeys(NODES, "1.0.0-policy")
    uri = signer.bundle("v2", second, "next.sig")
    lab.apply(signer.model("v2", "2.0.0-next", uri, tenants))
    lab.wait_stable("2.0.0-next")
    assert uids(lab) == before

    policy([second], [second.fingerprint])
    lab.wait(
        lambda: all(version != "2.0.0-next" for version in lab.versions().values()),
        "what a revoked key vouched for serves no more",
    )
    lab.delete_deployment()
