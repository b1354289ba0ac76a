"""`skerry sign`, `verify` and `seal`."""

from __future__ import annotations

import builtins
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from age import age_key, opens
from keypair import KeyPair, keypair
from model_signing import verifies
from skerry_operator.ctl.cli import main

Said = pytest.CaptureFixture[str]


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return keypair(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    place = tmp_path / "digits.onnx"
    place.write_bytes(b"a model " * 1000)
    return place


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "digits.onnx").write_bytes(b"a model")
    (folder / "data" / "w.bin").write_bytes(b"weights")
    return folder


def run(*argv: object) -> int:
    return main([str(one) for one in argv])


def test_what_was_signed_is_verified_and_the_key_told(
    model: Path, pair: KeyPair, capsys: Said
) -> None:
    assert run("sign", model, "--key", pair.private) == 0
    said = capsys.readouterr().out
    assert said == f"{model}.sig vouches for digits.onnx\nkey {pair.fingerprint}\n"
    assert run("verify", model, "--key", pair.public) == 0
    assert capsys.readouterr().out == said
    assert verifies(model, pair.public, Path(f"{model}.sig"))


def test_a_folder_is_signed_with_all_its_files_and_nothing_else(
    tmp_path: Path, pair: KeyPair, capsys: Said
) -> None:
    folder = folder_of(tmp_path)
    assert run("sign", folder, "--key", pair.private, "-o", "json") == 0
    assert list(json.loads(capsys.readouterr().out)["files"]) == ["data/w.bin", "digits.onnx"]
    assert run("verify", folder, "--key", pair.public, "--main", "digits.onnx") == 0
    (folder / "more").write_bytes(b"")
    assert run("verify", folder, "--key", pair.public, "--main", "digits.onnx") == 1
    assert "vouches for 2 files together, and the model has 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda model, pair, other: model.write_bytes(b"x"), "another model"),
        (lambda model, pair, other: pair.public.write_text(other.pem), "not signed by the key"),
        (lambda model, pair, other: pair.public.write_text("x"), "no public key"),
        (lambda model, pair, other: Path(f"{model}.sig").write_text("x"), "no sigstore bundle"),
        (lambda model, pair, other: Path(f"{model}.sig").unlink(), "No such file"),
        (lambda model, pair, other: model.unlink(), "No such file"),
    ],
)
def test_what_does_not_vouch_is_refused_in_one_line(
    tmp_path: Path, model: Path, pair: KeyPair, capsys: Said, change: Any, says: str
) -> None:
    run("sign", model, "--key", pair.private)
    change(model, pair, keypair(tmp_path, name="other"))
    capsys.readouterr()
    assert run("verify", model, "--key", pair.public) == 1
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_who_signs_with_what_is_no_key_is_told_and_leaves_no_file(
    model: Path, pair: KeyPair, capsys: Said
) -> None:
    assert run("sign", model, "--key", pair.public) == 1
    assert "no private key" in capsys.readouterr().err
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "digits.onnx",
        "key.pem",
        "key.pub",
    ]


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path, pair: KeyPair, capsys: Said) -> None:
    folder = folder_of(tmp_path)
    (folder / "link").symlink_to("/etc/hostname")
    assert run("sign", folder, "--key", pair.private) == 1
    assert "link is a link" in capsys.readouterr().err


def test_what_was_sealed_is_opened_by_age_and_its_sha256_told(
    tmp_path: Path, model: Path, capsys: Said
) -> None:
    key = age_key()
    assert run("seal", "-r", key.recipient, "-r", age_key().recipient, model, "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    sealed = Path(f"{model}.age").read_bytes()
    assert opens(sealed, key, tmp_path) == model.read_bytes()

    assert told == {"file": f"{model}.age", "sha256": hashlib.sha256(sealed).hexdigest()}


def test_a_recipient_that_is_none_is_told_and_leaves_no_file(model: Path, capsys: Said) -> None:
    assert run("seal", "-r", "age1abc", model) == 1
    assert "no recipient of age" in capsys.readouterr().err
    assert [path.name for path in model.parent.iterdir()] == ["digits.onnx"]


@pytest.mark.parametrize("verb", ["sign", "seal"])
def test_without_its_packages_a_command_says_what_to_install(
    model: Path, pair: KeyPair, capsys: Said, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    real = builtins.__import__

    def absent(name: str, *more: Any) -> Any:
        if name.startswith("skerry_runtime.trust"):
            raise ModuleNotFoundError("No module named 'cryptography'")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    argv = {"sign": ["--key", pair.private], "seal": ["-r", "age1abc"]}[verb]
    assert run(verb, model, *argv) == 1
    assert "pip install 'skerry[trust]'" in capsys.readouterr().err
