"""What people are told who bring the images to their own nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skerry_cluster import handover
from skerry_cluster.images import TAG_LENGTH

TAGS = [f"{number:0{TAG_LENGTH}x}" for number in range(3)]


def archive(folder: Path, name: str, tag: str) -> Path:
    path = folder / "cache" / f"{name}-{tag}.tar"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{name} {tag}")
    return path


def test_an_export_takes_the_place_of_the_image_s_earlier_ones_and_of_no_other(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "exports"
    for tag in TAGS[:2]:
        handover.export(archive(tmp_path, "runtime", tag), folder)
    handover.export(archive(tmp_path, "runtime-openvino", TAGS[0]), folder)
    (folder / "notes.tar").touch()
    last = handover.export(archive(tmp_path, "runtime", TAGS[2]), folder)
    assert last.read_text() == f"runtime {TAGS[2]}"
    assert {path.name for path in folder.iterdir()} == {
        "notes.tar",
        f"skerry-runtime-openvino-{TAGS[0]}.tar",
        f"skerry-runtime-{TAGS[2]}.tar",
    }


def test_the_same_export_twice_is_there_once(tmp_path: Path) -> None:
    source = archive(tmp_path, "operator", TAGS[0])
    assert handover.export(source, tmp_path / "e") == handover.export(source, tmp_path / "e")


def test_an_export_to_another_file_system_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    file = handover.export(archive(tmp_path, "operator", TAGS[0]), tmp_path / "e")
    assert file.read_text() == f"operator {TAGS[0]}"


@pytest.mark.parametrize(
    ("references", "settings"),
    [
        pytest.param(
            {"operator": "localhost/skerry/operator:1", "runtime": "localhost/skerry/runtime:2"},
            "--set-string image.tag=1 --set-string runtimeImage.tag=2",
            id="on the nodes: the chart's own names",
        ),
        pytest.param(
            {"operator": "mirror.example:5000/team/skerry/operator:1"},
            "--set-string image.registry=mirror.example:5000/team,image.tag=1",
            id="a registry with a path",
        ),
        pytest.param(
            {"runtime-openvino": "localhost/skerry/runtime-openvino:3"},
            "--set-string runtimeImages.openvino.tag=3",
            id="a flavor",
        ),
    ],
)
def test_the_helm_command_names_what_the_chart_does_not_know(
    references: dict[str, str], settings: str
) -> None:
    assert handover.helm_command(references).endswith(f"--create-namespace {settings}")


def test_of_an_image_that_the_chart_does_not_name_only_the_file_is_told(tmp_path: Path) -> None:
    references = {"tritonserver-python-test": "localhost/skerry/tritonserver-python-test:1"}
    said = handover.instructions("no cluster", [tmp_path / "a.tar"], references)
    assert f"  {tmp_path / 'a.tar'}" in said
    assert not any("helm" in line for line in said)
