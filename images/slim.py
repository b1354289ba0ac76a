"""Remove from installed packages what a running program never reads.

Usage: slim.py FOLDER [PATTERN_BELOW_FOLDER ...]
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
    """Remove what the caller names, then folders, then files; link what is there twice."""
    root = Path(sys.argv[1])
    named = [path for name in sys.argv[2:] for path in root.glob(name)]
    folders = [root / name for name in ("bin", "include", "share")]
    folders += [path for path in root.rglob("*") if path.is_dir() and path.name in FOLDERS]
    for folder in [*named, *folders]:
        shutil.rmtree(folder, ignore_errors=True)
    for path in [*named, *root.rglob("*")]:
        if path.is_file() and (path in named or path.suffix in SUFFIXES):
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
