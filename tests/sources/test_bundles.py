"""Signature bundles that were attached to an artefact in a real registry, as people do it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

import pytest

from fetching import TUNING, Fetching, sha256_of
from local_registry import running_registry
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.bundles import bundles_at
from skerry_runtime.agent.sources.keyring import read_keyring
from skerry_runtime.agent.urls import place_of_bundle
from skerry_runtime.trust.bundle import BUNDLE_MEDIA_TYPE
from sources.oras import Oras

BODY = b"a model " * 1000
BUNDLE, OTHER = b'{"a": "bundle"}', b'{"another": "one"}'


@pytest.fixture(scope="module")
def oras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oras]:
    """A registry without the referrers API: what refers is found by a tag."""
    folder = tmp_path_factory.mktemp("open")
    with running_registry(folder) as registry:
        yield Oras(registry, folder / "files")


async def found(fetching: Fetching, oras: Oras, place: str) -> Sequence[bytes]:
    name = fetching.secret(hosts=f"http://{oras.registry.address}")
    keyring = read_keyring(fetching.root / "secrets", name)
    uri = f"oci://{oras.registry.address}/{place}"
    return await bundles_at(uri, sha256_of(BODY), keyring, TUNING)


@pytest.mark.parametrize("form", [":{tag}", "@{digest}"])
async def test_a_bundle_that_was_attached_is_found(
    fetching: Fetching, oras: Oras, form: str
) -> None:
    # a repository each: two pushes within one second make one manifest, with two that refer to it
    repository = f"models/by-{'tag' if 'tag' in form else 'digest'}"
    digest = oras.push(f"{repository}:1", {"model.onnx": BODY})
    oras.attach(f"{repository}:1", {"a.sig": BUNDLE}, BUNDLE_MEDIA_TYPE)
    place = f"{repository}{form.format(tag='1', digest=digest)}"
    assert await found(fetching, oras, place) == [BUNDLE]


async def test_of_all_that_refers_only_bundles_are_read_and_all_of_them(
    fetching: Fetching, oras: Oras
) -> None:
    oras.push("models/many:1", {"model.onnx": BODY})
    oras.attach("models/many:1", {"sbom.json": b"{}"}, "application/spdx+json")
    oras.attach("models/many:1", {"a.sig": BUNDLE}, BUNDLE_MEDIA_TYPE)
    oras.attach("models/many:1", {"b.sig": OTHER}, BUNDLE_MEDIA_TYPE)
    assert sorted(await found(fetching, oras, "models/many:1")) == sorted([BUNDLE, OTHER])


async def test_an_artefact_that_nothing_refers_to_is_told_with_the_remedy(
    fetching: Fetching, oras: Oras
) -> None:
    oras.push("models/bare:1", {"model.onnx": BODY + b"bare"})
    with pytest.raises(Refused, match=r"the model's signature: .* nothing of type .* refers to it"):
        await found(fetching, oras, "models/bare:1")


async def test_what_was_signed_may_be_an_index_or_the_manifest_in_it(
    fetching: Fetching, oras: Oras
) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    ours = ("--artifact-platform", f"linux/{machine}")
    oras.push("models/inner:1", {"model.onnx": BODY + b"inner"}, "", *ours)
    oras.attach("models/inner:1", {"a.sig": BUNDLE}, BUNDLE_MEDIA_TYPE)
    oras.index("models/inner:all", "1")
    assert await found(fetching, oras, "models/inner:all") == [BUNDLE]
    oras.attach("models/inner:all", {"b.sig": OTHER}, BUNDLE_MEDIA_TYPE)
    assert await found(fetching, oras, "models/inner:all") == [OTHER, BUNDLE]


def test_a_place_beside_a_file_is_named_after_it() -> None:
    assert place_of_bundle("s3://models/a.onnx") == "s3://models/a.onnx.sig"
    assert place_of_bundle("pvc://claim/a.onnx") == "pvc://claim/a.onnx.sig"
    assert place_of_bundle("https://a.example/b%20c?d=e") == "https://a.example/b%20c.sig?d=e"
    assert place_of_bundle("hf://o/r/a.onnx@" + "0" * 40) == "hf://o/r/a.onnx.sig@" + "0" * 40
    assert place_of_bundle("oci://a/b@sha256:c") == "oci://a/b@sha256:c"
