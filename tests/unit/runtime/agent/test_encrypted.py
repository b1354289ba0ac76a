"""Whole agents with encrypted models: what they serve, and where the plaintext never is."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from age import AgeKey, age, age_key
from documents import with_model
from keypair import keypair
from serving import tflite_models
from skerry_runtime.agent.contents import MemoryFile
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.backends.engines import FormatBackend
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import (
    Encryption,
    Format,
    ModelFile,
    RequiredSignature,
    RevisionContent,
)
from skerry_runtime.trust.signing import sign_model
from unit.runtime.agent import engines
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, sha256

KNOWN = "a text that is easy to find"


def model(features: int = 4) -> bytes:
    """A model in whose file a known text stands."""
    found = onnx.load_model_from_string(classifier(features=features))
    found.doc_string = KNOWN
    return found.SerializeToString()


@dataclass(frozen=True)
class Vault:
    """Puts encrypted models on a server, and the key where the kubelet would."""

    source: Source
    root: Path
    key: AgeKey

    @property
    def tuning(self) -> Tuning:
        return FAST.model_copy(update={"sources_dir": self.root / "secrets"})

    def hand(self, identity: str, name: str = "site-key") -> None:
        folder = self.root / "secrets" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "identity").write_text(identity)

    def put(self, name: str, body: bytes, sealed: bytes | None = None) -> RevisionContent:
        """Return a revision with an encrypted model; `sealed` is what is on the server for it."""
        sealed = age(body, self.key.recipient) if sealed is None else sealed
        found = content(sealed, self.source.add(name, sealed))
        return with_model(found, encryption=Encryption(secret="site-key"))  # noqa: S106 (a name)

    def pod(self) -> Pod:
        return Pod(self.root, FormatBackend(), self.tuning)


@pytest.fixture
def vault(source: Source, tmp_path: Path) -> Vault:
    found = Vault(source, tmp_path, age_key())
    found.hand(found.key.identity)
    return found


async def refusal(pod: Pod, revision: str = "v1") -> tuple[str, str]:
    progress = (await pod.until_failed(revision)).progress
    assert progress is not None
    return str(progress.reason), progress.message


def memory_files() -> list[str]:
    found = []
    for place in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(str(place.readlink()))
    return [name for name in found if name.startswith("/memfd:model")]


def holds(folder: Path, text: str) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes()]


async def test_an_encrypted_model_serves_and_the_slots_hold_no_word_of_it(vault: Vault) -> None:
    before = memory_files()
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": vault.put("a.age", model())})
        await one.until_serving("v1")
        with one.registry.acquire() as serving:
            assert serving.model.metadata.inputs[0].name == "x"
        assert holds(one.slots_dir, "age-encryption.org")
        assert holds(one.slots_dir, KNOWN) == []
        gc.collect()
        assert memory_files() == before  # the engine has its own copy: ours is given back


async def test_a_tflite_model_is_served_from_memory_as_well(vault: Vault) -> None:
    body = tflite_models.adder(vault.root / "m.tflite").read_bytes()  # keeps a state
    found = with_model(vault.put("a.age", body), format=Format.TFLITE)
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": found})
        await one.until_serving("v1")
        assert memory_files()  # it is mapped from there for as long as it serves
        with one.registry.acquire() as serving:
            spec = serving.model.metadata.inputs[0]
            ones = {spec.name: np.ones([max(1, axis) for axis in spec.shape], np.float32)}
            first = serving.model.infer(ones)
            second = serving.model.infer(ones)  # on a fresh state: opened again
        assert {k: v.tolist() for k, v in first.items()} == {
            k: v.tolist() for k, v in second.items()
        }


async def test_the_next_version_is_swapped_in_and_a_restart_needs_no_source(vault: Vault) -> None:
    contents = {"v1": vault.put("a.age", model()), "v2": vault.put("b.age", model(5))}
    async with vault.pod() as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v2", contents)
        await one.until_serving("v2")
    vault.source.files.clear()
    async with vault.pod() as one:
        await one.until_serving("v2")


async def test_the_signature_vouches_for_the_plaintext(vault: Vault, tmp_path: Path) -> None:
    pair, body = keypair(tmp_path), model()
    found = with_model(
        vault.put("a.age", body), signature=RequiredSignature(public_keys=(pair.pem,))
    )
    private = pair.private.read_bytes()
    vault.source.add("a.age.sig", sign_model({"a": found.model.files[0].sha256}, private))
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": found})
        reason, _ = await refusal(one)
        assert reason == "SignatureInvalid"  # of the encrypted file: that is not what runs
        vault.source.add("a.age.sig", sign_model({"a": sha256(body)}, private))
        status = await one.until_serving("v1")
        assert status.serving is not None
        assert status.serving.model.signed_by == pair.fingerprint


async def test_a_wrong_identity_is_a_readable_refusal_until_the_right_one_comes(
    vault: Vault,
) -> None:
    vault.hand(age_key().identity)
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": vault.put("a.age", model())})
        reason, message = await refusal(one)
        assert reason == "DecryptionFailed"
        assert "encrypted for other recipients than the key that keyRef names" in message
        vault.hand(vault.key.identity)
        await one.until_serving("v1")


async def test_a_missing_key_is_a_refusal_that_names_its_secret(vault: Vault) -> None:
    (vault.root / "secrets" / "site-key" / "identity").unlink()
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": vault.put("a.age", model())})
        reason, message = await refusal(one)
        assert reason == "DecryptionFailed"
        assert message.startswith("Secret site-key, key identity: it is not there")


@pytest.mark.parametrize("kind", ["cut off", "plain"])
async def test_a_file_that_cannot_be_decrypted_is_a_readable_refusal(
    vault: Vault, kind: str
) -> None:
    body, before = model(), memory_files()
    sealed = age(body, vault.key.recipient)[:-1] if kind == "cut off" else body
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": vault.put("a.age", body, sealed)})
        reason, message = await refusal(one)
        assert reason == "DecryptionFailed"
        assert {"cut off": "it is cut off", "plain": "no age file"}[kind] in message
        assert memory_files() == before


async def test_what_the_encrypted_file_holds_is_checked_like_any_other(vault: Vault) -> None:
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": vault.put("a.age", b"no model at all")})
        assert (await refusal(one))[0] == "InvalidModel"


async def test_an_engine_that_opens_files_only_is_told_before_anything_is_decrypted(
    vault: Vault,
) -> None:
    async with Pod(vault.root, engines.Crashing(), vault.tuning) as one:
        one.mount.assign("v1", {"v1": vault.put("a.age", model())})
        reason, message = await refusal(one)
        assert reason == "InvalidModel"
        assert "opens files only" in message


async def test_an_encrypted_model_of_several_files_is_told_to_be_one(vault: Vault) -> None:
    found = vault.put("a.age", model())
    other = ModelFile(path="w.bin", uri=vault.source.add("w.bin", b"w"), sha256=sha256(b"w"))
    found = with_model(found, files=(*found.model.files, other))
    async with vault.pod() as one:
        one.mount.assign("v1", {"v1": found})
        reason, message = await refusal(one)
        assert reason == "InvalidModel"
        assert "an encrypted model has one file" in message


async def test_the_plaintext_counts_as_memory_before_it_is_there(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with vault.pod() as one:
        monkeypatch.setattr(one.agent._host, "available_bytes", lambda: 1024)
        one.mount.assign("v1", {"v1": vault.put("a.age", model() * 100)})
        reason, message = await refusal(one)
        assert reason == "InsufficientMemory"
        assert message.startswith("decrypted it takes")


def test_a_file_in_memory_is_gone_with_its_owner() -> None:
    before = memory_files()
    one = MemoryFile()
    one.write(b"abc")
    assert one.path.read_bytes() == b"abc"
    assert len(memory_files()) == len(before) + 1
    del one
    gc.collect()
    assert memory_files() == before


def test_the_engines_of_this_process_say_that_they_read_memory() -> None:
    assert FormatBackend.reads_memory
    assert OnnxBackend.reads_memory
