"""The pause image: keeps a pod's namespaces open. Built from 20 lines of C in `pause/`."""

import hashlib
import platform
from pathlib import Path

from skerry_cluster import oci, packages
from skerry_cluster.command import run
from skerry_cluster.settings import PAUSE_IMAGE, SOURCES, Layout

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def ensure_archive(layout: Layout) -> Path:
    """Build the image archive unless the cache has it."""
    source = SOURCES / "pause" / "pause.c"
    key = hashlib.sha256(source.read_bytes() + PAUSE_IMAGE.encode()).hexdigest()[:12]
    archive = layout.cache / "images" / f"pause-{key}.tar"
    if archive.exists():
        return archive
    packages.install(packages.COMPILERS)
    program = archive.with_suffix(".bin")
    program.parent.mkdir(parents=True, exist_ok=True)
    run("gcc", "-Os", "-static", "-s", "-Wall", "-Werror", "-o", str(program), str(source))
    machine = platform.machine()
    architecture = _ARCHITECTURES.get(machine, machine)
    content = oci.single_program_archive(program.read_bytes(), PAUSE_IMAGE, architecture)
    oci.write_archive(archive, content)
    program.unlink()
    return archive
