"""What `up` makes on the host outside its own folders, so that `down` removes that and no more.

A folder counts as made here only while it is the very one that was made: somebody may have removed
it since, and made another of its name.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skerry_cluster.command import ClusterError, succeeds
from skerry_cluster.files import write_whole
from skerry_cluster.settings import Layout

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Made:
    """One folder, or mount point, as it was when it was made."""

    path: str
    """Where it is."""
    device: int
    """Its file system."""
    inode: int
    """Its number there."""
    boot: str
    """The boot of the machine: numbers of a file system in memory begin anew with each."""


@dataclass
class Footprint:
    """All that was made and is not yet removed."""

    folders: list[Made] = field(default_factory=list)
    """Folders, parents first."""
    mounts: list[Made] = field(default_factory=list)
    """Mount points that came by themselves with what was done, such as that of `ip netns`."""


def read(record: Path) -> Footprint:
    """Read the record; nothing is ours where there is none, or none that can be read."""
    try:
        found = json.loads(record.read_text())
        parts = {name: [Made(**one) for one in found[name]] for name in ("folders", "mounts")}
    except (OSError, ValueError, KeyError, TypeError):
        return Footprint()
    return Footprint(**parts)


def make_folders(record: Path, wanted: Iterable[str]) -> None:
    """Make the folders that are missing, with their parents, and write down which these were."""
    made = _current(record)
    for target in wanted:
        for folder in (*reversed(Path(target).parents), Path(target)):
            if not folder.exists():
                folder.mkdir()
                made.folders.append(_identity(folder))
                _write(record, made)
    _write(record, made)


def expect_mount(record: Path, point: Path) -> None:
    """Write down a mount point that a program is about to make, unless it is one already."""
    made = _current(record)
    is_known = any(one.path == str(point) for one in made.mounts)
    if not is_known and str(point) not in mount_points(Path("/proc/self/mountinfo").read_text()):
        made.mounts.append(_identity(point))
        _write(record, made)


def remove(record: Path) -> None:
    """Remove what was made and is empty, unused and still the same, then the record."""
    made = read(record)
    for mount in made.mounts:
        folder = Path(mount.path)
        if _is_same(mount) and not any(folder.iterdir()):
            succeeds("umount", mount.path)
    used = set(_mounted_anywhere())
    for one in reversed(made.folders):
        if _is_same(one) and one.path not in used:
            with contextlib.suppress(OSError):  # it holds something by now
                Path(one.path).rmdir()
    record.unlink(missing_ok=True)


def require_own_state(layout: Layout, names: Iterable[str]) -> None:
    """Check that a state folder is new or a cluster's: `down` removes folders of these names.

    Raises:
        ClusterError: it holds such folders, and they are somebody else's.
    """
    if has_state(layout):
        return
    foreign = [name for name in names if (layout.root / name).exists()]
    if foreign:
        raise ClusterError(
            f"SKERRY_CLUSTER_DIR={layout.root} has {', '.join(foreign)}, which no cluster of this "
            "tool made: name a folder that is empty or does not exist"
        )


def has_state(layout: Layout) -> bool:
    """Say whether a cluster's files are in the state folder."""
    return layout.made.exists() or layout.pids.is_dir()


def mount_points(mountinfo: str) -> list[str]:
    """Pick the mount points out of a `mountinfo` text: `9 1 8:1 /x /var/lib/a rw` -> /var/lib/a."""
    rows = (line.split() for line in mountinfo.splitlines())
    return [row[4] for row in rows if len(row) > 4]


def _mounted_anywhere() -> Iterator[str]:
    """Yield every mount point of every process: a folder that is removed here ends it there too."""
    seen = set()
    for process in _PROC.iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                space = (process / "ns/mnt").readlink()
                if space not in seen:
                    seen.add(space)
                    yield from mount_points((process / "mountinfo").read_text())


def _current(record: Path) -> Footprint:
    """Read the record without what is no longer there: an `up` after a reboot makes it again."""
    made = read(record)
    folders, mounts = (list(filter(_is_same, found)) for found in (made.folders, made.mounts))
    return Footprint(folders, mounts)


def _identity(folder: Path) -> Made:
    found = folder.stat()
    return Made(str(folder), found.st_dev, found.st_ino, _BOOT.read_text().strip())


def _is_same(made: Made) -> bool:
    """Say whether a folder is the one that was made."""
    try:
        now = _identity(Path(made.path))
    except OSError:
        return False
    if now.boot == made.boot:
        return now == made
    # file systems may be numbered anew, and those in memory are
    return now.inode == made.inode and not made.path.startswith("/run/")


def _write(record: Path, made: Footprint) -> None:
    content: dict[str, Any] = asdict(made)
    write_whole(record, json.dumps(content, indent=1))
