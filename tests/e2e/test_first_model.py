"""The first commands after an install, typed as the pages print them, on a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digits_demo.cluster import REPOSITORY, Access
from e2e.conftest import RELEASE
from e2e.lab import WITHIN_S
from typed import fenced, indented

NAMESPACE = "skerry-example"
PAGES = ("README.md", "charts/skerry/README.md")
REMOVE = "kubectl delete --ignore-not-found -f -"
Type = Callable[..., str]


@pytest.fixture(scope="module")
def notes(operator: str, helm: list[str]) -> list[str]:
    """The commands for the first model in what Helm prints after the install."""
    del operator
    text = subprocess.run(
        [*helm, "get", "notes", RELEASE], check=True, text=True, capture_output=True
    ).stdout
    return indented(text, "A first model", "It goes again")


@pytest.fixture
def type_in(access: Access) -> Iterator[Type]:
    """Return a shell of somebody who may administer the cluster; what it left running ends."""
    programs = {Path(access.kubectl).parent, Path(access.helm).parent}
    path = ":".join([*map(str, programs), os.environ["PATH"]])
    known = {"PATH": path, "KUBECONFIG": str(access.kubeconfig), "no_proxy": "127.0.0.1"}

    def do(*commands: str) -> str:
        # `jobs -p`: the port-forward, which a person ends with Ctrl-C
        script = "\n".join(["trap 'jobs -p | xargs -r kill' EXIT", *commands])
        typed = ["bash", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            typed, env=os.environ | known, text=True, capture_output=True, check=False,
            timeout=WITHIN_S * 2,
        )  # fmt: skip
        assert not done.returncode, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return do


@pytest.fixture
def removed(notes: list[str], type_in: Type) -> Iterator[None]:
    """Take the model away in the way that the notes name."""
    yield
    type_in(notes[0].replace("kubectl apply -f -", REMOVE))
    type_in(f"kubectl wait --for=delete namespace/{NAMESPACE} --timeout={WITHIN_S:.0f}s")


@pytest.mark.usefixtures("removed")
def test_what_the_notes_say_to_type_ends_in_an_answer_of_a_model(
    notes: list[str], type_in: Type
) -> None:
    assert notes[0].endswith("kubectl apply -f -")
    said = type_in(*notes)
    assert "{" in said, said
    answer, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])
    assert answer["outputs"][0]["data"] == [2.0, 4.0, 6.0]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_say_to_type_what_the_notes_say(page: str, notes: list[str]) -> None:
    text = (REPOSITORY / page).read_text()
    assert fenced(text, "A first model") == notes
    assert REMOVE in text
