"""What failed for a reason that has passed is tried again: by a person's word, and by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.lab import NODES, Lab

LONG_CANARY = {"steps": [{"units": "1", "soak": "60s"}, {"units": "100%", "soak": "1s"}]}


@pytest.fixture(scope="module", autouse=True)
def stable(lab: Lab) -> None:
    lab.start_stable()


@contextmanager
def missing(files: Path, name: str) -> Iterator[None]:
    """Take a file from the model server for a while."""
    file = files / name
    away = file.rename(file.with_name(f"{name}.away"))
    try:
        yield
    finally:
        away.rename(file)


def test_a_file_that_was_missing_and_is_there_is_promoted_by_a_retry(lab: Lab, files: Path) -> None:
    model = lab.index.model("v2")
    with missing(files, model.file.name):
        lab.apply(lab.model("v2"))
        lab.wait_rolled_back(model.version, "HTTP 404")
    told = lab.skerry("retry", "digits")
    assert told.returncode == 0, told.stderr
    status = lab.wait_stable(model.version)
    assert status.failed_revisions == ()
    assert set(lab.versions().values()) == {model.version}


def test_a_unit_that_refuses_stable_tries_it_again_on_a_retry(lab: Lab, files: Path) -> None:
    model, node = lab.index.model("v2"), NODES[2]
    with missing(files, model.file.name):
        lab.kubectl("delete", "pod", lab.pods()[node].name)  # the new one has an empty disk
        refused = lambda: "HTTP 404" in lab.condition("Available")[2]  # noqa: E731
        lab.wait(refused, f"{node} cannot fetch what is stable")
    assert lab.skerry("retry", "digits").returncode == 0
    lab.wait_serves(node, model.version)
    lab.wait_stable(model.version)


def test_what_was_aborted_starts_again_once_the_abort_is_cleared(lab: Lab) -> None:
    new = "2.0.0-aborted"
    lab.apply(lab.deployment(rollout=LONG_CANARY), lab.model("v1", version=new))
    lab.wait(lambda: lab.status().rollout.stage == "Soaking", "the canary is being watched")
    assert lab.skerry("abort", "digits").returncode == 0
    lab.wait_rolled_back(new, "Aborted")
    told = lab.skerry("retry", "digits")
    assert told.returncode == 1
    assert "--clear-abort" in told.stderr
    assert lab.skerry("retry", "digits", "--clear-abort").returncode == 0
    lab.wait(lambda: lab.status().rollout.stage == "Soaking", "it is tried again")
    lab.apply(lab.deployment())
    lab.wait_stable(new)
