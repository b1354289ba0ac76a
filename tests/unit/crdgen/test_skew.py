"""A served definition that is not the operator's own is told with what differs and what to do."""

from __future__ import annotations

import copy
import re
from typing import Any

from skerry_operator.crdgen.definitions import KINDS, definition
from skerry_operator.crdgen.skew import skews


def served() -> dict[str, Any]:
    schemas = {}
    for kind in KINDS:
        schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        group = {"group": "skerry.dev", "version": "v1alpha1", "kind": kind.name}
        schemas[kind.name] = {**schema, "x-kubernetes-group-version-kind": [group]}
    return {"components": {"schemas": copy.deepcopy(schemas)}}


def status_of(document: dict[str, Any], kind: str = "EdgeDeployment") -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][kind]["properties"]["status"]
    return found


def told(document: dict[str, Any]) -> str:
    return "; ".join(str(skew) for skew in skews(document))


def test_the_operator_s_own_definitions_do_not_differ() -> None:
    assert told(served()) == ""


def test_a_field_that_would_be_dropped_is_named_with_the_remedy() -> None:
    older = served()
    del status_of(older)["properties"]["cells"]["items"]["properties"]["maxOutageMs"]
    text = told(older)
    assert "CRD edgedeployments.skerry.dev is not this operator's" in text
    assert "status.cells[].maxOutageMs" in text
    assert "skerry-operator crds | kubectl apply" in text


def test_words_and_lengths_that_would_be_refused_are_named() -> None:
    older = served()
    fields = status_of(older)["properties"]
    fields["phase"]["enum"].remove("Degraded")
    fields["failedRevisions"]["maxItems"] = 5
    text = told(older)
    assert "status.phase = Degraded" in text
    assert "status.failedRevisions beyond 5" in text


def test_a_newer_definition_asks_for_a_newer_operator() -> None:
    newer = served()
    status_of(newer, "EdgeModel")["properties"]["attestations"] = {"type": "string"}
    text = told(newer)
    assert "CRD edgemodels.skerry.dev" in text
    assert "status.attestations: upgrade the operator" in text


def test_many_differences_are_counted() -> None:
    older = served()
    status_of(older)["properties"].clear()
    assert re.search(r"and [1-9][0-9]* more", told(older))
    assert len(told(older)) < 500


def test_what_is_no_document_says_nothing() -> None:
    assert skews({}) == ()
    assert skews({"components": None}) == ()
