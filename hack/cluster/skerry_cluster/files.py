"""Write files that others read: watched ones, and ones that must survive a crash."""

import os
from pathlib import Path


def write_whole(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file so that it has the old content or the new one, whenever a crash comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    partial.touch(mode)
    partial.write_text(content)
    partial.replace(path)


def write_if_changed(path: Path, content: str, mode: int = 0o644) -> None:
    """Leave a file alone that has this content: kube-proxy ends when its file is touched."""
    if not path.exists() or path.read_text() != content:
        write_whole(path, content, mode)
