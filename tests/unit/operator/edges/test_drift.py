"""What differs between a manifest and the object in the cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from skerry_operator.kube.drift import drift

Raw = dict[str, Any]


def manifest() -> Raw:
    return {
        "metadata": {"labels": {"skerry.dev/deployment": "digits"}},
        "spec": {
            "updateStrategy": {"type": "OnDelete"},
            "template": {
                "metadata": {"labels": {"skerry.dev/cell": "c"}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "tolerations": [{"key": "a", "operator": "Exists"}],
                    "nodeSelector": {},
                    "containers": [
                        {
                            "name": "runtime",
                            "image": "x",
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
                            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                            "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
                            "volumeMounts": [{"name": "slots", "mountPath": "/slots"}],
                        }
                    ],
                    "volumes": [{"name": "assignment", "configMap": {"name": "c"}}],
                },
            },
        },
    }


def as_served() -> Raw:
    """The same, as an API server writes it."""
    live = copy.deepcopy(manifest())
    live["status"] = {"numberReady": 1}
    spec = live["spec"]["template"]["spec"]
    spec |= {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
    }
    del spec["nodeSelector"]
    (container,) = spec["containers"]
    container |= {
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    container["env"][1] = {"name": "B"}
    container["resources"] = {"limits": {"cpu": "1", "memory": "1Gi"}}
    spec["volumes"][0]["configMap"]["defaultMode"] = 420
    return live


def pod(live: Raw) -> Raw:
    spec: Raw = live["spec"]["template"]["spec"]
    return spec


def test_what_the_server_fills_in_or_writes_in_its_own_way_is_no_drift() -> None:
    assert not drift(manifest(), as_served())


def test_labels_of_others_on_the_object_itself_are_theirs() -> None:
    live = as_served()
    live["metadata"]["labels"]["team"] = "vision"
    assert not drift(manifest(), live)


CHANGED = {
    "a field is gone": lambda live: pod(live).pop("automountServiceAccountToken"),
    "a value differs": lambda live: pod(live)["containers"][0].update(image="evil"),
    "an amount differs": lambda live: pod(live)["containers"][0]["resources"]["limits"].update(
        cpu="2"
    ),
    "a member is gone": lambda live: pod(live)["volumes"].clear(),
    "a list of ours has more": lambda live: pod(live)["tolerations"].append({"key": "b"}),
    "a list of ours has another": lambda live: pod(live)["tolerations"][0].update(key="b"),
    "the whole content is gone": lambda live: live.pop("spec"),
    "our label is gone": lambda live: live["metadata"]["labels"].clear(),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_field_of_ours_that_is_gone_or_differs_is_drift(change: Any) -> None:
    live = as_served()
    change(live)
    found = drift(manifest(), live)
    assert found.changed
    assert not found.surplus


def template_labels(live: Raw) -> Raw:
    labels: Raw = live["spec"]["template"]["metadata"]["labels"]
    return labels


SURPLUS = {
    "hostNetwork": (
        lambda live: pod(live).update(hostNetwork=True),
        "/spec/template/spec/hostNetwork",
    ),
    "another container": (
        lambda live: pod(live)["containers"].insert(0, {"name": "x", "image": "y"}),
        "/spec/template/spec/containers/0",
    ),
    "another variable": (
        lambda live: pod(live)["containers"][0]["env"].append({"name": "LD_PRELOAD", "value": "x"}),
        "/spec/template/spec/containers/0/env/2",
    ),
    "another label of its pods": (
        lambda live: template_labels(live).update({"a/b": "x"}),
        "/spec/template/metadata/labels/a~1b",
    ),
    "another value than the default": (
        lambda live: pod(live).update(dnsPolicy="Default"),
        "/spec/template/spec/dnsPolicy",
    ),
    "more beside the limits": (
        lambda live: pod(live)["containers"][0].update(securityContext={"privileged": True}),
        "/spec/template/spec/containers/0/securityContext",
    ),
    "another volume": (
        lambda live: pod(live)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        "/spec/template/spec/volumes/1",
    ),
    "another source in a volume of ours": (
        lambda live: pod(live)["volumes"][0].update(hostPath={"path": "/"}),
        "/spec/template/spec/volumes/0/hostPath",
    ),
    "another port of the same number": (
        lambda live: pod(live)["containers"][0]["ports"].append(
            {"containerPort": 8080, "protocol": "UDP"}
        ),
        "/spec/template/spec/containers/0/ports/1",
    ),
}


@pytest.mark.parametrize(("change", "pointer"), SURPLUS.values(), ids=SURPLUS)
def test_a_field_beside_ours_is_surplus_and_has_its_address(change: Any, pointer: str) -> None:
    live = as_served()
    change(live)
    found = drift(manifest(), live)
    assert [one.pointer for one in found.surplus] == [pointer]
    assert found.changed == ()


def test_external_addresses_of_a_service_are_surplus_and_its_own_are_not() -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    wanted = {"spec": {"type": "ClusterIP", "selector": {"a": "b"}, "ports": ports}}
    live = copy.deepcopy(wanted)
    live["spec"] |= {  # type: ignore[operator] # nested test data
        "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None",
    }
    assert not drift(wanted, live)
    live["spec"]["externalIPs"] = ["8.8.8.8"]  # type: ignore[index] # nested test data
    assert [one.path for one in drift(wanted, live).surplus] == ["spec.externalIPs"]
