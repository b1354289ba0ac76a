"""What people are told when a cluster does not answer as it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_kube import Answer, FakeKube, client_of, refusal, serving_fake
from skerry_operator.ctl.answer import Declined, Exit
from skerry_operator.ctl.cli import main
from skerry_operator.ctl.cluster import CHILDREN, Cluster
from skerry_operator.kube.access import Access
from skerry_operator.kube.paths import BUILDS
from skerry_operator.manifests.metadata import API_VERSIONS

PAGE = Answer(404, b"404 page not found")
"""What an API server says of a group that it does not know."""
NAMED = "GET edgedeployments/digits"


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with serving_fake() as fake:
        yield fake


@pytest.fixture
def cluster(kube: FakeKube) -> Iterator[Cluster]:
    with client_of(kube) as client:
        yield Cluster(Access(client, "edge"), "edge")


@pytest.fixture
def kubeconfig(kube: FakeKube, tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(f"""
apiVersion: v1
kind: Config
current-context: fake
contexts: [{{name: fake, context: {{cluster: fake, user: me, namespace: edge}}}}]
clusters: [{{name: fake, cluster: {{server: "{kube.url}"}}}}]
users: [{{name: me, user: {{}}}}]
""")
    return str(path)


def test_a_cluster_without_our_definitions_says_so(kube: FakeKube, cluster: Cluster) -> None:
    kube.script(NAMED, PAGE)
    with pytest.raises(Declined, match="does not know Skerry's resources"):
        cluster.deployment("digits")


def test_every_kind_that_the_operator_generates_is_read() -> None:
    assert {*CHILDREN, *BUILDS} == set(API_VERSIONS)


def test_a_list_in_a_cluster_without_our_definitions_says_so(
    kube: FakeKube, cluster: Cluster
) -> None:
    kube.script("GET edgedeployments", PAGE)
    with pytest.raises(Declined, match="does not know Skerry's resources"):
        cluster.deployments()


def test_what_may_not_be_read_beside_the_object_is_left_out(
    kube: FakeKube, cluster: Cluster
) -> None:
    kube.put(
        "/apis/skerry.dev/v1alpha1/namespaces/edge/edgedeployments/digits",
        {"metadata": {"name": "digits"}, "spec": {"modelRef": {"name": "digits"}}},
    )
    kube.script("GET controllerrevisions", refusal(403, "Forbidden"))
    kube.script("GET events", refusal(403, "Forbidden"))
    story = cluster.story("digits")
    assert (story.title, story.events, story.wanted) == ("edge/digits", (), None)


@pytest.mark.parametrize(
    ("code", "remedy"), [(403, "ask for the right"), (503, "`kubectl cluster-info` tells")]
)
def test_an_error_of_the_server_is_one_line_with_a_remedy(
    code: int, remedy: str, kube: FakeKube, kubeconfig: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kube.script(NAMED, refusal(code, "No", "not\nnow"))
    assert main(["--kubeconfig", kubeconfig, "status", "digits"]) == Exit.REFUSED
    said = capsys.readouterr().err
    assert (remedy in said, said.count("\n")) == (True, 1)
