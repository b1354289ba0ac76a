"""The ConfigMap for Argo CD: its keys, and scripts that do what the files say."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from helm_chart import CHART, Rendered
from lua import run_lua
from phase_stories import as_object, pause_step

Render = Callable[..., Rendered]
FILES = CHART / "files" / "argo-cd"
ENABLED = {"argoCD": {"customizations": {"enabled": True}}, "crds": {"enabled": False}}
PREFIX = "resource.customizations"


def test_it_is_off_by_default(render: Render) -> None:
    assert "resource.customizations" not in render({"crds": {"enabled": False}}).text


def test_its_keys_are_those_of_argocd_cm_and_hold_the_scripts(render: Render) -> None:
    data = render(ENABLED).one("ConfigMap", "skerry-argo-cd")["data"]
    for kind in ("EdgeDeployment", "EdgeModel"):
        script = data.pop(f"{PREFIX}.health.skerry.dev_{kind}")
        assert script.strip() == (FILES / kind / "health.lua").read_text().strip()
    assert set(data) == {f"{PREFIX}.actions.skerry.dev_EdgeDeployment"}


def test_its_actions_are_the_document_that_argo_cd_reads(render: Render) -> None:
    data = render(ENABLED).one("ConfigMap", "skerry-argo-cd")["data"]
    document = yaml.safe_load(data[f"{PREFIX}.actions.skerry.dev_EdgeDeployment"])
    scripts = {one["name"]: one["action.lua"] for one in document["definitions"]}
    files = {path.stem for path in (FILES / "EdgeDeployment" / "actions").glob("*.lua")}
    assert {*scripts, "discovery"} == files
    obj = as_object(pause_step())
    offered = run_lua(document["discovery.lua"], obj)
    assert set(offered) == set(scripts)
    target = obj["status"]["targetRevision"]
    after = run_lua(scripts["promote"], obj)
    assert after["metadata"]["annotations"] == {"skerry.dev/promote": target}
