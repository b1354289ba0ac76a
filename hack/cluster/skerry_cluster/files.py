"""Write files whose readers watch them."""

from pathlib import Path


def write_if_changed(path: Path, content: str) -> None:
    """Leave a file alone that has this content: kube-proxy ends when its file is touched."""
    if not path.exists() or path.read_text() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
