"""Pushes to a registry with the tool that people push with."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from local_registry import Registry
from skerry_cluster import tools
from skerry_cluster.settings import Layout

MODELPACK = "application/vnd.cncf.model.manifest.v1+json"
RAW = "application/vnd.cncf.model.weight.v1.raw"


@dataclass(frozen=True)
class Oras:
    """`oras` for one registry; `login` are its flags for a user."""

    registry: Registry
    folder: Path
    login: tuple[str, ...] = field(default=())

    def push(
        self, name: str, files: dict[str, bytes], kind: str = RAW, *flags: str, path: str = ""
    ) -> str:
        """Push files as layers of one artefact; return its digest.

        Args:
            name: repository and tag.
            files: name -> content.
            kind: media type of the layers; empty: what oras says when it is told nothing.
            flags: more for oras.
            path: `org.cncf.model.filepath` of each file, with its name after it.
        """
        self.folder.mkdir(exist_ok=True)
        for file, body in files.items():
            (self.folder / file).write_bytes(body)
        notes = {file: {"org.cncf.model.filepath": f"{path}{file}"} for file in files}
        (self.folder / "notes.json").write_text(json.dumps(notes if path else {}))
        layers = [f"{file}:{kind}" if kind else file for file in files]
        artifact = ("--artifact-type", MODELPACK, "--annotation-file", "notes.json")
        self._run("push", *artifact, *flags, f"{self.registry.address}/{name}", *layers)
        return self.digest(name)

    def attach(self, name: str, files: dict[str, bytes], kind: str) -> None:
        """Push files of one kind that refer to an artefact."""
        for file, body in files.items():
            (self.folder / file).write_bytes(body)
        layers = [f"{file}:{kind}" for file in files]
        self._run("attach", "--artifact-type", kind, f"{self.registry.address}/{name}", *layers)

    def index(self, name: str, *tags: str) -> str:
        """Make an index of manifests that were pushed; return its digest."""
        self._run("manifest", "index", "create", f"{self.registry.address}/{name}", *tags)
        return self.digest(name)

    def digest(self, name: str) -> str:
        described = self._run(
            "manifest", "fetch", "--descriptor", f"{self.registry.address}/{name}"
        )
        return str(json.loads(described)["digest"])

    def _run(self, *argv: str) -> str:
        program = tools.ensure(Layout.from_environment(), tools.ORAS)["oras"]
        done = subprocess.run(
            [program, *argv, "--plain-http", *self.login],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
