"""The objects of docs/k3s.md: made by the commands that stand there."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from binaries import find
from helm_chart import CHART, Rendered

PAGE = (CHART.parents[1] / "docs" / "k3s.md").read_text()
SECTION = PAGE.partition("## With K3s' own Helm")[2].partition("\n## ")[0]
Render = Callable[..., Rendered]


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", SECTION, re.M | re.S)
    assert found
    return found[1]


@pytest.fixture
def chart_object(tmp_path: Path) -> dict[str, Any]:
    """What the first block makes, but for the last line, which applies it."""
    typed = block("sh").strip().splitlines()
    assert typed[-1] == "kubectl apply -f skerry.yaml"
    (tmp_path / "charts").symlink_to(CHART.parent)
    known = os.environ | {"PATH": f"{Path(find('helm')).parent}:{os.environ['PATH']}"}
    script = "\n".join(typed[:-1])
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=known, check=True)
    made: dict[str, Any] = yaml.safe_load((tmp_path / "skerry.yaml").read_text())
    return made


def test_the_object_holds_this_chart(chart_object: dict[str, Any]) -> None:
    assert (chart_object["apiVersion"], chart_object["kind"]) == (
        "helm.cattle.io/v1",
        "HelmChart",
    )
    packed = base64.b64decode(chart_object["spec"]["chartContent"])
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:
        files = {name.partition("/")[2] for name in opened.getnames()}
    there = {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}
    assert files == there


def test_the_object_is_small_enough_for_kubectl_apply(chart_object: dict[str, Any]) -> None:
    # which keeps a copy in an annotation, and all annotations together have 256 KiB
    assert len(yaml.safe_dump(chart_object)) < 200 * 1024


def test_its_values_and_those_of_the_site_are_the_chart_s(
    chart_object: dict[str, Any], render: Render
) -> None:
    site = yaml.safe_load(block("yaml"))
    assert site["kind"] == "HelmChartConfig"
    assert site["metadata"] == chart_object["metadata"]
    values = [yaml.safe_load(one["spec"]["valuesContent"]) for one in (chart_object, site)]
    rendered = render(values[0] | values[1])
    assert rendered.container["image"] == "localhost/skerry/operator:TAG"
    assert rendered.env["SKERRY_RUNTIME_IMAGE"] == "localhost/skerry/runtime:TAG"
    assert rendered.env["SKERRY_LOG_LEVEL"] == "debug"
