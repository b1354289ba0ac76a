"""Remove from installed packages what a running program never reads.

Usage: slim.py FOLDER [PATTERN_BELOW_FOLDER ...]
"""

import hashlib
import shutil
import struct
import sys
from pathlib import Path

FOLDERS = ("tests", "testdata", "__pycache__")
"""Folders of this name go, wherever they are."""
SUFFIXES = (".pyi", ".pyx", ".pxd", ".h", ".hpp", ".c", ".cpp", ".a", ".proto")
"""Files that only compilers and type checkers read."""
WORTH = 0.95
"""A library is cut where less than this of it is left."""
_ELF64 = b"\x7fELF\x02\x01"  # of 64 bits, the least byte first
_HEADER = struct.Struct("<32xQQ4xHHHHHH")
"""Program headers at, section headers at; sizes and counts of both (ELF-64 object file format)."""
_SECTIONS_AT, _SECTIONS_COUNT = 40, 60
_SEGMENT = struct.Struct("<8xQ16xQ16x")
"""Where a segment lies in the file, and how long it is there."""


def main() -> None:
    """Remove what the caller names, then folders, files and symbols; link what is there twice."""
    root = Path(sys.argv[1])
    named = [path for name in sys.argv[2:] for path in root.glob(name)]
    folders = [root / name for name in ("bin", "include", "share")]
    folders += [path for path in root.rglob("*") if path.is_dir() and path.name in FOLDERS]
    for folder in [*named, *folders]:
        shutil.rmtree(folder, ignore_errors=True)
    for path in [*named, *root.rglob("*")]:
        if path.is_file() and (path in named or path.suffix in SUFFIXES):
            path.unlink()
    for path in libraries(root):
        drop_symbols(path)
    link_twins(root)


def libraries(root: Path) -> list[Path]:
    """Return all files that a loader may open."""
    found = sorted(root.rglob("*.so*"))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def drop_symbols(path: Path) -> None:
    """Cut off what debuggers read: some wheels hold ten times as much of it as of code.

    A loader follows the segments alone, and they stay as they are; what comes behind the last one
    goes, and with it the table of sections.
    """
    content = path.read_bytes()
    if not content.startswith(_ELF64):
        return
    at, _, header, each, count, *_ = _HEADER.unpack_from(content)
    segments = [_SEGMENT.unpack_from(content, at + each * number) for number in range(count)]
    end = max(header, at + each * count, *(start + size for start, size in segments))
    if end > WORTH * len(content):
        return
    kept = bytearray(content[:end])
    struct.pack_into("<Q", kept, _SECTIONS_AT, 0)
    struct.pack_into("<HH", kept, _SECTIONS_COUNT, 0, 0)
    path.write_bytes(kept)


def link_twins(root: Path) -> None:
    """Keep one of equal libraries; wheels cannot hold links, so they repeat a file per name."""
    first: dict[str, Path] = {}
    for path in libraries(root):
        twin = first.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
        if twin is not path and twin.parent == path.parent:
            path.unlink()
            path.symlink_to(twin.name)


main()
