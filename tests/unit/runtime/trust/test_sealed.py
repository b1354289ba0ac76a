"""Encrypted files: what the age command line writes, and what becomes of damage."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from age import AgeKey, age, age_key, opens
from skerry_runtime.trust.sealed import Undecryptable, decrypt, encrypt

BODY = bytes(range(256)) * 2048  # 512 KiB: eight chunks
CHUNK = 64 * 1024 + 16


@pytest.fixture(scope="module")
def key() -> AgeKey:
    return age_key()


def opened(sealed: bytes, identity: str) -> bytes:
    out = io.BytesIO()
    decrypt(io.BytesIO(sealed), out, identity.splitlines())
    return out.getvalue()


def refusal(sealed: bytes, identity: str) -> str:
    with pytest.raises(Undecryptable) as caught:
        opened(sealed, identity)
    return str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, len(BODY)])
def test_what_age_encrypts_is_decrypted(key: AgeKey, size: int) -> None:
    assert opened(age(BODY[:size], key.recipient), key.identity) == BODY[:size]


def test_what_we_encrypt_the_command_line_decrypts(key: AgeKey, tmp_path: Path) -> None:
    out = io.BytesIO()
    encrypt(io.BytesIO(BODY), out, [age_key().recipient, key.recipient])
    assert opens(out.getvalue(), key, tmp_path) == BODY
    assert BODY[:256] not in out.getvalue()


def test_one_of_several_identities_and_of_several_recipients_is_enough(key: AgeKey) -> None:
    other = age_key()
    sealed = age(BODY, other.recipient, key.recipient)
    assert opened(sealed, age_key().identity + key.identity) == BODY


def test_another_identity_is_told_so(key: AgeKey) -> None:
    told = refusal(age(BODY, key.recipient), age_key().identity)
    assert told == "it is encrypted for other recipients than the key that keyRef names"


def test_a_file_that_is_cut_off_is_refused_wherever_that_is(key: AgeKey) -> None:
    sealed = age(BODY, key.recipient)
    header = len(sealed) % CHUNK
    places = [header + CHUNK * n for n in range(len(BODY) // (64 * 1024))]  # between chunks
    for length in (*range(0, len(sealed), len(sealed) // 40), *places, len(sealed) - 1):
        assert refusal(sealed[:length], key.identity)


def test_chunks_in_another_order_are_refused(key: AgeKey) -> None:
    sealed = age(BODY, key.recipient)
    start = len(sealed) - (len(BODY) // (64 * 1024)) * CHUNK
    first, second = (sealed[start + n * CHUNK : start + (n + 1) * CHUNK] for n in (0, 1))
    swapped = sealed[:start] + second + first + sealed[start + 2 * CHUNK :]
    assert len(swapped) == len(sealed)
    assert "not in their order" in refusal(swapped, key.identity)
    doubled = sealed[:start] + first + first + sealed[start + 2 * CHUNK :]
    assert "not in their order" in refusal(doubled, key.identity)
    longer = sealed + first
    assert "not in their order" in refusal(longer, key.identity)


def test_a_byte_changed_anywhere_is_refused(key: AgeKey) -> None:
    sealed = age(BODY, key.recipient)
    for place in (*range(len(sealed) // 50, len(sealed), len(sealed) // 50), 30, 60, 120, 190):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert refusal(bytes(changed), key.identity)


@pytest.mark.parametrize(
    ("sealed", "says"),
    [
        (b"", "no age file"),
        (b"\x08\x09model", "no age file"),
        (b"age-encryption.org/v1\n", "header is cut off"),
        (b"age-encryption.org/v1\n-> X25519 " + b"A" * 200_000, "longer than is read"),
        (b"age-encryption.org/v1\n-> X25519 a\nb\n--- c\n", "header is damaged"),
    ],
)
def test_what_is_no_age_file_is_refused(key: AgeKey, sealed: bytes, says: str) -> None:
    assert says in refusal(sealed, key.identity)


def test_an_armored_file_is_refused_with_the_remedy(key: AgeKey) -> None:
    assert "without -a" in refusal(age(BODY, key.recipient, armor=True), key.identity)


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        ("", "no identity of age: it has a line"),
        ("# nothing\n", "no identity of age: it has a line"),
        ("ssh-ed25519 AAAA", "no identity of age: it has a line"),
        ("AGE-SECRET-KEY-1ABC", "mistyped or cut off"),
        ("AGE-SECRET-KEY-1ABC\n" * 9, "at most 8"),
    ],
)
def test_what_is_no_identity_is_refused_without_a_word_of_it(
    key: AgeKey, identity: str, says: str
) -> None:
    told = refusal(age(BODY, key.recipient), identity)
    assert says in told
    assert "AAAA" not in told
    assert "1ABC" not in told


@pytest.mark.parametrize("recipient", ["", "age1abc", "AGE-SECRET-KEY-1ABC", "ssh-ed25519 AAAA"])
def test_a_recipient_that_is_none_is_refused(recipient: str) -> None:
    with pytest.raises(Undecryptable, match="no recipient of age"):
        encrypt(io.BytesIO(BODY), io.BytesIO(), [recipient])
