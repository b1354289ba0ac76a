"""`skerry sign`, `verify` and `seal`: signatures of models, and models for few eyes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from skerry_operator.ctl.answer import Answer, Declined
from skerry_operator.ctl.table import as_json

if TYPE_CHECKING:
    from skerry_runtime.trust.vouch import Files

SUFFIX = ".sig"
SEALED = ".age"
MAX_FILES = 64
MAX_BYTES = 1024 * 1024
"""Largest key or bundle that is read."""
_MISSING = "this needs packages that are not here: pip install 'skerry[trust]'"
_LEFT_OUT = (".git", ".gitattributes", ".gitignore", ".github")
"""What OpenSSF's model-signing leaves out of a folder, too."""


@dataclass(frozen=True)
class SignWish:
    """What is to be signed, with what."""

    model: str
    key: str
    out: str | None = None


@dataclass(frozen=True)
class VerifyWish:
    """What is to be verified."""

    model: str
    keys: tuple[str, ...]
    bundle: str | None = None
    main: str | None = None


@dataclass(frozen=True)
class SealWish:
    """What is to be encrypted, for whom."""

    file: str
    recipients: tuple[str, ...]
    out: str | None = None


def sign(wish: SignWish, *, json: bool) -> Answer:
    """Write a bundle that vouches for a file, or for all files of a folder.

    Raises:
        Declined: no such file, or no key that can sign.
    """
    model, out = Path(wish.model), Path(wish.out or f"{wish.model.rstrip('/')}{SUFFIX}")
    files = _hashes(model, leave_out=out)
    with _explained(wish.key):
        from skerry_runtime.trust.keys import of  # noqa: PLC0415 (an extra)
        from skerry_runtime.trust.signing import public_of, sign_model  # noqa: PLC0415 (an extra)

        private = _read(wish.key)
        bundle, fingerprint = sign_model(files, private), of(public_of(private)).fingerprint
    _write(out, bundle)
    told = {"bundle": str(out), "key": fingerprint, "files": files}
    return Answer(
        as_json(told) if json else f"{out} vouches for {_named(files)}\nkey {fingerprint}"
    )


def verify(wish: VerifyWish, *, json: bool) -> Answer:
    """Say whose key vouches for a file, or for all files of a folder.

    Raises:
        Declined: none does.
    """
    model = Path(wish.model)
    place = Path(wish.bundle or f"{wish.model.rstrip('/')}{SUFFIX}")
    files = _hashes(model, leave_out=place)
    bundle = _read(str(place))
    with _explained(str(place)):
        from skerry_runtime.trust.keys import public_keys  # noqa: PLC0415 (an extra)
        from skerry_runtime.trust.vouch import vouching_key  # noqa: PLC0415 (an extra)

        keys = public_keys([_read(key).decode(errors="replace") for key in wish.keys])
        key = vouching_key(bundle, keys, _as_model(files, model, wish.main))
    told = {"bundle": str(place), "key": key, "files": files}
    return Answer(as_json(told) if json else f"{place} vouches for {_named(files)}\nkey {key}")


def seal(wish: SealWish, *, json: bool) -> Answer:
    """Encrypt a file for whoever has the key of one of the recipients.

    Raises:
        Declined: no such file, or no recipient of age.
    """
    out = Path(wish.out or f"{wish.file}{SEALED}")
    try:
        with Path(wish.file).open("rb") as plain, _explained("--recipient"):
            from skerry_runtime.trust.sealed import encrypt  # noqa: PLC0415 (an extra)

            sealed = _Landing(out)
            with sealed:
                encrypt(plain, sealed, wish.recipients)
    except OSError as error:
        raise Declined(f"{error.filename or wish.file}: {error.strerror}") from error
    told = {"file": str(out), "sha256": sealed.sha256}
    return Answer(as_json(told) if json else f"{out}\nsha256 {sealed.sha256}")


class _Landing(io.RawIOBase):
    """Writes a file beside the final one, hashes it, and renames it when all went well."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._beside = path, path.with_name(f".{path.name}.part")
        self._file = self._beside.open("wb")
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @override
    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._digest.update(data)
        return self._file.write(data)

    @override
    def __exit__(self, kind: object, *more: object) -> None:
        self._file.close()
        if kind is None:
            self._beside.replace(self._path)
        else:
            self._beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(place: str) -> Iterator[None]:
    """Say what is missing, or wrong with what a place holds."""
    try:
        yield
    except ImportError as error:
        raise Declined(_MISSING) from error
    except ValueError as error:
        raise Declined(f"{place}: {error}") from error


def _as_model(files: Mapping[str, str], model: Path, main: str | None) -> Files:
    from skerry_runtime.trust.vouch import Files  # noqa: PLC0415 (an extra)

    first = main or next(iter(files))
    if first not in files:
        raise ValueError(f"{first} is none of its files: {', '.join(files)}")
    folder = Path(first).parent

    def hash_again(algorithm: str) -> bytes:
        with (model / first if model.is_dir() else model).open("rb") as file:
            return hashlib.file_digest(file, algorithm).digest()

    beside = {os.path.relpath(name, folder): d for name, d in files.items() if name != first}
    return Files(files[first], beside, hash_again)


def _hashes(model: Path, leave_out: Path) -> dict[str, str]:
    """Return the sha256 of a file, or of all files in a folder by their names in it.

    Raises:
        Declined: there is none, or what is no plain file.
    """
    try:
        found = _files(model, leave_out)
        return {name: _sha256(path) for name, path in sorted(found.items())}
    except OSError as error:
        raise Declined(f"{error.filename or model}: {error.strerror}") from error


def _files(model: Path, leave_out: Path) -> dict[str, Path]:
    if not model.is_dir():
        return {model.name: model}
    paths = [path for path in model.rglob("*") if not path.is_dir() or path.is_symlink()]
    named = {path.relative_to(model).as_posix(): path for path in paths if path != leave_out}
    found = {n: p for n, p in named.items() if n.partition("/")[0] not in _LEFT_OUT}
    if link := next((name for name, path in found.items() if path.is_symlink()), None):
        raise Declined(f"{model}/{link} is a link: put the file itself there")
    if not 0 < len(found) <= MAX_FILES:
        raise Declined(f"{model}: {len(found)} files: a model has 1 to {MAX_FILES}")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(place: str) -> bytes:
    """Read a key or a bundle.

    Raises:
        Declined: there is none, or what is far too large for one.
    """
    try:
        with Path(place).open("rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Declined(f"{place}: {error.strerror}") from error
    return found


def _write(path: Path, content: bytes) -> None:
    try:
        with _Landing(path) as out:
            out.write(content)
    except OSError as error:
        raise Declined(f"{path}: {error.strerror}") from error


def _named(files: Mapping[str, str]) -> str:
    names: Sequence[str] = list(files)
    return names[0] if len(names) == 1 else f"{len(names)} files"
