"""Memory limits as the kernel's two generations of cgroups tell them."""

from __future__ import annotations

from pathlib import Path

from skerry_runtime.agent.host import Host


def write(root: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root)


def test_version_2_in_a_container(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "600\n",
            "sys/fs/cgroup/memory.stat": "anon 400\ninactive_file 150\n",
        },
    )
    assert host.available_bytes() == 550


def test_version_2_without_a_limit_falls_back_to_the_machine(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/meminfo": "MemTotal: 10 kB\nMemAvailable:    7 kB\n",
            "sys/fs/cgroup/memory.max": "max\n",
            "sys/fs/cgroup/memory.current": "600\n",
        },
    )
    assert host.available_bytes() == 7 * 1024


def test_version_1_counts_the_page_cache_as_free(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/kubepods/pod1\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1900",
            "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 300\n",
        },
    )
    assert host.available_bytes() == 400


def test_the_tightest_cgroup_counts(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory"
    host = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/kubepods/pod1\n",
            f"{base}/memory.limit_in_bytes": "9223372036854771712",
            f"{base}/memory.usage_in_bytes": "5000",
            f"{base}/kubepods/memory.limit_in_bytes": "4000",
            f"{base}/kubepods/memory.usage_in_bytes": "3900",
            f"{base}/kubepods/pod1/memory.limit_in_bytes": "1000",
            f"{base}/kubepods/pod1/memory.usage_in_bytes": "500",
        },
    )
    assert host.available_bytes() == 100


def test_nothing_known_is_none(tmp_path: Path) -> None:
    assert Host(tmp_path).available_bytes() is None
    assert Host(tmp_path).rss_bytes() is None


def test_the_real_machine_answers() -> None:
    assert (Host().available_bytes() or 0) > 0
    assert (Host().rss_bytes() or 0) > 0
