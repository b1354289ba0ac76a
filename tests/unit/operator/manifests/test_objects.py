"""Objects: owners, digests, Services, and what is cleared away."""

from __future__ import annotations

from builders import make_deployment, make_model, make_node, make_variant
from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import ANNOTATION_DIGEST, LABEL_REVISION
from skerry_operator.decide.revision import revision_of
from skerry_operator.manifests.metadata import manifest, ref, service_name
from skerry_runtime.contract import Shadow
from world import World

STEPS = {"steps": [{"units": "1", "soak": "10s"}, {"units": "100%", "soak": "10s"}]}


def make_world(**spec: object) -> World:
    nodes = (make_node("n1"), make_node("n2"))
    world = World(make_deployment(rollout=STEPS, **spec), make_model(), nodes)
    world.settle()
    return world


def services(world: World) -> dict[str, dict[str, object]]:
    return {
        item.ref.name: item.body["spec"]
        for item in world.objects.values()
        if item.ref.kind == "Service"
    }


def test_everything_belongs_to_the_deployment() -> None:
    for item in make_world().objects.values():
        owner = item.body["metadata"]["ownerReferences"]
        assert [(o["name"], o["controller"], o["blockOwnerDeletion"]) for o in owner] == [
            ("digits", True, False)
        ]
        assert item.body["metadata"]["annotations"][ANNOTATION_DIGEST] == item.digest


def test_equal_objects_have_equal_digests_and_are_not_written() -> None:
    world = make_world()
    made = world.plan()
    assert (made.records, made.status, made.objects, made.nudges) == ((), None, (), ())


def test_an_object_with_another_digest_is_written_again() -> None:
    world = make_world()
    service = world.objects["Service/digits"]
    world.objects["Service/digits"] = manifest(ObjectMeta(name="x"), service.ref, {"spec": {}})
    assert [item.ref.name for item in world.plan().objects] == ["digits"]


def test_an_object_of_no_use_is_deleted() -> None:
    world = make_world()
    world.objects["Service/digits-old"] = manifest(
        world.deployment.metadata, ref("Service", "digits-old"), {"spec": {}}
    )
    assert [(one.kind, one.name) for one in world.plan().prune] == [("Service", "digits-old")]


def test_the_canary_service_exists_only_while_a_rollout_is_active() -> None:
    world = make_world()
    assert set(services(world)) == {"digits", "digits-stable"}
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    found = services(world)
    assert found["digits-canary"]["selector"] == {
        "skerry.dev/deployment": "digits",
        LABEL_REVISION: world.status.target_revision,
    }
    assert found["digits-canary"]["internalTrafficPolicy"] == "Cluster"
    world.settle()
    assert set(services(world)) == {"digits", "digits-stable"}


def test_clients_keep_their_port_until_the_promotion() -> None:
    world = make_world()
    world.change(serving={"port": 9000})
    world.turn_until(Stage.SOAKING)
    assert services(world)["digits"]["ports"][0]["port"] == 8080  # type: ignore[index]
    world.settle()
    assert services(world)["digits"]["ports"][0]["port"] == 9000  # type: ignore[index]


def test_snapshots_are_kept_as_long_as_something_can_go_back_to_them() -> None:
    world = make_world()
    world.change(rollout={**STEPS, "historyLimit": 1})
    for version in ("2.0.0", "3.0.0", "4.0.0"):
        world.model = make_model(version)
        world.settle()
    kept = set(world.observed().snapshots)
    assert kept == {entry.revision for entry in world.status.history}
    assert len(kept) == 2


def test_the_snapshot_of_a_refused_revision_is_neither_deleted_nor_written_again() -> None:
    world = make_world()
    world.refusals = {("n1", "2.0.0"), ("n2", "2.0.0")}
    world.model = make_model("2.0.0")
    world.settle()
    assert world.status.phase == "RolledBack"
    assert (world.plan().records, world.plan().prune) == ((), ())


def test_service_names_fit_a_dns_label() -> None:
    assert service_name("digits", "stable") == "digits-stable"
    long = service_name("d" * 63, "stable")
    assert len(long) <= 63
    assert long != service_name("d" * 63, "canary")
    assert "." not in service_name("eu.digits")


AGREEMENT = {
    **STEPS,
    "progressDeadline": "3m",
    "analysis": {
        "metrics": [
            {"name": "OutputAgreement", "min": "0.9", "minSamples": 50},
            {"name": "OutputAgreement", "min": "0.95", "minSamples": 20},
        ]
    },
}


def shadows(world: World) -> dict[str, Shadow | None]:
    """Version -> how the pods are told to compare it."""
    return {
        content.version: content.shadow
        for cell in world.observed().cells
        for content in cell.assignment.revisions.values()
    }


def test_only_what_is_tried_beside_a_stable_revision_is_compared() -> None:
    world = World(make_deployment(rollout=AGREEMENT), make_model(), (make_node("n1"),))
    world.turn_until(Stage.SOAKING)
    assert shadows(world) == {"1.0.0": None}  # a first deployment has nothing beside it
    world.deployment = make_deployment(rollout=STEPS)
    world.settle()
    world.change(rollout=AGREEMENT)
    world.model = make_model("2.0.0")
    world.turn()
    wanted = Shadow(samples=50, timeout_s=90, threshold=0.95)
    assert shadows(world) == {"1.0.0": None, "2.0.0": wanted}


def test_the_way_back_to_what_was_stable_before_is_not_held_up_by_a_shadow() -> None:
    world = make_world()
    world.model = make_model("2.0.0")
    world.settle()
    world.change(rollout=AGREEMENT)
    world.model = make_model("1.0.0")
    world.turn()
    assert shadows(world) == {"1.0.0": None, "2.0.0": None}


def test_without_the_metric_nothing_is_compared() -> None:
    world = make_world()
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    assert shadows(world) == {"1.0.0": None, "2.0.0": None}


def test_a_traffic_policy_of_its_own_changes_the_service_at_once_and_no_revision() -> None:
    world = make_world()
    world.settle()
    before = world.status.stable_revision
    world.change(serving={"service": {"internalTrafficPolicy": "Cluster"}})
    world.turn()
    assert services(world)["digits"]["internalTrafficPolicy"] == "Cluster"
    assert (world.status.stable_revision, world.status.target_revision) == (before, before)


def test_a_model_of_several_files_reaches_the_pods_with_the_place_of_each() -> None:
    beside = {
        "path": "weights/model.onnx.data",
        "uri": "https://models.example/a.data",
        "sha256": "c" * 64,
    }
    variant = make_variant("fp32")
    source = {**variant["source"], "files": [beside]}
    model = make_model("1.0.0", {**variant, "source": source})
    world = World(make_deployment(rollout=STEPS), model, (make_node("n1"),))
    world.settle()
    (cell,) = world.observed().cells
    (content,) = cell.assignment.revisions.values()
    assert [(file.path, file.uri, file.sha256) for file in content.model.files] == [
        ("model.onnx", source["uri"], source["sha256"]),
        (beside["path"], beside["uri"], beside["sha256"]),
    ]


def test_a_change_of_a_file_beside_is_a_new_revision() -> None:
    variant = make_variant("fp32")
    revisions = set()
    for digest in ("c" * 64, "d" * 64):
        beside = {"path": "a.data", "uri": "https://models.example/a", "sha256": digest}
        model = make_model("1.0.0", {**variant, "source": {**variant["source"], "files": [beside]}})
        revisions.add(revision_of(model.spec, make_deployment().spec))
    revisions.add(revision_of(make_model("1.0.0", variant).spec, make_deployment().spec))
    assert len(revisions) == 3


def names_of(world: World) -> set[str]:
    files = [cell.assignment for cell in world.observed().cells]
    return {name for file in files for one in file.revisions.values() for name in one.models}


def test_another_model_of_equal_content_changes_the_name_and_no_revision_and_no_pod() -> None:
    world = make_world()
    world.settle()
    before, pods = world.status.stable_revision, dict(world.pods)
    world.change(modelRef={"name": "letters"})
    world.turn()
    assert names_of(world) == {"letters"}
    assert world.status.stable_revision == before
    assert set(world.pods) == set(pods)
    assert all(pod.nudge != pods[name].nudge for name, pod in world.pods.items())


def test_a_revision_that_is_gone_back_to_has_the_name_that_it_had_last() -> None:
    world = make_world()
    world.settle()
    stable = str(world.status.stable_revision)
    data = world.objects[f"ControllerRevision/digits-{stable}"].body["data"]
    world.change(modelRef={"name": "letters"})
    world.settle()
    assert world.objects[f"ControllerRevision/digits-{stable}"].body["data"] == data
    assert world.observed().snapshots[stable].model_names == ("letters",)
    world.model = make_model("2.0.0")
    world.refusals = {(pod.unit, "2.0.0") for pod in world.pods.values()}
    world.settle()
    assert world.status.stable_revision == stable
    contents = [cell.assignment.revisions[stable] for cell in world.observed().cells]
    assert {name for one in contents for name in one.models} == {"letters"}
