"""Files -> objects."""

from __future__ import annotations

import pytest

from ctl_objects import node
from skerry_operator.ctl.answer import Declined
from skerry_operator.ctl.documents import node_bodies, parse_documents
from skerry_operator.ctl.table import as_json


def test_every_object_of_a_file_knows_which_it_is() -> None:
    found = parse_documents("a.yaml", "kind: A\n---\n---\nkind: B\n")
    assert [(one.kind, one.origin) for one in found] == [
        ("A", "a.yaml (object 1)"),
        ("B", "a.yaml (object 2)"),
    ]


def test_the_items_of_a_list_are_objects() -> None:
    text = as_json({"kind": "List", "items": [node("a"), node("b")]})
    assert [body["metadata"]["name"] for body in node_bodies(parse_documents("n", text))] == [
        "a",
        "b",
    ]


def test_a_date_stays_text() -> None:
    (found,) = parse_documents("a.yaml", "spec: {version: 2026-11-23}")
    assert found.body["spec"] == {"version": "2026-11-23"}


@pytest.mark.parametrize(
    ("text", "why"),
    [("a: [", "not YAML"), ("- 1", "holds 1 where an object should be"), ("text", "holds 'text'")],
)
def test_what_holds_no_object_is_refused(text: str, why: str) -> None:
    with pytest.raises(Declined, match=why):
        parse_documents("a.yaml", text)


def test_a_file_without_nodes_is_no_nodes_file() -> None:
    with pytest.raises(Declined, match="kubectl get nodes -o yaml"):
        node_bodies(parse_documents("n", "kind: Pod"))
