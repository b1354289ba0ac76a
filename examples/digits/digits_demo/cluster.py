"""What the demo asks of the cluster's command line: hack/cluster."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from digits_demo.errors import DemoError
from digits_demo.shell import run, show

REPOSITORY = Path(__file__).resolve().parents[3]
CLUSTER = REPOSITORY / "hack/cluster/main.py"
CHART = REPOSITORY / "charts/skerry"
_SEE_STATUS = "look at `hack/cluster/main.py status` and at the logs it names"


@dataclass(frozen=True)
class Access:
    """How the demo reaches the cluster, and how the cluster's pods reach this machine."""

    kubeconfig: Path
    host_address: str
    kubectl: str
    helm: str


def up() -> None:
    """Start the cluster, or find that it runs; its own progress is shown."""
    show([sys.executable, str(CLUSTER), "up"], remedy=_SEE_STATUS)


def build_images() -> dict[str, str]:
    """Build and load the images where needed; return `operator` and `runtime` references."""
    show([sys.executable, str(CLUSTER), "images"], remedy=_SEE_STATUS)
    return parse_images(_ask("images", "--print"))


def parse_images(text: str) -> dict[str, str]:
    """Read what `images --print` says.

    Raises:
        DemoError: an image is not named.
    """
    found: dict[str, str] = json.loads(text)
    missing = {"operator", "runtime"} - found.keys()
    if missing:
        raise DemoError(f"`images --print` names no image for {', '.join(sorted(missing))}")
    return found


@dataclass(frozen=True)
class ImageRef:
    """An image's name in the parts that the chart takes."""

    registry: str
    repository: str
    tag: str
    digest: str

    def settings(self, key: str) -> list[str]:
        """Return Helm options that set the image under a key of the values."""
        parts = {
            "registry": self.registry,
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
        }
        return [f"--set-string={key}.{name}={value}" for name, value in parts.items()]


def parse_image(reference: str) -> ImageRef:
    """Take an image reference apart.

    >>> parse_image("localhost/skerry/operator:1")
    ImageRef(registry='localhost', repository='skerry/operator', tag='1', digest='')
    """
    name, _, digest = reference.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    path = f"{head}{slash}{last}"
    first, _, rest = path.partition("/")
    has_registry = bool(rest) and (first == "localhost" or "." in first or ":" in first)
    return ImageRef(first, rest, tag, digest) if has_registry else ImageRef("", path, tag, digest)


def image_values(images: dict[str, str]) -> list[str]:
    """Return the Helm options that make the chart use these images."""
    return [
        *parse_image(images["operator"]).settings("image"),
        *parse_image(images["runtime"]).settings("runtimeImage"),
    ]


def access() -> Access:
    """Ask for paths and addresses; the cluster must be up."""
    tools = Path(_ask("tools").splitlines()[-1])
    return Access(
        kubeconfig=Path(_ask("kubeconfig")),
        host_address=_ask("host-address"),
        kubectl=_program(tools, "kubectl"),
        helm=_program(tools, "helm"),
    )


def _program(tools: Path, name: str) -> str:
    own = tools / name
    found = str(own) if own.is_file() else shutil.which(name)
    if found is None:
        raise DemoError(f"{name} is not installed", "run `make cluster-up`: it builds it")
    return found


def _ask(*words: str) -> str:
    return run([sys.executable, str(CLUSTER), *words], remedy=_SEE_STATUS).strip()
