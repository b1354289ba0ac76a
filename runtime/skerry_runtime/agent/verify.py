"""Verifies files in the slots: the right bytes, a plain file, the format that is claimed."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import BinaryIO

from skerry_runtime.agent.files import NotPlain, open_plain
from skerry_runtime.agent.onnxfile import NotOnnx, check_outline
from skerry_runtime.agent.refusal import Corrupt, Refused
from skerry_runtime.contract import FailureReason, Format

_MARKS = {b"ORTM": Format.ORT, b"TFL3": Format.TFLITE}
"""How files of these formats begin: flatbuffers, with an identifier after the root's offset."""
_MARK_AT, _MARK_BYTES = 4, 4
_ARTICLES = {Format.ORT: "an", Format.TFLITE: "a"}
_CHUNK = 1024 * 1024
_READ = (Format.ONNX, Format.ORT, Format.TFLITE)

Signature = tuple[int, ...]


class Verifier:
    """Hashes a file once per process; again when anything about it changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Signature, str]] = {}

    def trust(self, path: Path, sha256: str) -> None:
        """Take the digest of a file that was hashed while it was written."""
        with open_plain(path) as file:
            self._remember(path, _signature(file), sha256)

    def check_digest(self, path: Path, sha256: str) -> None:
        """Check that the file holds the bytes with this digest.

        Raises:
            Corrupt: it does not, or is no plain file.
        """
        try:
            with open_plain(path) as file:
                found = self._digest(path, file)
        except (OSError, NotPlain) as err:
            raise Corrupt(str(err)) from err
        if found != sha256:
            raise Corrupt(f"{path.name} on disk has digest {found[:12]}, not {sha256[:12]}")

    def _digest(self, path: Path, file: BinaryIO) -> str:
        signature = _signature(file)
        known = self._known.get(path)
        if known and known[0] == signature:
            return known[1]
        digest = _sha256(file)
        self._remember(path, signature, digest)
        return digest

    def _remember(self, path: Path, signature: Signature, digest: str) -> None:
        """Note a digest, and forget those of files that are gone."""
        self._known = {known: value for known, value in self._known.items() if known.exists()}
        self._known[path] = (signature, digest)


def check_format(path: Path, claimed: Format) -> None:
    """Check by content that the file is what the spec claims.

    Raises:
        Refused: InvalidModel.
    """
    if claimed not in _READ:
        text = f"this runtime reads {', '.join(_READ)}, and no {claimed}"
        raise Refused(FailureReason.INVALID_MODEL, text)
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise Refused(FailureReason.INVALID_MODEL, "the model file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            _check_content(mapped, claimed)


def _check_content(mapped: mmap.mmap, claimed: Format) -> None:
    mark = mapped[_MARK_AT : _MARK_AT + _MARK_BYTES]
    found = _MARKS.get(mark)
    if found is not (claimed if claimed in _MARKS.values() else None):
        is_found = f"{_ARTICLES[found]} {found} file" if found else f"no {claimed} file"
        raise Refused(FailureReason.INVALID_MODEL, f"{claimed} is claimed, but this is {is_found}")
    if found is not None:
        return
    try:
        with memoryview(mapped) as content:
            check_outline(content)
    except NotOnnx as err:
        raise Refused(FailureReason.INVALID_MODEL, str(err)) from err


def _signature(file: BinaryIO) -> Signature:
    status = os.fstat(file.fileno())
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
