"""Manifest files -> the objects in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from skerry_operator.ctl.answer import Declined

Raw = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Reads dates as the text that they are, as kubectl does."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (declared so by the base class)
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class Written:
    """One object of a file."""

    origin: str
    """The file, and which of its objects it is."""
    body: Raw

    @property
    def kind(self) -> str:
        """Return the kind, or nothing."""
        return str(self.body.get("kind") or "")

    @property
    def metadata(self) -> Raw:
        """Return the metadata, empty when there is none."""
        metadata = self.body.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    @property
    def label(self) -> str:
        """Return `Kind/name` for people."""
        return f"{self.kind or 'object'}/{self.metadata.get('name') or '?'}"


def parse_documents(origin: str, text: str) -> tuple[Written, ...]:
    """Return the objects in a text of YAML or JSON, those in Lists too.

    Raises:
        Declined: it is no YAML, or holds something else than objects.
    """
    try:
        bodies = [body for body in yaml.load_all(text, _Loader) if body is not None]
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise Declined(f"{origin}: not YAML: {where}: correct the file") from error
    objects = [item for body in bodies for item in _items(origin, body)]
    return tuple(
        Written(f"{origin} (object {index})" if len(objects) > 1 else origin, item)
        for index, item in enumerate(objects, 1)
    )


def node_bodies(documents: Iterable[Written]) -> tuple[Raw, ...]:
    """Return the nodes among the objects.

    Raises:
        Declined: there is none.
    """
    nodes = tuple(one.body for one in documents if one.kind == "Node" and one.metadata.get("name"))
    if not nodes:
        raise Declined("--nodes: no Node in the file: write it with `kubectl get nodes -o yaml`")
    return nodes


def _items(origin: str, body: object) -> Iterator[Raw]:
    items = body if isinstance(body, list) else [body]
    for item in items:
        if not isinstance(item, dict):
            raise Declined(f"{origin}: holds {item!r} where an object should be: correct the file")
        if str(item.get("kind", "")).endswith("List") and isinstance(item.get("items"), list):
            yield from _items(origin, item["items"])
        else:
            yield item
