"""The disk limit of a deployment is the one that its pods keep to."""

from __future__ import annotations

from builders import make_deployment, make_model, make_node
from skerry_runtime.agent.ports import Tuning
from world import World


def environment(**runtime: object) -> dict[str, str]:
    deployment = make_deployment(runtime=runtime)
    world = World(deployment, make_model(), (make_node("n1"),))
    world.settle()
    daemonset = next(item for item in world.objects.values() if item.ref.kind == "DaemonSet")
    (container,) = daemonset.body["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def test_a_pod_reads_the_limit_that_its_volume_has() -> None:
    tuning = Tuning.from_env(environment(resources={"diskLimit": "64Mi"}))
    assert tuning.slots_limit_bytes == 64 * 2**20


def test_without_a_limit_the_disk_alone_counts() -> None:
    assert Tuning.from_env(environment()).slots_limit_bytes == 0
