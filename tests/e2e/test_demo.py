"""The demo's story, as `make demo` tells it."""

from __future__ import annotations

import json
import subprocess
import sys

from digits_demo.cluster import REPOSITORY


def test_the_demo_promotes_v2_and_takes_v3_and_v4_back_without_losing_a_request(
    settings_come_back: None,
) -> None:
    script = REPOSITORY / "examples/digits/demo.py"
    done = subprocess.run([sys.executable, str(script)], check=False, timeout=600)
    report = json.loads((REPOSITORY / "build/demo/report.json").read_text("utf-8"))
    assert done.returncode == 0
    assert [rollout["outcome"] for rollout in report["rollouts"]][-3:] == [
        "Promoted",
        "RolledBack",
        "RolledBack",
    ]
    assert report["requests"] > 1000
    assert report["failedRequests"] == 0
    assert report["restarts"] == 0
    profiles = {node["name"]: node["profile"] for node in report["nodes"]}
    assert profiles == {"node-a": "simulated-npu", "node-b": "simulated-gpu", "node-c": "cpu"}
    assert (REPOSITORY / "build/demo/timeline.png").stat().st_size > 10_000
