"""Custom resources as users write them: small ones, full ones, one with a field of interest."""

from __future__ import annotations

from typing import Any

from skerry_operator.constants import GROUP, VERSION

Object = dict[str, Any]
SHA = "a" * 64
KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
HTTPS = {"uri": "https://models.example/digits.onnx", "sha256": SHA}


def builds(name: str = "fp32") -> Object:
    return {"name": name, "format": "ONNX", "source": HTTPS}


def model(name: str = "digits", **spec: Any) -> Object:
    return _object("EdgeModel", name, {"version": "1.0.0", "variants": [builds()]} | spec)


def variant(**fields: Any) -> Object:
    return model(variants=[builds() | fields])


def source(**fields: Any) -> Object:
    return variant(source=HTTPS | fields)


def files(*paths: str, **fields: Any) -> Object:
    return source(files=[{"path": path, **HTTPS, **fields} for path in paths])


INT8: Object = {"name": "int8", "from": "fp32", "steps": [{"quantize": {"mode": "Static"}}]}
EXAM: Object = {"source": {**HTTPS, "sha256": "b" * 64}, "threshold": "0.9"}


def optimized(*jobs: Object, **optimize: Any) -> Object:
    """Return a model of which builds are wanted."""
    wanted = {"data": {"source": HTTPS}, "jobs": list(jobs or (INT8,)), **optimize}
    given = {name: one for name, one in wanted.items() if one is not None}
    return model(golden=EXAM, optimize=given)


def job(**fields: Any) -> Object:
    return optimized(INT8 | fields)


def step(**fields: Any) -> Object:
    return job(steps=[fields])


def deployment(name: str = "digits", **spec: Any) -> Object:
    return _object("EdgeDeployment", name, {"modelRef": {"name": "digits"}} | spec)


def rollout(**fields: Any) -> Object:
    return deployment(rollout=fields)


def steps(*items: Object) -> Object:
    return rollout(steps=list(items))


def metric(**fields: Any) -> Object:
    return rollout(analysis={"metrics": [fields]})


def serving(**fields: Any) -> Object:
    return deployment(serving=fields)


def placement(**fields: Any) -> Object:
    return deployment(placement=fields)


def resources(**fields: Any) -> Object:
    return deployment(runtime={"resources": fields})


def _object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}


EVERYTHING_MODEL = model(
    name="1-everything",
    variants=[
        {
            "name": "int8",
            "format": "ORT",
            "precision": "INT8",
            "runsOn": ["npu", "hailo-8"],
            "source": {"uri": "http://10.0.0.1:8000/a/b.ort?x=1", "sha256": SHA},
            "memory": "1.5Gi",
            "signature": {"publicKeys": [KEY, KEY], "uri": "pvc://signatures/a.sig", "sha256": SHA},
            "encryption": {"format": "age", "keyRef": {"name": "site-key", "key": "a.txt"}},
        },
        {
            "name": "fp32",
            "format": "ONNX",
            "source": {
                **HTTPS,
                "files": [
                    {"path": "model.onnx.data", **HTTPS},
                    {"path": "layers/0.weight_1", **HTTPS},
                ],
            },
        },
        {"name": "plain", "format": "ONNX", "source": HTTPS},
    ],
    golden={"source": HTTPS, "metric": "MaxAbsError", "threshold": "0.001"},
    optimize={
        "store": {
            "uri": "s3://models/builds",
            "pushSecretRef": {"name": "push"},
            "pullSecretRef": {"name": "pull"},
        },
        "data": {"source": {**HTTPS, "sha256": "c" * 64, "secretRef": {"name": "read"}}},
        "guards": {"maxAccuracyDrop": "0.01", "maxSizeRatio": "0.6", "maxLatencyRatio": "1.1"},
        "jobs": [
            {
                "name": "slim",
                "from": "plain",
                "steps": [
                    {"fixShapes": {"inputs": {"x": [1, 3, 224, 224]}}},
                    {"prune": {"mode": "Structured", "amount": "50%"}},
                    {"recover": {"epochs": 15}},
                    {"quantize": {"mode": "Static"}},
                    {"convert": {"format": "ORT"}},
                ],
                "onFailure": "Block",
                "runsOn": ["npu"],
            },
            {
                "name": "student",
                "from": "plain",
                "steps": [
                    {
                        "distil": {
                            "student": HTTPS,
                            "temperature": 4,
                            "alpha": "0.5",
                            "epochs": 60,
                        }
                    }
                ],
            },
        ],
        "retry": "again",
        "nodeSelector": {"tier": "cloud"},
        "resources": {
            "cpuRequest": "1",
            "cpuLimit": "4",
            "memoryRequest": "1Gi",
            "memoryLimit": "4Gi",
            "diskLimit": "8Gi",
        },
        "activeDeadline": "7d",
    },
)
EVERYTHING_DEPLOYMENT = deployment(
    placement={
        "mode": "PerNode",
        "nodeSelector": {"skerry.dev/site": "harbour", "empty": ""},
        "accelerators": ["npu", "nvidia-gpu", "cpu"],
        "fallback": "Forbid",
        "tolerations": [
            {"operator": "Exists"},
            {"key": "edge", "operator": "Exists", "effect": "NoExecute"},
            {"key": "skerry.dev/edge", "operator": "Equal", "value": "a"},
            {"key": "edge", "value": "", "effect": "NoSchedule"},
        ],
        "siteLabel": "skerry.dev/site",
    },
    runtime={
        "engine": "Triton",
        "image": "skerry/runtime:1",
        "tritonImage": "triton:1",
        "resources": {"cpuRequest": "500m", "cpuLimit": "1", "memoryRequest": "100Mi"},
        "threads": 2,
        "swap": "Sequential",
    },
    pods={
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "edge",
        "labels": {"team": "harbour", "example.com/site": "quay"},
        "annotations": {"example.com/note": "two\nlines"},
    },
    serving={"port": 9000, "grpcPort": 9001, "service": {"internalTrafficPolicy": "Cluster"}},
    rollout={
        "steps": [
            {"units": "1", "soak": "1m30s"},
            {"pause": True},
            {"units": "25%", "pause": False},
            {"units": "100%", "soak": "0s"},
        ],
        "update": "Recreate",
        "maxUnavailable": 2,
        "failureLimit": 0,
        "progressDeadline": "1h",
        "onFailure": "Pause",
        "analysis": {
            "interval": "500ms",
            "metrics": [
                {"name": "ErrorRate", "max": "0.01", "minSamples": 50, "noData": "Hold"},
                {"name": "LatencyP95", "max": "1.5ms"},
                {"name": "GoldenAccuracy", "min": "-0.5"},
                {"name": "GoldenAccuracy", "max": "0.1", "noData": "Fail"},
                {"name": "LatencyP99", "maxRatioToStable": "1.5", "minSamples": 200},
                {"name": "ErrorRate", "maxRatioToStable": "2"},
                {"name": "GoldenAccuracy", "minRatioToStable": "0.99", "noData": "Pass"},
                {"name": "Accelerated", "min": "1"},
                {"name": "Restarts", "max": "0"},
                {
                    "name": "ovens-ok",
                    "prometheus": {"query": 'min(oven_ok{node=~"{{units}}"} == {{stable}})'},
                    "min": "1",
                    "noData": "Fail",
                },
            ],
        },
        "paused": True,
        "retry": "again",
        "historyLimit": 1,
    },
)
