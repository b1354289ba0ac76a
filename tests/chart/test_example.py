"""The first model that the chart brings: manifests that are whole, in a ConfigMap."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import yaml

from helm_chart import Rendered
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel

Render = Callable[..., Rendered]


def example(rendered: Rendered) -> Rendered:
    """Return the manifests in the ConfigMap."""
    return Rendered(rendered.one("ConfigMap", "skerry-example")["data"]["manifests"])


def namespaces(found: Rendered) -> set[str | None]:
    names = {item["metadata"].get("namespace") for item in found.manifests}
    return names - {None}


def test_the_file_is_the_one_that_the_model_names_and_doubles(render: Render) -> None:
    found = example(render())
    (content,) = found.one("ConfigMap")["binaryData"].values()
    file = base64.b64decode(content)
    source = found.one("EdgeModel")["spec"]["variants"][0]["source"]
    assert source["sha256"] == hashlib.sha256(file).hexdigest()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.array([[1, 2, 3]], np.float32)})
    assert answer.tolist() == [[2, 4, 6]]


def test_the_address_of_the_file_is_that_of_its_own_service(render: Render) -> None:
    found = example(render())
    service = found.one("Service")["metadata"]
    uri = found.one("EdgeModel")["spec"]["variants"][0]["source"]["uri"]
    assert uri.startswith(f"http://{service['name']}.{service['namespace']}.svc/")


def test_our_own_kinds_are_what_the_operator_takes(render: Render) -> None:
    found = example(render())
    EdgeModel.model_validate(found.one("EdgeModel"))
    EdgeDeployment.model_validate(found.one("EdgeDeployment"))


def test_it_has_a_namespace_of_its_own_that_refuses_all_but_harmless_pods(render: Render) -> None:
    found = example(render())
    namespace = found.one("Namespace")["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert namespaces(found) == {namespace["name"]}


def test_it_goes_where_the_operator_looks(render: Render) -> None:
    found = example(render({"watchNamespaces": ["harbour", "pier"]}))
    assert found.all("Namespace") == []
    assert namespaces(found) == {"harbour"}


def test_its_file_server_runs_in_the_image_of_the_model_pods(render: Render) -> None:
    values: dict[str, Any] = {
        "runtimeImage": {"registry": "mirror.example", "repository": "edge/runtime", "tag": "7"},
        "modelPods": {"imagePullSecrets": [{"name": "models"}]},
    }
    pod = example(render(values)).pod
    assert pod["containers"][0]["image"] == "mirror.example/edge/runtime:7"
    assert pod["imagePullSecrets"] == [{"name": "models"}]


def test_it_can_be_left_out(render: Render) -> None:
    rendered = render({"example": {"enabled": False}})
    assert "skerry-example" not in rendered.text
    assert "double.onnx" not in yaml.safe_dump(rendered.manifests)
