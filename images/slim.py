"""Remove from installed packages what a running program never reads.

Usage: slim.py FOLDER [PATH_BELOW_FOLDER ...]
"""

import hashlib
import shutil
import sys
from pathlib import Path

FOLDERS = ("tests", "testdata", "__pycache__")
"""Folders of this name go, wherever they are."""
SUFFIXES = (".pyi", ".pyx", ".pxd", ".h", ".hpp", ".c", ".cpp", ".a", ".proto")
"""Files that only compilers and type checkers read."""


def main() -> None:
    """Remove folders, then files, then what the caller names."""
    root = Path(sys.argv[1])
    unwanted = [root / name for name in ("bin", "include", "share", *sys.argv[2:])]
    unwanted += [path for path in root.rglob("*") if path.is_dir() and path.name in FOLDERS]
    for folder in unwanted:
        shutil.rmtree(folder, ignore_errors=True)
    for path in root.rglob("*"):
        if path.suffix in SUFFIXES and path.is_file():
            path.unlink()
    link_twins(root)


def link_twins(root: Path) -> None:
    """Keep one of equal libraries; wheels cannot hold links, so they repeat a file per name."""
    first: dict[str, Path] = {}
    for path in sorted(root.rglob("*.so*")):
        if path.is_symlink() or not path.is_file():
            continue
        twin = first.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
        if twin is not path and twin.parent == path.parent:
            path.unlink()
            path.symlink_to(twin.name)


main()
