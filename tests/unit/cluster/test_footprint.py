"""What the development cluster makes on the host, and who else is there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skerry_cluster import footprint, strangers, teardown
from skerry_cluster.command import ClusterError
from skerry_cluster.settings import Layout
from skerry_cluster.strangers import Process

WITHIN_S = 60


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "state" / "made.json"


def test_what_was_made_goes_with_the_parents_that_were_made_for_it(
    tmp_path: Path, record: Path
) -> None:
    there = tmp_path / "var"
    there.mkdir()
    footprint.make_folders(record, [f"{there}/lib/kubelet", f"{there}/lib/cni"])
    assert (there / "lib/kubelet").is_dir()
    footprint.remove(record)
    assert list(there.iterdir()) == []
    assert not record.exists()


def test_what_was_there_before_stays(tmp_path: Path, record: Path) -> None:
    (tmp_path / "lib/kubelet").mkdir(parents=True)
    footprint.make_folders(record, [f"{tmp_path}/lib/kubelet", f"{tmp_path}/lib/cni"])
    footprint.remove(record)
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["kubelet"]


def test_a_second_up_keeps_the_record_of_the_first(tmp_path: Path, record: Path) -> None:
    for _ in range(2):
        footprint.make_folders(record, [f"{tmp_path}/kubelet"])
    footprint.remove(record)
    assert not (tmp_path / "kubelet").exists()


def test_a_folder_that_holds_something_by_now_stays(tmp_path: Path, record: Path) -> None:
    footprint.make_folders(record, [f"{tmp_path}/kubelet"])
    (tmp_path / "kubelet/config").touch()
    footprint.remove(record)
    assert (tmp_path / "kubelet/config").exists()


def test_a_folder_that_somebody_made_anew_stays(tmp_path: Path, record: Path) -> None:
    footprint.make_folders(record, [f"{tmp_path}/kubelet"])
    (tmp_path / "other").mkdir()  # made while the first one has its number
    (tmp_path / "kubelet").rmdir()
    (tmp_path / "other").rename(tmp_path / "kubelet")
    footprint.remove(record)
    assert (tmp_path / "kubelet").is_dir()


@pytest.mark.parametrize("text", [None, "", "{}", '{"folders": [1], "mounts": []}', "[]"])
def test_without_a_record_nothing_is_removed(
    tmp_path: Path, record: Path, text: str | None
) -> None:
    (tmp_path / "kubelet").mkdir()
    if text is not None:
        record.parent.mkdir()
        record.write_text(text)
    footprint.remove(record)
    assert (tmp_path / "kubelet").is_dir()


@contextmanager
def mounted_over_elsewhere(folder: Path, content: Path) -> Iterator[None]:
    """Mount `content` over a folder in a mount namespace that this process is not in."""
    script = f"mount --bind {content} {folder} && echo ready && exec sleep infinity"
    argv = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_folder_over_which_another_kubernetes_has_mounted_its_own_stays(
    tmp_path: Path, record: Path
) -> None:
    folder, theirs = tmp_path / "kubelet", tmp_path / "theirs"
    theirs.mkdir()
    footprint.make_folders(record, [str(folder)])
    with mounted_over_elsewhere(folder, theirs):
        assert list(folder.iterdir()) == []  # empty, as it is seen from here
        footprint.remove(record)
        assert folder.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("is_there_before", [True, False])
def test_only_a_mount_that_came_with_the_cluster_is_taken_away(
    tmp_path: Path, record: Path, *, is_there_before: bool
) -> None:
    point = tmp_path / "netns"
    point.mkdir()
    mount = ["mount", "--bind", str(point), str(point)]
    mounts = lambda: footprint.mount_points(Path("/proc/self/mountinfo").read_text())  # noqa: E731
    try:
        if is_there_before:
            subprocess.run(mount, check=True)
        footprint.expect_mount(record, point)
        if not is_there_before:
            subprocess.run(mount, check=True)
        footprint.make_folders(record, [])  # a second up
        footprint.remove(record)
        assert (str(point) in mounts()) is is_there_before
    finally:
        subprocess.run(["umount", "--quiet", str(point)], check=False)


def test_a_state_folder_with_somebody_else_s_folders_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / "cache")
    (tmp_path / "pki").mkdir()
    with pytest.raises(ClusterError, match="pki"):
        footprint.require_own_state(layout, teardown.STATE)


def test_a_state_folder_of_a_cluster_or_an_empty_one_is_taken(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / "cache")
    footprint.require_own_state(layout, teardown.STATE)
    footprint.make_folders(layout.made, [])
    (tmp_path / "pki").mkdir()
    footprint.require_own_state(layout, teardown.STATE)


@pytest.mark.parametrize(
    ("name", "program", "is_one"),
    [
        ("kubelet", "/usr/bin/kubelet", True),
        ("k3s-server", "/usr/local/bin/k3s server", True),
        ("k3s", "/usr/local/bin/k3s", True),
        ("kubelite", "/snap/microk8s/1/kubelite", True),
        ("exe", "/opt/bin/kubelet", True),
        ("rke2", "/usr/local/bin/rke2", True),
        ("bash", "bash", False),
        ("vi", "vi", False),
        ("kubectl", "/usr/bin/kubectl", False),
        ("kubelet", "", False),
        ("python3", "python3", False),
    ],
)
def test_another_kubernetes_is_known_by_its_programs(
    name: str, program: str, *, is_one: bool
) -> None:
    assert Process(7, name, program).is_kubernetes is is_one


def test_the_cluster_s_own_kubelets_are_no_strangers() -> None:
    running = [Process(pid, "kubelet", "/cache/bin/kubelet") for pid in (7, 8)]
    assert strangers.others(iter(running), {7}) == running[1:]
    assert strangers.others(iter(running), {7, 8}) == []
