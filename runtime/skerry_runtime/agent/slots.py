"""The slots on the node's disk: model files by content, one manifest per revision.

    <slots>/state.json                    the agent's memory
    <slots>/hung                          where a process hung that ended itself
    <slots>/revisions/<revision>.json     a manifest
    <slots>/blobs/<digest>/model.onnx     the files of one model, and nothing else
    <slots>/parts/<sha256>[.json]         a download under way, and what it is of

Two revisions with equal files share them: a folder is named by the digest of what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from skerry_runtime.agent.deadman import Deadman
from skerry_runtime.agent.files import read_document, remove, sync_folder, write_document
from skerry_runtime.agent.goal import Blob, Goal
from skerry_runtime.agent.refusal import Corrupt
from skerry_runtime.agent.state import NodeState, SlotManifest
from skerry_runtime.clock import unix_now

PART_KEPT_S = 24 * 3600.0
"""How long a begun download of a revision that is not given any more is kept."""

_FOLDERS = ("revisions", "blobs", "parts")


class Slots:
    """Reads and writes the slots' folder. Blocking; not for the event loop where it is slow."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._manifests: Mapping[str, SlotManifest] = {}  # replaced, never changed: threads read it
        self._unwritten: set[str] = set()
        self.deadman = Deadman(root / "hung")

    def open(self) -> NodeState:
        """Make the folders, read every manifest, and return the agent's memory.

        A file that cannot be read counts as absent.
        """
        for name in _FOLDERS:
            (self._root / name).mkdir(parents=True, exist_ok=True)
        found = (read_document(p, SlotManifest) for p in (self._root / "revisions").glob("*.json"))
        self._manifests = {m.revision: m for m in found if m}
        return read_document(self._state_path, NodeState) or NodeState()

    def save(self, state: NodeState) -> None:
        """Write the agent's memory durably."""
        write_document(self._state_path, state)

    def record(self, manifest: SlotManifest) -> None:
        """Keep a revision's manifest, in mind first; and write it durably, if it is news.

        A revision of which only the disk knows nothing is still one to go back to.
        """
        name = manifest.revision
        if self._manifests.get(name) == manifest and name not in self._unwritten:
            return
        self._manifests = {**self._manifests, name: manifest}
        self._unwritten.add(name)
        write_document(self._manifest_path(name), manifest)
        self._unwritten.discard(name)

    def manifest(self, revision: str) -> SlotManifest | None:
        """Return a revision's manifest."""
        return self._manifests.get(revision)

    def path(self, blob: Blob) -> Path:
        """Return where the file is, or will be."""
        return self._root / "blobs" / blob.folder / blob.path

    def part(self, blob: Blob) -> Path:
        """Return where the file is while it is downloaded."""
        return self._root / "parts" / blob.sha256

    def missing(self, goal: Goal) -> tuple[Blob, ...]:
        """Return the files of the goal that are not on disk."""
        return tuple(blob for blob in goal.blobs if not self.path(blob).is_file())

    def check_place(self, blob: Blob) -> None:
        """Check that the way to the file is made of folders of ours: a link leads outside.

        Raises:
            Corrupt: it is not.
        """
        link = next((place for place in self._way(blob)[:-1] if place.is_symlink()), None)
        if link is not None:
            raise Corrupt(f"{link.name} in the slots is a link")

    def discard(self, blob: Blob) -> None:
        """Remove a file, or the link that is on the way to it and not its target."""
        way = self._way(blob)
        remove(next((place for place in way if place.is_symlink()), way[-1]))

    def _way(self, blob: Blob) -> list[Path]:
        """Return the blob's folder, the folders in it, and the file."""
        path, folder = self.path(blob), self._root / "blobs" / blob.folder
        between = [place for place in path.parents if place.is_relative_to(folder)]
        return [*reversed(between), path]

    def revisions(self) -> tuple[str, ...]:
        """Return the revisions whose files are all here, sorted."""
        return tuple(sorted(r for r, m in self._manifests.items() if not self.missing(m.goal)))

    def prune(self, keep: Iterable[Goal]) -> None:
        """Remove everything that none of these goals needs.

        A begun download of another revision stays while there is nothing to fetch: the youngest
        one, for a day. It is gone on with when that revision is given again.
        """
        goals = tuple(keep)
        blobs = [blob for goal in goals for blob in goal.blobs]
        is_wanted = any(self.missing(goal) for goal in goals)
        is_wanted = is_wanted or any(self.part(blob).exists() for blob in blobs)
        begun = frozenset() if is_wanted else self._youngest_part()
        gone = self._unneeded({goal.revision for goal in goals}, blobs, begun)
        for path in gone:
            remove(path)
        for folder in {path.parent for path in gone}:
            sync_folder(folder)

    def _youngest_part(self) -> frozenset[str]:
        """Return the names of the begun download that grew last, unless that was a day ago."""
        files = [path for path in (self._root / "parts").iterdir() if path.suffix != ".json"]
        grown = {path.name: path.lstat().st_mtime for path in files}
        name = max(grown, key=lambda one: grown[one], default=None)
        if name is None or unix_now() - grown[name] > PART_KEPT_S:
            return frozenset()
        return frozenset({name, f"{name}.json"})

    def _unneeded(
        self, revisions: set[str], blobs: Iterable[Blob], begun: frozenset[str]
    ) -> list[Path]:
        self._manifests = {r: m for r, m in self._manifests.items() if r in revisions}
        files = {self._manifest_path(revision).name for revision in revisions}
        parts = {name for b in blobs for name in (b.sha256, f"{b.sha256}.json")} | begun
        wanted = {"revisions": files, "blobs": {b.folder for b in blobs}, "parts": parts}
        return [
            path
            for name, names in wanted.items()
            for path in (self._root / name).iterdir()
            if path.name not in names
        ]

    def model_bytes(self, goal: Goal) -> int:
        """Return the size of the model's files, as far as they are here."""
        files = (self.path(b) for b in goal.blobs if b.folder == goal.model_blob.folder)
        return sum(path.stat().st_size for path in files if path.is_file())

    def used_bytes(self) -> int:
        """Return what the slots take on disk."""
        files = (p for p in self._root.rglob("*") if p.is_file() and not p.is_symlink())
        return sum(p.stat().st_size for p in files)

    def free_bytes(self, limit_bytes: int = 0) -> int:
        """Return how much more fits: free space of the disk, within the volume's limit if any."""
        disk = os.statvfs(self._root)
        free = disk.f_bavail * disk.f_frsize
        return min(free, limit_bytes - self.used_bytes()) if limit_bytes else free

    @property
    def _state_path(self) -> Path:
        return self._root / "state.json"

    def _manifest_path(self, revision: str) -> Path:
        return self._root / "revisions" / f"{quote(revision, safe='')}.json"
