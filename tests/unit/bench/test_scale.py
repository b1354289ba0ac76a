"""What bench-scale makes of an audit log and of the operator's metrics."""

from __future__ import annotations

from bench.scale_busy import STATUS, Change, percentiles
from bench.scale_figures import looked, looks
from bench.scale_world import _sites, sites_of
from fleet.audit import Request
from soak.attack import MAP_BYTES, Size, assignment_of
from soak.memory_limit import chart_limit_bytes


def request(at: float, kind: str, verb: str = "patch") -> Request:
    return Request(at, verb, kind, "d00001")


def test_the_last_child_is_that_before_the_second_status() -> None:
    requests = [
        request(10.1, "controllerrevisions"),
        request(10.2, STATUS),
        request(10.3, "configmaps"),
        request(10.4, "pods"),
        request(12.0, STATUS),
        request(12.1, "configmaps"),
    ]
    last_child_s = Change("d00001", 10.0, requests).last_child_s()
    assert last_child_s is not None
    assert round(last_child_s, 6) == 0.4


def test_events_gets_and_statuses_are_no_children() -> None:
    requests = [
        request(10.1, STATUS),
        request(10.2, "events", "create"),
        request(10.3, "services", "get"),
        request(10.4, "edgemodels/status"),
    ]
    assert Change("d00001", 10.0, requests).last_child_s() is None


def test_changes_without_a_child_leave_the_percentiles_alone() -> None:
    silent = Change("d00002", 0.0, [])
    quick = Change("d00001", 1.0, [request(1.05, "configmaps"), request(1.0, STATUS)])
    found = percentiles([silent, quick])
    assert found is not None
    assert [round(one) for one in found] == [50, 50]
    assert percentiles([silent]) is None


def test_sites_have_one_two_and_three_nodes_by_turns_and_none_is_left_unnamed() -> None:
    for nodes in (6, 10, 60, 1000):
        sites = _sites(nodes)
        named = sorted(set(sites.values()))[: sites_of(nodes)]
        sizes = [list(sites.values()).count(site) for site in named[:-1]]
        assert sizes == [(1, 2, 3)[at % 3] for at in range(len(sizes))]
        assert len(sites) == nodes


def test_a_mean_is_of_the_looks_between_two_readings() -> None:
    kind = 'kind="EdgeDeployment"'
    count, total = (f"skerry_reconcile_seconds_{what}{{{kind}}}" for what in ("count", "sum"))

    def bucket(bound: str) -> str:
        return f'skerry_reconcile_seconds_bucket{{{kind},le="{bound}"}}'

    before = {count: 10.0, total: 100.0}
    buckets = {bucket("0.1"): 1.0, bucket("0.5"): 2.0, bucket("+Inf"): 2.0}
    after = {count: 12.0, total: 100.5, **buckets}
    rows = {row.name: row.value for row in looked("now", before, after)}
    assert looks(before, after) == rows["now: looks"] == 2
    assert rows["now: a look takes, mean"] == 250
    assert rows["now: a look takes, p99 at most"] == 500
    assert rows["now: a look waits, mean"] is None


def test_the_attack_is_as_large_as_it_is_said_to_be() -> None:
    assert 0.8 * MAP_BYTES < len(assignment_of(MAP_BYTES)) < 1 << 20
    assert len(Size().nodes()) == 648


def test_the_soak_runs_under_the_chart_s_limit() -> None:
    assert chart_limit_bytes() == 384 << 20
