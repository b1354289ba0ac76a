"""Hand images over to a cluster that only its owner reaches: files, and what to type there."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

K3S_IMAGES = "/var/lib/rancher/k3s/agent/images"
"""Folder of a node whose archives K3s imports, pins against kubelet's garbage collection, and
imports again when it starts. What `k3s ctr images import` brings is not pinned."""
VALUES = {
    "operator": "image",
    "runtime": "runtimeImage",
    "runtime-openvino": "runtimeImages.openvino",
    "optimize": "optimize.image",
}
"""Image -> where the chart's values name it; for the others no value does."""


def export(archive: Path, folder: Path) -> Path:
    """Lay an archive of the cache into a folder, and take away those of the image's other tags.

    The tag is part of the file's name: K3s may take a changed file of the same name for the one
    that it knows.
    """
    name, _, tag = archive.stem.rpartition("-")
    target = folder / f"skerry-{archive.name}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"skerry-{name}-{'?' * len(tag)}.tar"):
        old.unlink()
    try:
        os.link(archive, target)
    except OSError:  # another file system
        shutil.copy(archive, target)
    return target


def helm_command(references: Mapping[str, str]) -> str:
    """Return the command that installs or upgrades the chart with these images, if it names any.

    `{"operator": "localhost/skerry/operator:1"}` needs a tag only; of a registry, its name too.
    """
    if VALUES.keys().isdisjoint(references):
        return ""
    words = ["helm upgrade --install skerry charts/skerry --namespace skerry-system"]
    words.append("--create-namespace")
    for name, reference in references.items():
        if name in VALUES:
            words.append("--set-string " + ",".join(_settings(name, reference)))
    return " ".join(words)


def _settings(name: str, reference: str) -> list[str]:
    repository, _, tag = reference.rpartition(":")
    registry = repository.removesuffix(f"/skerry/{name}")
    found = {"registry": "" if registry == "localhost" else registry, "tag": tag}
    return [f"{VALUES[name]}.{key}={value}" for key, value in found.items() if value]


def instructions(why: str, files: list[Path], references: Mapping[str, str]) -> list[str]:
    """Return what to tell somebody who has to bring the images to the nodes."""
    command = helm_command(references)
    return [
        f"{why}: copy these files to each node, and lay them there, as root, where K3s takes "
        "images from and keeps them",
        *(f"  {file}" for file in files),
        f"  install -D -t {K3S_IMAGES} {' '.join(file.name for file in files)}",
        *(["then, with the chart of this checkout:", f"  {command}"] if command else []),
        "or run this again with IMAGE_REGISTRY=HOST:PORT, and the images are pushed there",
    ]
