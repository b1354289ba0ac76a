"""buildah, with a storage of our own in the cache, apart from any other use on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skerry_cluster import teardown
from skerry_cluster.command import run, succeeds
from skerry_cluster.settings import Layout


def storage(layout: Layout) -> Path:
    """Where it keeps layers; may be deleted when nothing is being built."""
    return layout.cache / "buildah"


def _argv(layout: Layout, *words: str) -> list[str]:
    root = storage(layout)
    return ["buildah", "--root", str(root / "root"), "--runroot", str(root / "run"), *words]


@contextmanager
def unmounted(layout: Layout) -> Iterator[None]:
    """Take away the mounts and containers that buildah leaves, above all after a failure."""
    try:
        yield
    finally:
        succeeds(*_argv(layout, "rm", "--all"))
        teardown.unmount_below(storage(layout))


def has(layout: Layout, name: str) -> bool:
    """Say whether an image is in the storage."""
    found = run(*_argv(layout, "images", "-q", "--filter", f"reference={name}"))
    return bool(found.strip())


def build(layout: Layout, file: Path, name: str, context: Path, *args: str) -> None:
    """Build an image from a Containerfile; the same input gives the same bytes."""
    # chroot: works in a container too, where runc may not make its own.
    how = ("bud", "--isolation", "chroot", "--layers", "--timestamp", "0", "--force-rm")
    run(*_argv(layout, *how, *args, "-f", str(file), "-t", name, str(context)))


def save(layout: Layout, name: str, archive: Path) -> None:
    """Write an image into an archive, whole or not at all."""
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    # This kind of archive keeps layers uncompressed, which saves packing and unpacking.
    run(*_argv(layout, "push", "--quiet", name, f"docker-archive:{partial}:{name}"))
    partial.rename(archive)


def load(layout: Layout, archive: Path) -> None:
    """Bring an archive's image into the storage, under the name it has there.

    Also if that has one of this name: what a registry gets is, byte for byte, what nodes get.
    """
    run(*_argv(layout, "pull", "--quiet", "--policy=always", f"docker-archive:{archive}"))


def mount(layout: Layout, name: str) -> Path:
    """Return an image's file system, writable, until `unmounted` ends."""
    container = run(*_argv(layout, "from", "--pull=never", name)).strip()
    return Path(run(*_argv(layout, "mount", container)).strip())


def push(layout: Layout, name: str, target: str, *, insecure: bool) -> None:
    """Push an image to a registry."""
    verify = f"--tls-verify={'false' if insecure else 'true'}"
    run(*_argv(layout, "push", "--quiet", verify, name, target))


def forget(layout: Layout, name: str) -> None:
    """Remove an image, and the layers that only it needed."""
    succeeds(*_argv(layout, "rmi", name))
