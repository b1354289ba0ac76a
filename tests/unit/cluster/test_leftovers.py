"""How the development cluster recognises what is its own, and only that."""

from pathlib import Path

import pytest

from skerry_cluster import cgroups, containers, daemons, network, teardown
from skerry_cluster.settings import Layout

STATE = Path("/var/lib/skerry-cluster")


def test_processes_are_known_by_their_cgroup() -> None:
    assert daemons.belongs_to_cluster("9:pids:/skerry/system\n1:name=systemd:/\n")
    assert daemons.belongs_to_cluster("0::/skerry/node-a/kubepods/pod1/c1\n")
    assert not daemons.belongs_to_cluster("9:pids:/user/skerry\n")
    assert not daemons.belongs_to_cluster("0::/skerry-other\n")
    assert not daemons.belongs_to_cluster("")


def test_a_start_time_is_read_whatever_the_program_is_called() -> None:
    fields = " ".join(str(number) for number in range(4, 30))
    assert daemons.start_ticks(f"77 (a ) S 1 (b) S {fields}") == 22


def test_only_own_links_are_picked() -> None:
    names = ["eth0", "skerry0", "skv-node-a", "skerry01"]
    assert network.own_links(names) == ["skerry0", "skv-node-a"]
    assert network.own_links([]) == []


def test_looking_for_leftovers_needs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    teardown.find_leftovers(Layout(STATE, Path("/nowhere/cache")))


def test_only_own_namespaces_are_picked() -> None:
    assert network.own_namespaces(["skerry-node-a", "cni-1", "other-skerry-"]) == ["skerry-node-a"]


def test_cgroup_hierarchies_of_both_versions_are_found() -> None:
    text = "\n".join(
        [
            "30 25 0:26 / /sys/fs/cgroup/pids rw shared:1 - cgroup cgroup rw,pids",
            "31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            "32 25 0:28 /docker/1 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
            "33 25 8:1 / /home rw - ext4 /dev/sda1 rw",
        ]
    )
    found = [str(path) for path in cgroups.hierarchies(text)]
    assert found == ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"]
    unified = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    assert cgroups.hierarchies(unified) == [Path("/sys/fs/cgroup")]


def test_mounts_below_a_folder_come_deepest_first() -> None:
    text = "\n".join(
        [
            "1 0 8:1 / / rw - ext4 a rw",
            "2 1 8:1 /x /var/lib/skerry-cluster/a rw - ext4 a rw",
            "3 1 8:1 /x /var/lib/skerry-cluster/a/b rw - ext4 a rw",
            "4 1 8:1 /x /var/lib/skerry-cluster-2/a rw - ext4 a rw",
        ]
    )
    assert teardown.mounts_below(text, STATE) == [f"{STATE}/a/b", f"{STATE}/a"]


def test_a_process_inside_a_node_is_known_by_its_mounts() -> None:
    inside = f"9 1 8:1 {STATE}/nodes/node-a/kubelet /var/lib/kubelet rw - ext4 a rw"
    elsewhere = "9 1 8:1 /var/lib/other/kubelet /var/lib/kubelet rw - ext4 a rw"
    assert teardown.shows_node_folder(inside, STATE / "nodes")
    assert not teardown.shows_node_folder(elsewhere, STATE / "nodes")


def test_a_clean_machine_has_nothing_to_list() -> None:
    assert teardown.Leftovers().lines() == []
    found = teardown.Leftovers(processes=[7], links=["skerry0"])
    assert found.lines() == ["process 7", "link skerry0"]


def test_only_running_containers_can_be_killed() -> None:
    table = "TASK    PID     STATUS\nabc     123     RUNNING\ndef     0       STOPPED\n"
    assert containers.running_tasks(table) == {"abc": 123}


def test_what_a_killed_up_makes_after_the_removal_is_removed_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    late = [["skerry-node-c"], []]  # its `ip netns add` ends after the first removal
    removals: list[None] = []
    quiet: list[object] = []
    monkeypatch.setattr(cgroups, "kill_all", lambda: quiet)
    monkeypatch.setattr(cgroups, "remove", lambda: quiet)
    monkeypatch.setattr(cgroups, "pids", set)
    monkeypatch.setattr(cgroups, "folders", lambda: quiet)
    monkeypatch.setattr(network, "remove_all", lambda: removals.append(None))
    monkeypatch.setattr(network, "leftover_links", lambda: quiet)
    monkeypatch.setattr(
        network, "leftover_namespaces", lambda: late.pop(0) if len(late) > 1 else late[0]
    )
    monkeypatch.setattr(teardown.sysctls, "restore", lambda _: None)
    assert teardown.down(Layout(tmp_path / "state", tmp_path / "cache")).lines() == []
    assert len(removals) == 2
