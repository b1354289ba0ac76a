"""What a crash, a deleted cache or a program of the wrong kind leaves the cluster's code with."""

import json
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from skerry_cluster import daemons, files, packages, sysctls, tools
from skerry_cluster.command import ClusterError, run
from skerry_cluster.locks import alone
from skerry_cluster.settings import Layout

WITHIN_S = 20.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "cache")


def record(layout: Layout, pid: int, ticks: int | None) -> None:
    layout.pids.mkdir(parents=True, exist_ok=True)
    saved = {"pid": pid, "start_ticks": ticks}
    (layout.pids / "kine.json").write_text(json.dumps(saved))


def test_a_process_that_ended_at_once_is_not_taken_for_running(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "belongs_to_cluster", lambda _: True)
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody asked yet
    record(layout, process.pid, None)
    assert daemons.find(layout, "kine") is None
    process.wait()


def test_another_process_with_the_old_number_is_not_taken_for_ours(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "belongs_to_cluster", lambda _: True)
    ticks = daemons.start_ticks(Path("/proc/self/stat").read_text())
    record(layout, os.getpid(), ticks)
    assert daemons.find(layout, "kine") == os.getpid()
    record(layout, os.getpid(), ticks - 1)
    assert daemons.find(layout, "kine") is None


def test_our_number_outside_of_our_cgroup_is_not_taken_for_ours(layout: Layout) -> None:
    record(layout, os.getpid(), daemons.start_ticks(Path("/proc/self/stat").read_text()))
    assert daemons.find(layout, "kine") is None


@pytest.mark.parametrize("torn", ["", "{", '{"pid": 1'])
def test_a_torn_pid_file_names_no_process(layout: Layout, torn: str) -> None:
    layout.pids.mkdir(parents=True)
    (layout.pids / "kine.json").write_text(torn)
    assert daemons.find(layout, "kine") is None


def test_a_file_is_replaced_whole_and_keeps_its_secret(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "kubeconfig"
    files.write_if_changed(path, "one", 0o600)
    files.write_if_changed(path, "two", 0o600)
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["kubeconfig"]


def test_a_file_that_would_not_change_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "config"
    files.write_if_changed(path, "same")
    before = path.stat()
    files.write_if_changed(path, "same")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_kernel_settings_that_this_machine_lacks_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = tmp_path / "sys"
    (proc / "kernel").mkdir(parents=True)
    (proc / "kernel" / "panic").write_text("0\n")
    monkeypatch.setattr(sysctls, "_PROC", proc)
    saved = tmp_path / "state" / "sysctls.json"
    sysctls.remember(saved)
    (proc / "kernel" / "panic").write_text("10\n")
    sysctls.remember(saved)
    sysctls.restore(saved)
    assert (proc / "kernel" / "panic").read_text() == "0"
    assert not saved.exists()


def _work(lock: str, log: str) -> None:
    with alone(Path(lock)):
        for word in ("in", "out"):
            with Path(log).open("a") as out:
                out.write(f"{os.getpid()} {word}\n")
            time.sleep(0.01)


def test_runs_that_want_the_same_lock_come_one_after_the_other(tmp_path: Path) -> None:
    lock, log = tmp_path / "cache" / "lock", tmp_path / "log"
    fresh = multiprocessing.get_context("spawn")
    runs = [fresh.Process(target=_work, args=(str(lock), str(log))) for _ in range(3)]
    for process in runs:
        process.start()
    for process in runs:
        process.join(WITHIN_S)
        assert process.exitcode == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [word for _, word in lines] == ["in", "out"] * 3
    assert all(a[0] == b[0] for a, b in zip(lines[::2], lines[1::2], strict=True))


def test_a_holder_that_is_killed_frees_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom skerry_cluster.locks import alone\n"
        f"with alone(Path({str(lock)!r})):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    env = os.environ | {"PYTHONPATH": str(tools.SOURCES)}
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    with alone(lock):
        pass


def test_a_lock_that_was_deleted_with_the_cache_is_not_mistaken_for_held(tmp_path: Path) -> None:
    """Who waited for the deleted file must not run beside whoever locks the new one."""
    lock = tmp_path / "cache" / "lock"
    entered = threading.Event()

    def second() -> None:
        with alone(lock):
            entered.set()

    waiting = threading.Thread(target=second)
    with alone(lock):
        waiting.start()
        _await_waiter(lock)
        shutil.rmtree(lock.parent)
        newest = alone(lock)
        newest.__enter__()
    # The first lock is free now, but its file is gone: the second run queues behind `newest`.
    _await_waiter(lock)
    assert not entered.is_set()
    newest.__exit__(None, None, None)
    waiting.join(WITHIN_S)
    assert entered.is_set()


def _await_waiter(lock: Path) -> None:
    """Wait until someone is blocked on the lock file."""
    inode = str(lock.stat().st_ino)
    end = time.monotonic() + WITHIN_S
    while not any(
        "->" in line and line.split()[6].endswith(f":{inode}")
        for line in Path("/proc/locks").read_text().splitlines()
    ):
        assert time.monotonic() < end
        time.sleep(0.01)


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo go version go1.19.8 linux/amd64", "its version is 1.19, not 1.25 or newer"),
        ("echo no go here", "cannot read the version of Go from 'no go here"),
        ("echo broken shim >&2; exit 127", "broken shim"),
    ],
)
def test_a_go_of_no_use_is_passed_over_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, reason: str
) -> None:
    go = program(tmp_path, "go", script)
    assert not tools._is_new_enough(str(go))
    said = capsys.readouterr().err
    assert f"{go} is passed over" in said
    assert reason in said


def test_a_package_index_that_is_partly_away_does_not_end_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    script = f'echo "$DEBIAN_FRONTEND $*" >> {log}; case "$*" in *update*) exit 100;; esac'
    program(tmp_path, "apt-get", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(packages.os, "geteuid", lambda: 0)
    packages.install({"a-program-that-nobody-has": "some-package"})
    updated, installed = log.read_text().splitlines()
    assert updated.startswith("noninteractive ")
    assert "update" in updated
    assert installed.endswith("install -q -y --no-install-recommends some-package")


def test_who_is_not_root_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=r"some-package \(only root may\)"):
        packages.install({"a-program-that-nobody-has": "some-package"})


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(ClusterError, match="a-program-that-nobody-has cannot be run"):
        run("a-program-that-nobody-has")
