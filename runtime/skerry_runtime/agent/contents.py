"""What an engine opens: the file in its slot, or what an encrypted one holds, in memory alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from skerry_runtime.agent.files import MEMORY_FILES, open_plain
from skerry_runtime.agent.goal import Goal
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.ports import MIB, Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.slots import Slots
from skerry_runtime.backends.base import Backend, ReadsMemory
from skerry_runtime.contract import Encryption, EncryptionFormat, FailureReason, size_text

MAX_KEY_BYTES = 16 * 1024
"""Largest identity file."""


class MemoryFile:
    """A file without a name, in memory; it is gone with this object."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("model")
        self._digest = hashlib.sha256()

    @property
    def path(self) -> Path:
        """Where this process, and a child that was handed the descriptor, find it."""
        return MEMORY_FILES / str(self.fd)

    @property
    def sha256(self) -> str:
        """Of all that was written."""
        return self._digest.hexdigest()

    def write(self, data: bytes, /) -> int:
        """Add to its end."""
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def close(self) -> None:
        """Give its memory back; a mapping keeps its own."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


@dataclass(frozen=True)
class OpenedModel:
    """What an engine opens."""

    path: Path
    sha256: str
    memory: MemoryFile | None = field(default=None)
    """Holds it, where it is no file in a slot."""

    @property
    def size(self) -> int:
        """Bytes of memory that it takes; 0: it lies on the disk."""
        return self.path.stat().st_size if self.memory else 0

    def hash_again(self, algorithm: str) -> bytes:
        """Return the digest by another algorithm."""
        digest = hashlib.new(algorithm)
        with open_plain(self.path) as file:
            while chunk := file.read(MIB):
                digest.update(chunk)
        return digest.digest()


@dataclass(frozen=True)
class Contents:
    """Opens models, for an engine that reads what they hold."""

    slots: Slots
    backend: Backend
    host: Host
    tuning: Tuning

    def of(self, goal: Goal) -> OpenedModel:
        """Return what an engine opens; an encrypted file is decrypted into memory.

        Raises:
            Refused: DecryptionFailed, InsufficientMemory; InvalidModel: it cannot be decrypted for
                this engine.
        """
        path, encryption = self.slots.path(goal.model_blob), goal.model.encryption
        if encryption is None:
            return OpenedModel(path, goal.sha256)
        self._require_readable(goal)
        if encryption.format is not EncryptionFormat.AGE:
            text = f"this runtime decrypts age, and no {encryption.format}"
            raise Refused(FailureReason.DECRYPTION_FAILED, text)
        identity = _identity(self.tuning.sources_dir, encryption)
        memory = MemoryFile()
        try:
            with open_plain(path) as sealed:
                _decrypt(sealed, memory, identity)
        except BaseException:
            memory.close()
            raise
        return OpenedModel(memory.path, memory.sha256, memory)

    def _require_readable(self, goal: Goal) -> None:
        """Check that an encrypted model is of one file, for an engine of this process, and fits."""
        if goal.blobs_beside:
            text = "an encrypted model has one file: pack its weights into it"
            raise Refused(FailureReason.INVALID_MODEL, text)
        if not isinstance(self.backend, ReadsMemory):
            text = (
                "the engine of this pod opens files only, and an encrypted model is never on the "
                "disk as it is: use ONNXRuntime or LiteRT, or a variant that is not encrypted"
            )
            raise Refused(FailureReason.INVALID_MODEL, text)
        size, available = self.slots.model_bytes(goal), self.host.available_bytes()
        if available is not None and size > available - self.tuning.memory_reserve_bytes:
            text = (
                f"decrypted it takes {size_text(size)}, and {size_text(available)} are available: "
                "raise the memory limit of the pod"
            )
            raise Refused(FailureReason.INSUFFICIENT_MEMORY, text)


def _decrypt(sealed: BinaryIO, memory: MemoryFile, identity: str) -> None:
    try:
        # Imported late: a pod without encrypted models does not pay for it.
        from skerry_runtime.trust.sealed import decrypt  # noqa: PLC0415

        decrypt(sealed, memory, identity.splitlines())
    except ImportError as err:
        text = "this runtime image has no pyrage to decrypt with: use the one of this version"
        raise Refused(FailureReason.DECRYPTION_FAILED, text) from err
    except MemoryError as err:
        text = "the decrypted model did not fit into memory: raise the memory limit of the pod"
        raise Refused(FailureReason.INSUFFICIENT_MEMORY, text) from err
    except ValueError as err:
        text = f"the encrypted file cannot be used: {err}"
        raise Refused(FailureReason.DECRYPTION_FAILED, text) from err


def _identity(keys: Path, encryption: Encryption) -> str:
    """Read the key anew for each use: what changes in a Secret counts at once."""
    where = f"Secret {encryption.secret}, key {encryption.key}"
    try:
        with (keys / encryption.secret / encryption.key).open("rb") as file:
            text = file.read(MAX_KEY_BYTES + 1)
    except OSError as err:
        why = f"{where}: it is not there: make it, or correct encryption.keyRef"
        raise Refused(FailureReason.DECRYPTION_FAILED, why) from err
    if len(text) > MAX_KEY_BYTES:
        raise Refused(FailureReason.DECRYPTION_FAILED, f"{where}: it is too large for a key")
    return text.decode(errors="replace")
