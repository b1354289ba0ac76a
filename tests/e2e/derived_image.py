"""An image of the tests: one that is built already, with a file more and another entry point."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def derive(archive: Path, target: Path, added: tuple[str, bytes], entrypoint: list[str]) -> str:
    """Write a docker archive with one layer more; return the image's name.

    `added` is a path in the image, without the first slash, and its content.
    """
    layer = _tar([added])
    digest = hashlib.sha256(layer).hexdigest()
    with tarfile.open(archive) as source:
        manifest = json.loads(_read(source, "manifest.json"))[0]
        config = json.loads(_read(source, manifest["Config"]))
        config["config"]["Entrypoint"] = entrypoint
        config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
        config.pop("history", None)
        name = f"{manifest['RepoTags'][0]}-{digest[:12]}"
        layers = [*manifest["Layers"], "added.tar"]
        index = [{"Config": "config.json", "RepoTags": [name], "Layers": layers}]
        with tarfile.open(target, "w") as made:
            for path in manifest["Layers"]:
                member = source.getmember(path)
                made.addfile(member, source.extractfile(member))
            _add(made, "added.tar", layer)
            _add(made, "config.json", json.dumps(config).encode())
            _add(made, "manifest.json", json.dumps(index).encode())
    return name


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def _tar(files: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files:
            _add(archive, name, content)
    return buffer.getvalue()
