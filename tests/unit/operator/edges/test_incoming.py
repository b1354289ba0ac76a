"""Lists and watches as they come in: whole when small, cut down when large, never all at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from owned import made
from skerry_operator.kube.incoming import OBJECT_LIMIT, LineReader, ListReader, TooLong
from skerry_operator.kube.read import child_entry, pod_entry
from skerry_operator.kube.slim import LARGE

Raw = dict[str, Any]


def config_map(name: str, size: int) -> Raw:
    metadata = {"name": name, "namespace": "edge", "uid": name, "resourceVersion": "1"}
    return made({"metadata": metadata, "data": {"assignment.json": "é" * (size // 6)}})


def text_of(items: list[Raw], *, sorted_keys: bool = False) -> bytes:
    whole = {
        "kind": "ConfigMapList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "7", "continue": "x"},
        "items": items,
    }
    return json.dumps(whole, separators=(",", ":"), sort_keys=sorted_keys).encode()


def read(data: bytes, step: int, kind: str = "ConfigMap") -> Raw:
    reader = ListReader(kind)
    for start in range(0, len(data), step):
        for _ in reader.feed(data[start : start + step]):
            pass
    reader.hurry()
    for _ in reader.feed(b""):
        pass
    return reader.result()


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("sorted_keys", [False, True], ids=["built-in kinds", "custom resources"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_of_small_objects_comes_through_as_it_is(
    count: int, sorted_keys: bool, step: int
) -> None:
    data = text_of([config_map(f"c{n}", 60) for n in range(count)], sorted_keys=sorted_keys)
    assert read(data, step) == json.loads(data)


def test_a_large_object_keeps_what_is_read_of_it() -> None:
    large = config_map("a", 2 * LARGE)
    large["metadata"]["annotations"]["junk"] = "x" * LARGE
    (item,) = read(text_of([large]), 4096)["items"]
    assert "junk" not in item["metadata"]["annotations"]
    assert child_entry("ConfigMap", item) == child_entry("ConfigMap", large)


def test_a_content_that_is_too_large_is_left_out_and_is_no_empty_one() -> None:
    (item,) = read(text_of([config_map("a", 1_500_000)]), 65536)["items"]
    assert len(json.dumps(item)) < 2000
    entry = child_entry("ConfigMap", item)
    assert (entry.value.fingerprint, entry.value.is_ours) == ("", True)


def test_a_large_pod_keeps_where_it_is() -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "edge", "annotations": {"x": "y" * LARGE}},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    }
    (item,) = read(text_of([pod]), 4096, "Pod")["items"]
    assert len(json.dumps(item)) < 1000
    assert (pod_entry(item).value.node, pod_entry(item).value.ip) == ("n", "10.0.0.1")


def test_no_more_than_one_object_is_held_beside_what_is_kept() -> None:
    data = text_of([config_map(f"c{n}", 1_500_000) for n in range(6)])
    reader, most = ListReader("ConfigMap"), 0
    for start in range(0, len(data), 65536):
        for _ in reader.feed(data[start : start + 65536]):
            most = max(most, len(reader._text))
    assert most < 4_000_000


def test_a_list_that_breaks_off_is_an_error_and_so_is_one_object_without_an_end() -> None:
    with pytest.raises(TooLong, match="breaks off"):
        read(text_of([config_map("a", 60)])[:-40], 100)
    reader = ListReader("ConfigMap")
    list(reader.feed(b'{"items":[{'))
    with pytest.raises(TooLong, match="more than"):
        list(reader.feed(b"x" * (OBJECT_LIMIT + 1)))


def test_an_answer_that_is_no_list_comes_through_as_it_is() -> None:
    assert read(b'{"kind":"Status","code":410}', 5) == {"kind": "Status", "code": 410}


@pytest.mark.parametrize("step", [1, 1000, 10**7])
def test_the_lines_of_a_watch_stay_lines_and_large_ones_are_cut(step: int) -> None:
    small, large = config_map("a", 60), config_map("b", 1_500_000)
    if step == 1:
        large = config_map("b", 200)
    events = [{"type": "ADDED", "object": one} for one in (small, large, small)]
    data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    reader, lines = LineReader("ConfigMap"), []
    for start in range(0, len(data), step):
        lines += list(reader.feed(data[start : start + step]))
    first, second, third = (json.loads(line) for line in lines)
    assert first == third == events[0]
    assert second["object"]["metadata"]["name"] == "b"
    assert all(len(line) <= LARGE for line in lines)
