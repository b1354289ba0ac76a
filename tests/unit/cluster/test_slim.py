"""What is left of installed packages in an image still works."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry_cluster.settings import REPOSITORY

SOURCE = "int answer(void) { return 42; }\n"


def build(library: Path, *flags: str) -> Path:
    library.parent.mkdir(parents=True, exist_ok=True)
    argv = ["gcc", "-shared", "-fPIC", *flags, "-x", "c", "-", "-o", str(library)]
    subprocess.run(argv, input=SOURCE, text=True, check=True)
    return library


def slim(root: Path, *patterns: str) -> None:
    script = REPOSITORY / "images" / "slim.py"
    subprocess.run([sys.executable, str(script), str(root), *patterns], check=True)


def answer(library: Path) -> int:
    return int(ctypes.CDLL(os.fspath(library)).answer())


def test_a_library_loses_what_debuggers_read_and_works(tmp_path: Path) -> None:
    library = build(tmp_path / "package" / "_fast.so", "-g3")
    before = library.stat().st_size
    slim(tmp_path)
    assert library.stat().st_size < 0.95 * before
    assert b".debug_info" not in library.read_bytes()
    assert answer(library) == 42


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"INPUT(libx.so.1)\n", b"\x7fELF\x01\x01" + b"x" * 99]
)
def test_what_is_no_library_of_64_bits_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "package" / "odd.so"
    other.parent.mkdir()
    other.write_bytes(content)
    slim(tmp_path)
    assert other.read_bytes() == content


def test_what_is_named_goes_and_twins_are_linked(tmp_path: Path) -> None:
    first = build(tmp_path / "package" / "libone.so", "-g")
    twin = first.with_name("libone.so.1")
    twin.write_bytes(first.read_bytes())
    (tmp_path / "package" / "tools").mkdir()
    slim(tmp_path, "package/tools")
    assert not (tmp_path / "package" / "tools").exists()
    assert twin.is_symlink()
    assert answer(twin) == 42
