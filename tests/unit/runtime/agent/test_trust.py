"""Whole agents in whose namespace, or for whose models, somebody has to vouch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from documents import with_model
from keypair import KeyPair, keypair
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import RequiredSignature, RevisionContent, TrustPolicy
from skerry_runtime.trust.signing import sign_model
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, sha256

MODEL, OTHER = classifier(), classifier(features=5)


@dataclass(frozen=True)
class Signer:
    """Puts models and their signatures on a server."""

    source: Source
    pair: KeyPair
    stranger: KeyPair

    def put(self, name: str, model: bytes = MODEL, by: KeyPair | None = None) -> RevisionContent:
        """Return a model that is signed, by the stranger or by nobody where `by` says so."""
        self.sign(name, model, by or self.pair)
        return self.unsigned(name, model)

    def sign(self, name: str, model: bytes, by: KeyPair) -> None:
        bundle = sign_model({name: sha256(model)}, by.private.read_bytes())
        self.source.add(f"{name}.sig", bundle)

    def unsigned(self, name: str, model: bytes = MODEL) -> RevisionContent:
        return content(model, self.source.add(name, model))

    def asked(self, name: str) -> int:
        return sum(request.path == f"/{name}" for request in self.source.requests)


@pytest.fixture
def signer(source: Source, tmp_path: Path) -> Signer:
    return Signer(source, keypair(tmp_path), keypair(tmp_path, name="stranger"))


def pod(root: Path) -> Pod:
    return Pod(root, OnnxBackend(), FAST)


def wants(found: RevisionContent, *pairs: KeyPair, uri: str | None = None) -> RevisionContent:
    """Return the revision with a model that one of these keys has to vouch for."""
    keys = tuple(pair.pem for pair in pairs)
    return with_model(found, signature=RequiredSignature(public_keys=keys, uri=uri))


def policy(*pairs: KeyPair, revoked: tuple[str, ...] = ()) -> TrustPolicy:
    return TrustPolicy(public_keys=tuple(pair.pem for pair in pairs), revoked=revoked)


def signed_by(pod: Pod) -> str | None:
    serving = pod.status.serving
    return serving.model.signed_by if serving else None


async def refusal(pod: Pod, revision: str = "v1") -> tuple[str, str]:
    progress = (await pod.until_failed(revision)).progress
    assert progress is not None
    assert progress.reason is not None
    return str(progress.reason), progress.message


async def test_a_signed_model_serves_and_tells_whose_key_vouched(
    tmp_path: Path, signer: Signer
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": wants(signer.put("a.onnx"), signer.stranger, signer.pair)})
        await one.until_serving("v1")
        assert signed_by(one) == signer.pair.fingerprint


async def test_a_model_that_nobody_has_to_vouch_for_asks_for_no_signature(
    tmp_path: Path, signer: Signer
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": signer.put("a.onnx")})
        await one.until_serving("v1")
        assert signed_by(one) is None
        assert signer.asked("a.onnx.sig") == 0


async def test_a_foreign_key_is_refused_before_an_engine_sees_the_model(
    tmp_path: Path, signer: Signer
) -> None:
    async with pod(tmp_path) as one:
        found = wants(signer.put("a.onnx", b"no model at all", signer.stranger), signer.pair)
        one.mount.assign("v1", {"v1": found})
        reason, message = await refusal(one)
        assert reason == "InvalidModel"  # by its first bytes: no engine
        found = wants(signer.put("b.onnx", MODEL, signer.stranger), signer.pair)
        one.mount.assign("v2", {"v2": found})
        reason, message = await refusal(one, "v2")
        assert reason == "SignatureInvalid"
        assert "not signed by the key that counts here" in message


async def test_a_missing_signature_is_a_fetch_that_failed_and_serves_when_it_comes(
    tmp_path: Path, signer: Signer
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": wants(signer.unsigned("a.onnx"), signer.pair)})
        reason, message = await refusal(one)
        assert reason == "FetchFailed"
        assert message.startswith("the model's signature: GET http://127.0.0.1")
        assert message.endswith("a.onnx.sig: HTTP 404")
        signer.sign("a.onnx", MODEL, signer.pair)
        await one.until_serving("v1")
        assert signer.asked("a.onnx") == 1  # the file was there all the time


async def test_the_bundle_of_another_model_is_refused(tmp_path: Path, signer: Signer) -> None:
    async with pod(tmp_path) as one:
        found = wants(signer.put("a.onnx"), signer.pair)
        signer.sign("a.onnx", OTHER, signer.pair)
        one.mount.assign("v1", {"v1": found})
        reason, message = await refusal(one)
        assert reason == "SignatureInvalid"
        assert "another model" in message


async def test_a_wrong_bundle_that_is_put_right_is_taken_later(
    tmp_path: Path, signer: Signer
) -> None:
    async with pod(tmp_path) as one:
        found = wants(signer.put("a.onnx", by=signer.stranger), signer.pair)
        one.mount.assign("v1", {"v1": found})
        await one.until_failed("v1")
        signer.sign("a.onnx", MODEL, signer.pair)
        await one.until_serving("v1")


async def test_the_bundle_may_lie_elsewhere(tmp_path: Path, signer: Signer) -> None:
    signer.sign("signatures/a", MODEL, signer.pair)
    found = wants(
        signer.unsigned("a.onnx"), signer.pair, uri=f"{signer.source.url}/signatures/a.sig"
    )
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": found})
        await one.until_serving("v1")


async def test_a_bundle_without_an_end_is_refused(tmp_path: Path, signer: Signer) -> None:
    found = wants(signer.put("a.onnx"), signer.pair)
    signer.source.add("a.onnx.sig", b" " * (1024 * 1024 + 1))
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": found})
        reason, message = await refusal(one)
        assert reason == "SignatureInvalid"
        assert "which no bundle is" in message


async def test_a_server_that_is_away_for_the_bundle_is_asked_again(
    tmp_path: Path, signer: Signer
) -> None:
    found = wants(signer.put("a.onnx"), signer.pair)
    answers = iter([503, 503])

    async def answer(request: web.Request) -> web.StreamResponse:
        status = next(answers, 200)
        return web.Response(status=status, body=signer.source.files["a.onnx.sig"])

    signer.source.handle("a.onnx.sig", answer)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": found})
        await one.until_serving("v1")
        assert next(answers, None) is None


async def test_what_was_verified_starts_again_without_its_source(
    tmp_path: Path, signer: Signer
) -> None:
    contents = {"v1": wants(signer.put("a.onnx"), signer.pair)}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
    signer.source.files.clear()
    async with pod(tmp_path) as one:
        await one.until_serving("v1")
        assert signed_by(one) == signer.pair.fingerprint


async def test_a_bundle_of_known_sha256_is_kept_as_the_files_are(
    tmp_path: Path, signer: Signer
) -> None:
    found = wants(signer.put("a.onnx"), signer.pair)
    bundle = signer.source.files["a.onnx.sig"]
    signature = found.model.signature
    assert signature is not None
    pinned = signature.model_copy(update={"sha256": sha256(bundle)})
    contents = {"v1": with_model(found, signature=pinned)}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        assert signed_by(one) == signer.pair.fingerprint
    signer.source.files.clear()
    for manifest in (one.slots_dir / "revisions").iterdir():
        manifest.unlink()  # as when the files came from the site's cache: nothing is remembered
    async with pod(tmp_path) as one:
        await one.until_serving("v1")
        assert signed_by(one) == signer.pair.fingerprint
        changed = signature.model_copy(update={"sha256": "0" * 64})
        one.mount.assign("v2", {"v2": with_model(found, signature=changed)})
        assert (await refusal(one, "v2"))[0] == "FetchFailed"


async def test_in_a_namespace_with_a_policy_nothing_unsigned_serves(
    tmp_path: Path, signer: Signer
) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": signer.unsigned("a.onnx")}, trust=policy(signer.pair))
        assert (await refusal(one))[0] == "FetchFailed"
        assert one.revision is None


async def test_a_models_own_keys_do_not_add_to_a_policy(tmp_path: Path, signer: Signer) -> None:
    async with pod(tmp_path) as one:
        found = wants(signer.put("a.onnx", by=signer.stranger), signer.stranger)
        one.mount.assign("v1", {"v1": found}, trust=policy(signer.pair))
        assert (await refusal(one))[0] == "SignatureInvalid"
        one.mount.assign("v2", {"v2": signer.put("b.onnx")}, trust=policy(signer.pair))
        await one.until_serving("v2")


async def test_a_policy_without_keys_lets_nothing_serve(tmp_path: Path, signer: Signer) -> None:
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": signer.put("a.onnx")}, trust=policy())
        reason, message = await refusal(one)
        assert reason == "SignatureInvalid"
        assert "no key counts here" in message


async def test_a_key_that_leaves_the_policy_takes_nothing_away_and_lets_nothing_new_in(
    tmp_path: Path, signer: Signer
) -> None:
    first, second = signer.put("a.onnx"), signer.put("b.onnx", OTHER)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", {"v1": first}, trust=policy(signer.pair))
        await one.until_serving("v1")
        one.mount.assign("v1", {"v1": first}, trust=policy(signer.stranger))
        await one.until(lambda s: s.assignment is not None)
    async with pod(tmp_path) as one:  # as after a reboot
        await one.until_serving("v1")
        assert signed_by(one) == signer.pair.fingerprint
        one.mount.assign("v2", {"v1": first, "v2": second}, trust=policy(signer.stranger))
        assert (await refusal(one, "v2"))[0] == "SignatureInvalid"
        assert one.revision == "v1"
        one.mount.assign(
            "v2", {"v1": first, "v2": second}, trust=policy(signer.stranger, signer.pair)
        )
        await one.until_serving("v2")  # what was refused by the old policy is tried at once


async def test_a_rotated_key_in_mid_rollout_lets_both_serve(tmp_path: Path, signer: Signer) -> None:
    first, second = signer.put("a.onnx"), signer.put("b.onnx", OTHER, signer.stranger)
    contents = {"v1": first, "v2": second}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents, trust=policy(signer.pair))
        await one.until_serving("v1")
        one.mount.assign("v2", contents, trust=policy(signer.pair, signer.stranger))
        await one.until_serving("v2")
        one.mount.assign(
            "v1", contents, trust=policy(signer.stranger)
        )  # taken back, by the old key
        await one.until_serving("v1")


async def test_a_revoked_key_takes_away_what_it_vouched_for(tmp_path: Path, signer: Signer) -> None:
    contents = {"v1": signer.put("a.onnx")}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents, trust=policy(signer.pair, signer.stranger))
        await one.until_serving("v1")
        revoked = policy(signer.pair, signer.stranger, revoked=(signer.pair.fingerprint,))
        one.mount.assign("v1", contents, trust=revoked)
        reason, _ = await refusal(one)
        assert reason == "SignatureInvalid"
        assert one.revision is None
        signer.sign("a.onnx", MODEL, signer.stranger)  # signed anew, by a key that counts
        await one.until_serving("v1")
        assert signed_by(one) == signer.stranger.fingerprint


async def test_a_new_policy_judges_what_serves_and_takes_away_what_is_unsigned(
    tmp_path: Path, signer: Signer
) -> None:
    contents = {"v1": signer.unsigned("a.onnx")}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, trust=policy(signer.pair))
        await one.until(lambda s: s.serving is None)
        assert (await refusal(one))[0] == "FetchFailed"


async def test_a_new_policy_leaves_what_is_signed_in_service(
    tmp_path: Path, signer: Signer
) -> None:
    contents = {"v1": signer.put("a.onnx")}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        since = (await one.until_serving("v1")).serving
        one.mount.assign("v1", contents, trust=policy(signer.pair))
        await one.until(lambda _: signed_by(one) == signer.pair.fingerprint)
        assert one.status.serving is not None
        assert since is not None
        assert one.status.serving.since == since.since  # it was never away


async def test_a_new_policy_waits_for_a_source_that_is_away_and_goes_on_serving(
    tmp_path: Path, signer: Signer
) -> None:
    contents = {"v1": signer.put("a.onnx")}
    is_away = True

    async def answer(request: web.Request) -> web.StreamResponse:
        if is_away:
            return web.Response(status=503)
        return web.Response(body=signer.source.files["a.onnx.sig"])

    signer.source.handle("a.onnx.sig", answer)
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, trust=policy(signer.pair))
        await one.until(lambda _: signer.asked("a.onnx.sig") > 2)
        assert one.revision == "v1"
        is_away = False
        await one.until(lambda _: signed_by(one) == signer.pair.fingerprint)


async def test_what_was_fetched_ahead_is_vouched_for_and_needs_no_source_at_its_step(
    tmp_path: Path, signer: Signer
) -> None:
    contents = {
        "v1": wants(signer.put("a.onnx"), signer.pair),
        "v2": wants(signer.put("b.onnx", OTHER), signer.pair),
    }
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        await one.until(lambda s: s.prefetch and s.prefetch.is_done)
        signer.source.files.clear()
        one.mount.assign("v2", contents)
        await one.until_serving("v2")
        assert signed_by(one) == signer.pair.fingerprint


async def test_what_is_fetched_ahead_and_not_vouched_for_is_a_note_and_no_failure(
    tmp_path: Path, signer: Signer
) -> None:
    contents = {
        "v1": wants(signer.put("a.onnx"), signer.pair),
        "v2": wants(signer.put("b.onnx", OTHER, signer.stranger), signer.pair),
    }
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
        one.mount.assign("v1", contents, prepare="v2")
        status = await one.until(lambda s: s.prefetch and s.prefetch.message)
        assert status.prefetch is not None
        assert "not signed by the key" in status.prefetch.message
        assert status.failures == ()
        assert one.revision == "v1"


async def test_a_damaged_slot_is_never_opened_after_a_restart(
    tmp_path: Path, signer: Signer
) -> None:
    contents = {"v1": wants(signer.put("a.onnx"), signer.pair)}
    async with pod(tmp_path) as one:
        one.mount.assign("v1", contents)
        await one.until_serving("v1")
    (slot,) = (one.slots_dir / "blobs").rglob("model.onnx")
    body = bytearray(slot.read_bytes())
    body[-1] ^= 1
    slot.write_bytes(bytes(body))
    before = signer.asked("a.onnx")
    async with pod(tmp_path) as one:
        await one.until_serving("v1")
    assert signer.asked("a.onnx") == before + 1
