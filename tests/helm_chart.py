"""Renders the chart with the real Helm, and reads what comes out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from binaries import find

CHART = Path(__file__).parents[1] / "charts" / "skerry"
EVERYTHING = Path(__file__).parent / "chart" / "everything.yaml"
KUBE_VERSION = "1.34.0"  # a Helm built from source believes in 1.20 when it has no cluster

Manifest = dict[str, Any]


class Rendered:
    """The manifests of one rendering."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.manifests: list[Manifest] = [item for item in yaml.safe_load_all(text) if item]

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Manifest:
        found = [item for item in self.all(kind) if name in {None, item["metadata"]["name"]}]
        assert len(found) == 1, [item["metadata"]["name"] for item in found]
        return found[0]

    @property
    def pod(self) -> Manifest:
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self) -> Manifest:
        return self.pod["containers"][0]

    @property
    def env(self) -> Mapping[str, str]:
        return {item["name"]: item.get("value", "") for item in self.container["env"]}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find("helm"), *arguments], capture_output=True, text=True, check=False)


def try_to_render(values: Mapping[str, Any], folder: Path, extra: Iterable[str] = ()) -> Any:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)))
    common = ("--namespace", "skerry-system", "--kube-version", KUBE_VERSION, "-f", str(file))
    return helm("template", "skerry", str(CHART), *common, *extra)
