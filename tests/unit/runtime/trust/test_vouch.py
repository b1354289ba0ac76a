"""What a signature bundle vouches for, and all that it does not."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keypair import KeyPair, keypair
from model_signing import in_cosigns_form, sign, verifies
from skerry_runtime.trust import signing
from skerry_runtime.trust.bundle import STATEMENT_MEDIA_TYPE, encoded
from skerry_runtime.trust.keys import MAX_KEYS, BadKey, public_key, public_keys
from skerry_runtime.trust.signing import sign_model
from skerry_runtime.trust.vouch import Files, NotVouched, vouching_key

MODEL = bytes(range(256)) * 20
WEIGHTS = MODEL[::-1]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def files(main: bytes = MODEL, **beside: bytes) -> Files:
    def hash_again(algorithm: str) -> bytes:
        return hashlib.new(algorithm, main).digest()

    others = {name.replace("_", "."): sha256(body) for name, body in beside.items()}
    return Files(sha256(main), others, hash_again)


@dataclass(frozen=True)
class Signed:
    pair: KeyPair
    folder: Path
    one: bytes
    """Vouches for the model of one file."""
    two: bytes
    """Vouches for the model and its weights."""


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    folder = tmp_path_factory.mktemp("signed")
    pair, model = keypair(folder), folder / "model"
    model.mkdir()
    (model / "digits.onnx").write_bytes(MODEL)
    one = sign(model / "digits.onnx", pair.private, folder / "one.sig")
    (model / "w.bin").write_bytes(WEIGHTS)
    return Signed(pair, folder, one, sign(model, pair.private, folder / "two.sig"))


def refusal(bundle: bytes, pair: KeyPair, what: Files) -> str:
    with pytest.raises(NotVouched) as caught:
        vouching_key(bundle, public_keys([pair.pem]), what)
    return str(caught.value)


def test_a_bundle_of_model_signing_vouches_for_one_file_and_for_several(signed: Signed) -> None:
    keys = public_keys([signed.pair.pem])
    assert vouching_key(signed.one, keys, files()) == signed.pair.fingerprint
    assert vouching_key(signed.two, keys, files(w_bin=WEIGHTS)) == signed.pair.fingerprint


@pytest.mark.parametrize("kind", ["P-384", "P-521"])
def test_larger_curves_of_model_signing_vouch_as_well(tmp_path: Path, kind: str) -> None:
    pair, model = keypair(tmp_path, kind), tmp_path / "model.onnx"
    model.write_bytes(MODEL)
    bundle = sign(model, pair.private, tmp_path / "sig")
    assert vouching_key(bundle, public_keys([pair.pem]), files()) == pair.fingerprint


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
def test_model_signing_takes_what_we_sign(tmp_path: Path, kind: str) -> None:
    pair, model = keypair(tmp_path, kind), tmp_path / "model"
    model.mkdir()
    (model / "a.onnx").write_bytes(MODEL)
    (model / "w.bin").write_bytes(WEIGHTS)
    named = {"a.onnx": sha256(MODEL), "w.bin": sha256(WEIGHTS)}
    (tmp_path / "sig").write_bytes(sign_model(named, pair.private.read_bytes()))
    assert verifies(model, pair.public, tmp_path / "sig")
    (model / "w.bin").write_bytes(MODEL)
    assert not verifies(model, pair.public, tmp_path / "sig")


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519"])
def test_what_we_sign_vouches_with_every_kind_of_key(tmp_path: Path, kind: str) -> None:
    pair = keypair(tmp_path, kind)
    bundle = sign_model({"digits.onnx": sha256(MODEL)}, pair.private.read_bytes())
    assert vouching_key(bundle, public_keys([pair.pem]), files()) == pair.fingerprint
    assert "another model" in refusal(bundle, pair, files(WEIGHTS))


@pytest.mark.parametrize(
    ("kind", "hashed"),
    [("P-256", "sha256"), ("P-384", "sha256"), ("P-384", "sha384"), ("P-521", "sha512")],
)
def test_a_bundle_in_cosigns_form_vouches_for_its_file_alone(
    tmp_path: Path, kind: str, hashed: str
) -> None:
    pair, model = keypair(tmp_path, kind), tmp_path / "model.onnx"
    model.write_bytes(MODEL)
    bundle = in_cosigns_form(model, pair.private, hashed)
    assert vouching_key(bundle, public_keys([pair.pem]), files()) == pair.fingerprint
    assert "another file" in refusal(bundle, pair, files(WEIGHTS))
    assert "the model has several" in refusal(bundle, pair, files(w_bin=WEIGHTS))
    other = keypair(tmp_path, kind, "other")
    assert "not signed by the key" in refusal(bundle, other, files())


def test_a_byte_of_the_model_changed_anywhere_is_another_model(signed: Signed) -> None:
    for place in range(0, len(MODEL), len(MODEL) // 50):
        changed = bytearray(MODEL)
        changed[place] ^= 1
        assert "another model" in refusal(signed.one, signed.pair, files(bytes(changed)))


@pytest.mark.parametrize("form", ["model-signing", "cosign"])
def test_a_byte_changed_in_what_counts_of_a_bundle_vouches_for_nothing(
    tmp_path: Path, signed: Signed, form: str
) -> None:
    (tmp_path / "model").write_bytes(MODEL)
    bundle = signed.one
    if form == "cosign":
        bundle = in_cosigns_form(tmp_path / "model", signed.pair.private)
    document = json.loads(bundle)
    for text, put in _parts(document):
        body = base64.b64decode(text)
        for place in range(0, len(body), max(1, len(body) // 50)):
            changed = bytearray(body)
            changed[place] ^= 1
            put(base64.b64encode(changed).decode())
            refusal(json.dumps(document).encode(), signed.pair, files())
        put(text)
    vouching_key(json.dumps(document).encode(), public_keys([signed.pair.pem]), files())


def _parts(document: dict[str, Any]) -> list[tuple[str, Callable[[str], None]]]:
    if "dsseEnvelope" in document:
        envelope = document["dsseEnvelope"]
        places = [(envelope, "payload"), (envelope["signatures"][0], "sig")]
    else:
        message = document["messageSignature"]
        places = [(message["messageDigest"], "digest"), (message, "signature")]
    return [
        (place[key], lambda text, place=place, key=key: place.__setitem__(key, text))
        for place, key in places
    ]


def test_no_byte_of_a_bundle_makes_it_vouch_for_another_model(signed: Signed) -> None:
    for place in range(0, len(signed.one), len(signed.one) // 50):
        changed = bytearray(signed.one)
        changed[place] ^= 1
        refusal(bytes(changed), signed.pair, files(WEIGHTS))


def test_a_bundle_that_ends_early_vouches_for_nothing(signed: Signed) -> None:
    for length in range(0, len(signed.one) - 1, 17):
        assert "no sigstore bundle" in refusal(signed.one[:length], signed.pair, files())


def test_the_bundle_of_another_model_is_refused(signed: Signed) -> None:
    assert "another model" in refusal(signed.one, signed.pair, files(WEIGHTS))


def test_a_foreign_key_is_refused_and_those_that_count_are_named(
    tmp_path: Path, signed: Signed
) -> None:
    other = keypair(tmp_path, name="other")
    told = refusal(signed.one, other, files())
    assert told == f"it was not signed by the key that counts here ({other.fingerprint[:12]})"


def test_no_key_at_all_vouches_for_nothing(signed: Signed) -> None:
    with pytest.raises(NotVouched, match="no key counts here"):
        vouching_key(signed.one, (), files())


def test_of_several_keys_the_one_that_signed_is_told(tmp_path: Path, signed: Signed) -> None:
    kinds = ["P-256", "Ed25519", "P-521"]
    others = [keypair(tmp_path, kind, kind).pem for kind in kinds]
    keys = public_keys([*others, signed.pair.pem])
    assert vouching_key(signed.one, keys, files()) == signed.pair.fingerprint


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (files(), "vouches for 2 files together, and the model has 1"),
        (files(other_bin=WEIGHTS), "other names, or another content"),
        (files(w_bin=MODEL), "other names, or another content"),
        (files(w_bin=WEIGHTS, x_bin=MODEL), "vouches for 2 files together, and the model has 3"),
        (files(WEIGHTS, w_bin=MODEL), "other names, or another content"),
    ],
)
def test_a_bundle_of_several_files_vouches_for_exactly_these(
    signed: Signed, what: Files, says: str
) -> None:
    assert says in refusal(signed.two, signed.pair, what)


def test_a_bundle_of_one_file_does_not_vouch_for_a_model_of_several(signed: Signed) -> None:
    told = refusal(signed.one, signed.pair, files(w_bin=WEIGHTS))
    assert "vouches for 1 files together, and the model has 2" in told


def test_files_in_a_folder_below_are_known_by_their_place_beside_the_first(tmp_path: Path) -> None:
    pair = keypair(tmp_path)
    named = {"onnx/a.onnx": sha256(MODEL), "onnx/data/w.bin": sha256(WEIGHTS)}
    bundle = sign_model(named, pair.private.read_bytes())
    what = Files(sha256(MODEL), {"data/w.bin": sha256(WEIGHTS)})
    assert vouching_key(bundle, public_keys([pair.pem]), what) == pair.fingerprint


def _resigned(pair: KeyPair, change: Callable[[dict[str, Any]], object], kind: str = "") -> bytes:
    """Return a bundle whose statement was changed before it was signed."""
    document = json.loads(sign_model({"a": sha256(MODEL)}, pair.private.read_bytes()))
    envelope = document["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload, kind = json.dumps(statement).encode(), kind or STATEMENT_MEDIA_TYPE
    key = signing._private(pair.private.read_bytes())
    signature = signing._signed(key, encoded(kind, payload))
    envelope |= {"payload": base64.b64encode(payload).decode(), "payloadType": kind}
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "slsa.dev/provenance"),
        (lambda s: s.update(predicateType=7), "predicateType"),
        (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "Statement/v0.1"),
        (lambda s: s.update(subject=[]), "subject"),
        (lambda s: s.update(subject=[{"digest": {"sha256": "00" * 32}}]), "its subject is not"),
        (lambda s: s["predicate"].update(resources=[]), "its subject is not"),
        (lambda s: s["predicate"].pop("resources"), "resources"),
        (
            lambda s: s["predicate"]["resources"][0].update(algorithm="sha256-sharded-1000000"),
            "parts of files",
        ),
        (lambda s: s["predicate"]["resources"][0].update(digest="xyz"), "a digest that is none"),
        (
            lambda s: s["predicate"].update(resources=s["predicate"]["resources"] * 1001),
            "resources",
        ),
    ],
)
def test_a_signed_statement_about_something_else_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    pair = keypair(tmp_path)
    assert says in refusal(_resigned(pair, change), pair, files())


def test_a_payload_of_another_type_is_refused(tmp_path: Path) -> None:
    pair = keypair(tmp_path)
    bundle = _resigned(pair, lambda _: None, "application/json")
    assert "no in-toto statement" in refusal(bundle, pair, files())


@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        (b"", "no JSON"),
        (b"{}", "with one dsseEnvelope or one messageSignature"),
        (b"[" * 100_000, "no JSON, or nested too deep"),
        (b'{"dsseEnvelope":' * 300 + b"1" + b"}" * 300, "nested too deep"),
        (b'{"dsseEnvelope": []}', "dsseEnvelope"),
        (b"\x80abc", "no JSON"),
        (b" " * (1024 * 1024 + 1), "larger than 1024 KiB"),
        (b'{"messageSignature": {"signature": "?", "messageDigest": {"digest": ""}}}', "base64"),
    ],
)
def test_what_is_no_bundle_is_refused(signed: Signed, bundle: bytes, says: str) -> None:
    assert says in refusal(bundle, signed.pair, files())


def test_more_signatures_than_are_looked_at_are_refused(signed: Signed) -> None:
    document = json.loads(signed.one)
    document["dsseEnvelope"]["signatures"] *= 9
    assert "signatures" in refusal(json.dumps(document).encode(), signed.pair, files())


def test_signatures_of_strangers_beside_ours_do_no_harm(signed: Signed) -> None:
    document = json.loads(signed.one)
    document["dsseEnvelope"]["signatures"].insert(0, {"sig": "AAAA"})
    bundle = json.dumps(document).encode()
    assert vouching_key(bundle, public_keys([signed.pair.pem]), files()) == signed.pair.fingerprint


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519"])
def test_the_fingerprint_is_the_one_that_openssl_prints(tmp_path: Path, kind: str) -> None:
    pair = keypair(tmp_path, kind)
    assert public_key(pair.pem).fingerprint == pair.fingerprint


def test_a_key_of_another_kind_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadKey, match=r"P-256, P-384, P-521 or Ed25519"):
        public_key(keypair(tmp_path, "RSA").pem)
    for text in ("", "key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(BadKey, match="no public key"):
            public_key(text)
    with pytest.raises(BadKey, match="at most"):
        public_key("x" * 5000)


def test_more_keys_than_are_tried_are_refused(tmp_path: Path) -> None:
    pems = [keypair(tmp_path, name=str(n)).pem for n in range(MAX_KEYS + 1)]
    with pytest.raises(BadKey, match="at most 8"):
        public_keys(pems)
    assert len(public_keys([*pems[:MAX_KEYS], pems[0]])) == MAX_KEYS


@pytest.mark.parametrize(
    ("pem", "says"),
    [(b"", "no private key"), (b"-----BEGIN PRIVATE KEY-----", "no private key")],
)
def test_who_signs_with_no_key_is_told_so(pem: bytes, says: str) -> None:
    with pytest.raises(BadKey, match=says):
        sign_model({"a": sha256(MODEL)}, pem)
