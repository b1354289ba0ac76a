"""The command line without a cluster: usage, files, exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crd_objects import deployment, model
from ctl_objects import node
from skerry_operator.ctl.answer import Exit
from skerry_operator.ctl.cli import main, parser

Object = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def write(path: Path, *bodies: Object) -> str:
    path.write_text("\n---\n".join(json.dumps(body) for body in bodies))
    return str(path)


@pytest.mark.parametrize("arguments", [[], ["dance"], ["status"], ["plan"], ["history", "a", "b"]])
def test_wrong_usage_is_refused_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == Exit.REFUSED
    assert capsys.readouterr().err.count("\n") == 1


def test_the_help_tells_every_exit_status() -> None:
    text = parser().format_help()
    assert all(f"\n  {code.value}  " in text for code in Exit)


@pytest.mark.parametrize(
    "arguments", [["-n", "edge", "status", "x"], ["status", "x", "-n", "edge"]]
)
def test_the_namespace_stands_before_or_after_the_command(arguments: list[str]) -> None:
    assert parser().parse_args(arguments).namespace == "edge"


def test_without_a_cluster_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "digits"]) == Exit.REFUSED
    said = capsys.readouterr()
    assert "--kubeconfig" in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_valid_manifests_are_valid_and_what_was_not_checked_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "edge"}}
    name = write(tmp_path / "all.yaml", namespace, model(), deployment())
    assert main(["validate", "-f", name]) == Exit.OK
    out = capsys.readouterr().out
    assert "Namespace/edge: left out" in out
    assert "EdgeModel/digits: valid" in out
    assert "Not checked offline" in out


def test_one_wrong_manifest_makes_the_whole_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(tmp_path / "all.yaml", model(), deployment(colour="red"))
    assert main(["validate", "-f", name]) == Exit.REFUSED
    assert "EdgeDeployment/digits: spec.colour: unknown field" in capsys.readouterr().out


@pytest.mark.parametrize("bad", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-f", bad]) == Exit.REFUSED
    assert capsys.readouterr().err.startswith(f"skerry: {bad}: ")


def test_a_plan_needs_no_cluster_when_it_has_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path / "all.yaml", model(), deployment())
    nodes = write(tmp_path / "nodes.yaml", {"kind": "List", "items": [node()]})
    assert main(["plan", "-f", files, "--nodes", nodes]) == Exit.OK
    assert "digits-cpu-amd64" in capsys.readouterr().out


def test_a_plan_of_invalid_manifests_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path / "all.yaml", model(), deployment(colour="red"))
    nodes = write(tmp_path / "nodes.yaml", node())
    assert main(["plan", "-f", files, "--nodes", nodes]) == Exit.REFUSED
    assert "spec.colour: unknown field" in capsys.readouterr().out


def test_a_profiles_file_that_is_wrong_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path / "all.yaml", model(), deployment())
    nodes = write(tmp_path / "nodes.yaml", node())
    (tmp_path / "profiles.yaml").write_text("[{name: coral, class: tpu}]")
    profiles = str(tmp_path / "profiles.yaml")
    code = main(["plan", "-f", files, "--nodes", nodes, "--profiles", profiles])
    assert code == Exit.REFUSED
    assert "profile coral: class" in capsys.readouterr().err


def test_a_plan_takes_the_namespace_that_manifests_leave_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path / "all.yaml", model(), deployment())
    nodes = write(tmp_path / "nodes.yaml", node())
    assert main(["-n", "field", "plan", "-f", files, "--nodes", nodes]) == Exit.OK
    assert "EdgeDeployment field/digits" in capsys.readouterr().out


def test_validate_in_json_has_one_entry_for_each_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(tmp_path / "all.yaml", model(), deployment(colour="red"))
    assert main(["validate", "-f", name, "-o", "json"]) == Exit.REFUSED
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["kind"], good["name"], good["valid"]) == ("EdgeModel", "digits", True)
    assert (good["checked"], good["problems"]) == (True, [])
    assert [text.split(": ")[:2] for text in bad["problems"]] == [["spec.colour", "unknown field"]]


def test_a_plan_in_json_has_cells_nodes_and_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path / "all.yaml", model(), deployment())
    nodes = write(tmp_path / "nodes.yaml", node())
    assert main(["plan", "-f", files, "--nodes", nodes, "-o", "json"]) == Exit.OK
    (made,) = json.loads(capsys.readouterr().out)
    assert (made["namespace"], made["name"], made["valid"]) == ("default", "digits", True)
    assert (made["stableRevision"], made["rejectedNodes"]) == (None, [])
    assert made["cells"][0]["name"] == "digits-cpu-amd64"
    assert made["cells"][0]["change"] == "new pods"
    assert any(name.startswith("ConfigMap/") for name in made["objects"]["created"])


def test_a_plan_that_no_node_can_hold_ends_with_2_in_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path / "all.yaml", model(), deployment(placement={"accelerators": ["npu"]}))
    nodes = write(tmp_path / "nodes.yaml", node())
    assert main(["plan", "-f", files, "--nodes", nodes, "-o", "json"]) == Exit.NO_NODE
    (made,) = json.loads(capsys.readouterr().out)
    assert [one["node"] for one in made["rejectedNodes"]] == ["node-a"]


def test_every_exit_status_is_documented() -> None:
    text = (Path(__file__).parents[4] / "docs" / "cli.md").read_text()
    assert all(f"\n| {code.value} | " in text for code in Exit)
