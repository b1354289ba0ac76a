"""The archives that people take to their nodes, in a node's own containerd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digits_demo.cluster import Access
from e2e.lab import NODES, WITHIN_S
from skerry_cluster import cluster, handover
from skerry_cluster.command import CommandError, run
from skerry_cluster.images import choose, ensure_archive, read_inputs
from skerry_cluster.settings import Layout
from skerry_cluster.waiting import wait_until

APART = "skerry-archives"
"""A namespace of containerd that no kubelet sees."""
Ctr = Callable[..., str]


def is_removed(ctr: Ctr) -> bool:
    """Try to remove the namespace; its layers go some time after the image that had them."""
    try:
        ctr("namespaces", "rm", APART)
    except CommandError:
        return False
    return True


@pytest.fixture
def ctr(access: Access) -> Iterator[Ctr]:
    """Ask the containerd of a node, apart from its pods."""
    del access
    node = cluster.find_node(Layout.from_environment(), NODES[2])

    def do(*words: str) -> str:
        return run(*node.inside("ctr", "-n", APART, *words))

    try:
        yield do
    finally:
        for name in do("images", "ls", "-q").split():
            do("images", "rm", name)
        wait_until("the namespace can go", lambda: is_removed(do), timeout_s=WITHIN_S)


@pytest.mark.parametrize("name", ["operator", "runtime"])
def test_an_archive_brings_the_image_under_the_name_that_the_chart_asks_for(
    name: str, ctr: Ctr, tmp_path: Path, images: dict[str, str]
) -> None:
    (image,) = choose(name, everything=False)
    archive = ensure_archive(Layout.from_environment(), read_inputs(image))
    file = handover.export(archive, tmp_path)
    ctr("images", "import", str(file))
    assert ctr("images", "ls", "-q").split() == [images[name]]
    assert images[name].startswith(f"localhost/skerry/{name}:")
