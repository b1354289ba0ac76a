"""What happened, in order: of the deployment and all that belongs to it, and of no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from crd_objects import deployment, model
from ctl_objects import node
from skerry_operator.ctl.cli import CLOSED_PIPE
from skerry_operator.ctl.timeline import TIMELINE_LIMIT, happenings, timeline_json, timeline_text

OBJECTS = {("EdgeDeployment", "digits"), ("EdgeModel", "digits"), ("DaemonSet", "digits-cpu")}


def event(kind: str, name: str, second: int, **more: Any) -> dict[str, Any]:
    return {
        "involvedObject": {"kind": kind, "name": name},
        "lastTimestamp": f"2026-11-28T12:00:{second:02}Z",
        "type": "Normal",
        "reason": "Said",
        "message": f"at {second}",
        **more,
    }


def test_the_events_of_all_that_belongs_to_a_deployment_are_in_order() -> None:
    items = [
        event("Pod", "digits-cpu-x7k2p", 3),
        event("EdgeDeployment", "digits", 1),
        event("EdgeDeployment", "letters", 1),
        event("Pod", "letters-cpu-x7k2p", 2),
        event("DaemonSet", "digits-cpu", 2),
    ]
    found = [one.object for one in happenings(items, OBJECTS)]
    assert found == ["EdgeDeployment/digits", "DaemonSet/digits-cpu", "Pod/digits-cpu-x7k2p"]


def test_an_event_of_the_newer_form_has_its_time_and_count() -> None:
    series = {"lastObservedTime": "2026-11-28T12:00:09.123456Z", "count": 7}
    new = event("EdgeModel", "digits", 1, series=series, lastTimestamp=None)
    (found,) = happenings([new], OBJECTS)
    assert (found.when, found.count) == ("2026-11-28T12:00:09Z", 7)
    assert "(7 times)" in timeline_text("digits", (found,))
    assert timeline_json((found,))[0]["count"] == 7


def test_a_loud_deployment_shows_its_newest_events() -> None:
    items = [event("EdgeDeployment", "digits", n % 60) for n in range(TIMELINE_LIMIT + 9)]
    assert len(happenings(items, OBJECTS)) == TIMELINE_LIMIT


def test_without_events_people_are_told_how_long_they_are_kept() -> None:
    assert "for an hour" in timeline_text("digits", ())


def test_a_reader_that_has_enough_sees_no_traceback(tmp_path: Path) -> None:
    import yaml  # noqa: PLC0415 (for this test)

    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([model(), deployment()]))
    (tmp_path / "nodes.yaml").write_text(yaml.safe_dump(node("node-a")))
    files = ["-f", str(tmp_path / "all.yaml"), "--nodes", str(tmp_path / "nodes.yaml")]
    read, write = os.pipe()
    os.close(read)  # nobody reads
    command = [sys.executable, "-P", "-m", "skerry_operator.ctl", "plan", *files]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (CLOSED_PIPE, "")
