"""Reads the arrays of an .npz from a stranger: no pickle, no bomb, no more than it says."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from skerry_runtime.agent.files import NotPlain, open_plain
from skerry_runtime.agent.ports import MIB

MAX_BYTES = 256 * MIB
MAX_ARRAYS = 4096
"""Requests of different sizes have arrays of their own."""

Arrays = dict[str, npt.NDArray[np.generic]]


class BadArchive(Exception):  # noqa: N818 (says what the file is)
    """The file is no .npz that may be read; the text names the key where there is one."""


def read_npz(path: Path) -> Arrays:
    """Return every array of the file.

    Raises:
        BadArchive: not an archive, too large when unpacked, or an array that needs pickle.
    """
    try:
        with open_plain(path) as file, zipfile.ZipFile(file) as archive:
            _require_small(archive)
            return {_key(info): _read(archive, info) for info in archive.infolist()}
    except (OSError, NotPlain, zipfile.BadZipFile, NotImplementedError, RuntimeError) as err:
        raise BadArchive(f"the golden file is no .npz archive: {err}") from err


def _require_small(archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    unpacked = sum(info.file_size for info in infos)
    if len(infos) > MAX_ARRAYS or unpacked > MAX_BYTES:
        raise BadArchive(
            f"the golden file holds {len(infos)} arrays of {unpacked} bytes in all; "
            f"at most {MAX_ARRAYS} and {MAX_BYTES} are read"
        )


def _key(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[np.generic]:
    key = _key(info)
    try:
        with archive.open(info) as member:
            _require_honest(member, info.file_size, key)
        with archive.open(info) as member:
            array: npt.NDArray[np.generic] = npy.read_array(member, allow_pickle=False)
            return array
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, SyntaxError, TypeError) as err:
        raise BadArchive(f"array '{key}' of the golden file cannot be read: {err}") from err


def _require_honest(member: IO[bytes], size: int, key: str) -> None:
    """Refuse a header that asks for more memory than the archive holds, or for objects."""
    read = {(1, 0): npy.read_array_header_1_0}.get(
        npy.read_magic(member), npy.read_array_header_2_0
    )
    shape, _, dtype = read(member)
    if dtype.hasobject:
        raise BadArchive(f"array '{key}' of the golden file needs pickle, which is never read")
    if math.prod(shape) * dtype.itemsize > size:
        raise BadArchive(f"array '{key}' of the golden file claims more than it holds")
