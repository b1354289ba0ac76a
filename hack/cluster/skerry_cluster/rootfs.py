"""The base of every image: a minimal Debian file system made by mmdebstrap."""

import hashlib
import json
import tempfile
from pathlib import Path

from skerry_cluster import packages
from skerry_cluster.command import run
from skerry_cluster.progress import step
from skerry_cluster.settings import Layout

SUITE = "bookworm"
_SUITES = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
INCLUDE = ("python3", "ca-certificates", "libstdc++6")
"""The last one is what grpcio and onnxruntime are linked to."""
EXCLUDE = ("doc", "man", "locale", "info", "lintian", "bash-completion")
"""Folders of /usr/share that are never unpacked."""
UNUSED = (
    "usr/lib/*-linux-gnu/gconv",  # Python brings its own codecs
    "usr/lib/*-linux-gnu/perl-base",  # only package scripts use Perl
    "usr/lib/python3.11/lib2to3",
    "usr/lib/python3.11/pydoc_data",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg/info",  # the package list itself stays, for scanners
    "var/log/*",
)
USER = "skerry:x:65532:65532::/nonexistent:/usr/sbin/nologin"
"""A name for the user the images run as: Python's getpass asks for it."""


def key() -> str:
    """Name the base by everything that decides what is in it."""
    parts = [SUITE, INCLUDE, EXCLUDE, UNUSED, USER]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def debian_sources(one_line: str) -> str:
    """Keep the one-line apt sources of our Debian release.

    `deb http://mirror/debian bookworm main contrib` -> itself;
    `deb http://other/apt bookworm-pgdg main` -> nothing.
    """
    kept = []
    for line in one_line.splitlines():
        words = [word for word in _without_options(line).split() if word]
        if len(words) >= 4 and words[0] == "deb" and words[2] in _SUITES and "main" in words[3:]:
            kept.append(line)
    return "\n".join(kept)


def _without_options(line: str) -> str:
    before, opening, rest = line.partition("[")
    return before + rest.partition("]")[2] if opening else line


def debian_stanzas(deb822: str) -> str:
    """Keep the stanzas of a `.sources` file that are of our Debian release."""
    lines = (line for line in deb822.splitlines() if not line.startswith("#"))
    stanzas = "\n".join(lines).split("\n\n")
    return "\n\n".join(stanza.strip() for stanza in stanzas if _is_ours(stanza))


def _is_ours(stanza: str) -> bool:
    fields = {}
    for line in stanza.strip().splitlines():
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.split()
    suites = fields.get("suites", [])
    is_debian = bool(suites) and set(suites) <= _SUITES
    return is_debian and "main" in fields.get("components", []) and "deb" in fields.get("types", [])


def _machine_sources(folder: Path) -> list[Path]:
    """Write the machine's own Debian mirrors where mmdebstrap can read them."""
    apt = Path("/etc/apt")
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    one_line = [debian_sources(path.read_text()) for path in lists if path.is_file()]
    files = sorted((apt / "sources.list.d").glob("*.sources"))
    stanzas = [debian_stanzas(path.read_text()) for path in files]
    written = []
    for name, parts, glue in (("a.list", one_line, "\n"), ("b.sources", stanzas, "\n\n")):
        text = glue.join(part for part in parts if part)
        if text:
            (folder / name).write_text(text + "\n")
            written.append(folder / name)
    return written


def ensure(layout: Layout) -> Path:
    """Make the file system's archive unless the cache has it."""
    archive = layout.cache / "images" / f"base-{key()}.tar"
    if archive.exists():
        return archive
    packages.install(packages.IMAGES)
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f"partial-{archive.name}")
    argv = ["mmdebstrap", "--variant=essential", f"--include={','.join(INCLUDE)}"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDE]
    argv += [f'--customize-hook=echo "{USER}" >> "$1/etc/passwd"']
    argv += [f'--customize-hook=rm -rf "$1"/{path}' for path in UNUSED]
    with (
        step(f"Debian base with {', '.join(INCLUDE)} (once)"),
        tempfile.TemporaryDirectory() as folder,
    ):
        sources = _machine_sources(Path(folder))
        run(*argv, SUITE, str(partial), *map(str, sources))
    partial.rename(archive)
    return archive
