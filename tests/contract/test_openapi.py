"""The served API document against the running server, driven by schemathesis."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving import models
from serving.running import InProcess, process
from skerry_runtime.rest.openapi import document

EXAMPLES = 15

SCHEMA = schemathesis.openapi.from_dict(document("digits"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with process(models.product(tmp_path_factory.mktemp("models") / "m.onnx")) as child:
        yield child


def test_the_document_is_served_in_both_places(server: InProcess) -> None:
    for path in ("/openapi.json", "/v2/docs"):
        with urllib.request.urlopen(f"http://{server.http}{path}", timeout=30) as answer:
            assert json.loads(answer.read()) == document("digits")


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
def test_every_answer_is_one_that_the_document_tells_of(
    case: schemathesis.Case, server: InProcess
) -> None:
    """No 5xx, a status that is listed, and a body of the schema that is given for it."""
    # What a model takes is more than a document can tell, so a request may fit and be refused.
    excluded = [positive_data_acceptance] if case.operation.path.endswith("/infer") else []
    case.call_and_validate(base_url=f"http://{server.http}", excluded_checks=excluded)


def test_an_inference_s_answer_is_as_the_document_tells(server: InProcess) -> None:
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
    case = SCHEMA["/v2/models/{name}/infer"]["POST"].Case(
        path_parameters={"name": "digits"}, body={"inputs": [entry]}, media_type="application/json"
    )
    answer = case.call_and_validate(base_url=f"http://{server.http}")
    assert answer.status_code == 200
