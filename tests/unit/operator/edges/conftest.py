from __future__ import annotations

from collections.abc import Iterator

import pytest

from fake_kube import FakeKube, client_of, serving_fake
from skerry_operator.kube.client import KubeClient


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with serving_fake() as fake:
        yield fake


@pytest.fixture
def client(kube: FakeKube) -> Iterator[KubeClient]:
    with client_of(kube) as client:
        yield client
