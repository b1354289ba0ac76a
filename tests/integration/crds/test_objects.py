"""What the API server takes, and what it refuses with which words."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from kubernetes.client import CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from crd_objects import (
    EVERYTHING_DEPLOYMENT,
    EVERYTHING_MODEL,
    EXAM,
    HTTPS,
    INT8,
    KEY,
    SHA,
    Object,
    builds,
    deployment,
    files,
    job,
    metric,
    model,
    optimized,
    placement,
    resources,
    rollout,
    serving,
    source,
    step,
    steps,
    variant,
)
from skerry_operator.constants import GROUP, VERSION

pytestmark = pytest.mark.integration

Create = Callable[..., Object]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(model(), id="the smallest model"),
        pytest.param(EVERYTHING_MODEL, id="a model with every field"),
        pytest.param(deployment(), id="the smallest deployment"),
        pytest.param(EVERYTHING_DEPLOYMENT, id="a deployment with every field"),
        pytest.param(deployment(name="d" + "igits.of" * 20), id="a long name with dots"),
        pytest.param(rollout(steps=[]), id="no steps: the default ones"),
        pytest.param(steps({"units": "999999"}), id="the largest count"),
        pytest.param(steps({"units": "1%"}), id="the smallest percentage"),
        pytest.param(
            steps(
                {"units": "3"}, {"units": "1%"}, {"pause": True}, {"units": "3"}, {"units": "9%"}
            ),
            id="counts and percentages: which is more depends on the fleet",
        ),
        pytest.param(
            steps({"units": "9%", "soak": "0s"}, {"units": "10%"}, {"units": "100%"}),
            id="steps of numbers, not of texts, and a step that nobody watches",
        ),
        pytest.param(rollout(update="Recreate"), id="new pods for every revision"),
        pytest.param(files(*(f"w/{n}" for n in range(63))), id="as many files as there may be"),
        pytest.param(
            model(golden={"source": HTTPS, "metric": "MeanIoU", "threshold": "0.8"}),
            id="an exam of boxes",
        ),
        pytest.param(metric(name="ErrorRate", max="1.0"), id="any share of errors"),
        pytest.param(metric(name="ErrorRate", max="0"), id="no error at all"),
        pytest.param(
            metric(name="OutputAgreement", min="0.98", minSamples=200), id="a shadow compare"
        ),
        pytest.param(
            metric(name="x", max="-1", prometheus={"query": "a" * 2048}), id="the longest query"
        ),
        pytest.param(serving(port=8081, grpcPort=8080), id="both ports swapped"),
        pytest.param(serving(port=1024, grpcPort=65535), id="ports at their limits"),
        pytest.param(resources(cpuRequest="1000m", cpuLimit="1"), id="a request at its limit"),
        pytest.param(model(version="2.0.0 \N{SNOWMAN} modèle 猫"), id="letters of people"),
        pytest.param(
            metric(name="x", max="1", prometheus={"query": "sum(\n\ta\n)"}), id="a query in lines"
        ),
        pytest.param(
            rollout(steps=[{"units": "1", "soak": "720h"}], progressDeadline="43200m"),
            id="thirty days",
        ),
        pytest.param(
            rollout(steps=[{"units": "1", "soak": "1d"}], progressDeadline="30d"), id="whole days"
        ),
        pytest.param(model(name="resnet-1.5"), id="a model's name with a dot"),
        pytest.param(
            source(uri="s3://models/a%20b/1.onnx", secretRef={"name": "models.s3"}), id="s3"
        ),
        pytest.param(source(uri=f"oci://r.example:5000/a/b@sha256:{SHA}"), id="oci by digest"),
        pytest.param(source(uri=f"oci://r/a/b:1@sha256:{SHA}#w/1.onnx"), id="oci, one of several"),
        pytest.param(source(uri=f"hf://org/repo/onnx/m.onnx@{'a' * 40}"), id="hf at a commit"),
        pytest.param(source(uri="pvc://models.claim/a/1.onnx"), id="a file in a volume"),
        pytest.param(files("a", uri="oci://r.example/a/b:1#a"), id="a file beside it, from oci"),
        pytest.param(deployment(modelRef={"name": "resnet-1.5"}), id="a deployment of it"),
        pytest.param(
            deployment(pods=EVERYTHING_DEPLOYMENT["spec"]["pods"]), id="what pods have besides"
        ),
    ],
)
def test_taken_and_stored_as_written(create: Create, body: Object) -> None:
    # Equal: no default is stored, so no later version can disagree with it.
    assert create(body, dry_run="All")["spec"] == body["spec"]


def test_what_is_read_back_is_what_was_written(
    create: Create, api: CustomObjectsApi, namespace: str
) -> None:
    create(EVERYTHING_MODEL)
    created = create(EVERYTHING_DEPLOYMENT | {"metadata": {"name": "stored"}})
    assert "status" not in created
    where = (GROUP, VERSION, namespace)
    stored = api.get_namespaced_custom_object(*where, "edgemodels", "1-everything")
    assert stored["spec"] == EVERYTHING_MODEL["spec"]
    stored = api.get_namespaced_custom_object(*where, "edgedeployments", "stored")
    assert stored["spec"] == EVERYTHING_DEPLOYMENT["spec"]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        # models
        pytest.param(model(version=""), "spec.version", "at least 1 char", id="no version"),
        pytest.param(model(version="1" * 65), "spec.version", "more than 64", id="long version"),
        pytest.param(model(variants=[]), "spec.variants", "at least 1 item", id="no variant"),
        pytest.param(
            model(variants=[builds(), builds()]),
            "spec",
            "variants must have different names",
            id="duplicated variants",
        ),
        pytest.param(
            model(
                variants=[{"name": f"v{i}", "format": "ONNX", "source": HTTPS} for i in range(17)]
            ),
            "spec.variants",
            "at most 16 items",
            id="too many variants",
        ),
        # builds
        pytest.param(optimized(INT8, INT8), "jobs", "jobs must have different", id="two jobs"),
        pytest.param(job(name="fp32"), "spec", "choose one that none has", id="a variant's name"),
        pytest.param(job(**{"from": "x"}), "spec", "from must name a variant", id="no variant x"),
        pytest.param(step(), "steps[0]", "a step is exactly one of", id="a step of nothing"),
        pytest.param(
            step(quantize={"mode": "Static"}, recover={}),
            "steps[0]",
            "a step is exactly one of",
            id="two steps in one",
        ),
        pytest.param(step(quantize={"mode": "INT4"}), "mode", '"Static"', id="another mode"),
        pytest.param(
            step(prune={"mode": "Structured", "amount": "100%"}),
            "amount",
            '100% is no share of a layer: write "1%" to "99%"',
            id="a layer of nothing",
        ),
        pytest.param(optimized(data=None), "optimize", "need data", id="Static without data"),
        pytest.param(
            optimized(data={"source": EXAM["source"]}),
            "spec",
            "an exam that was learnt",
            id="learnt",
        ),
        pytest.param(
            model(optimize={"jobs": [INT8], "guards": {"maxAccuracyDrop": "0.1"}}),
            "spec",
            "maxAccuracyDrop needs golden",
            id="no exam",
        ),
        pytest.param(
            optimized(guards={"maxSizeRatio": "-1"}),
            "maxSizeRatio",
            "no limit: write",
            id="below 0",
        ),
        pytest.param(
            optimized(store={"uri": "oci://r.example/a:1"}), "uri", "without tag and", id="a tag"
        ),
        pytest.param(
            optimized(store={"uri": "s3://bucket/a"}), "store", "needs pushSecretRef", id="no keys"
        ),
        pytest.param(
            optimized(activeDeadline="1s"), "activeDeadline", "1s is out of bounds", id="at once"
        ),
        pytest.param(
            optimized(*({**INT8, "name": f"j{n}"} for n in range(9))),
            "jobs",
            "at most 8",
            id="nine",
        ),
        pytest.param(variant(name="FP32"), "variants[0].name", "should match", id="upper case"),
        pytest.param(variant(format="PT"), "variants[0].format", '"ONNX", "ORT"', id="format"),
        pytest.param(variant(precision="FP8"), "precision", '"Mixed"', id="precision"),
        pytest.param(variant(memory="200 MB"), "memory", "200 MB is no quantity", id="memory"),
        pytest.param(variant(memory=200), "memory", "must be of type string", id="number"),
        pytest.param(variant(runsOn="cpu"), "runsOn", "must be of type array", id="no list"),
        pytest.param(variant(runsOn=["x" * 257]), "runsOn[0]", "more than 256", id="long word"),
        pytest.param(files("../a"), "source.files[0].path", "should match", id="a way out"),
        pytest.param(files("/a"), "source.files[0].path", "should match", id="from the root"),
        pytest.param(files("a/.b"), "source.files[0].path", "should match", id="a hidden file"),
        pytest.param(files("a", "a"), "source.files[1]", "Duplicate", id="a place for two"),
        pytest.param(files(*map(str, range(64))), "source.files", "at most 63", id="64 files"),
        pytest.param(
            files("a", uri="https://u:p@a/b"),
            "files[0].uri",
            "should match",
            id="a file's password",
        ),
        pytest.param(files("a", uri="https://a/ö"), "files[0].uri", "should match", id="umlaut"),
        pytest.param(
            files("a", sha256="0"), "files[0].sha256", "should match", id="a file's digest"
        ),
        pytest.param(
            model(golden={"source": HTTPS, "metric": "SequenceAgreement", "threshold": "1.5"}),
            "golden",
            "write a threshold of 0 to 1",
            id="more than all sequences",
        ),
        pytest.param(
            source(uri="ftp://a/b.onnx"), "source.uri", "no address of a file: write", id="ftp"
        ),
        pytest.param(
            source(uri="file:///b.onnx"), "source.uri", "no address of a file: write", id="a file"
        ),
        pytest.param(
            source(uri="https://u:p@a/b"),
            "source.uri",
            "no address of a file: write",
            id="credentials",
        ),
        pytest.param(
            source(uri="https://a/ b"), "source.uri", "no address of a file: write", id="a space"
        ),
        pytest.param(
            source(uri="s3://Models/x"), "uri", "no address of a file", id="a bucket in capitals"
        ),
        pytest.param(
            source(uri="oci://registry/models"),
            "uri",
            "no address of a file",
            id="neither tag nor digest",
        ),
        pytest.param(
            source(uri="hf://org/repo/x.onnx@main"), "uri", "no address of a file", id="a branch"
        ),
        pytest.param(
            source(uri="pvc://Claim/x"), "uri", "no address of a file", id="a claim in capitals"
        ),
        pytest.param(source(uri="s3://models/x"), "source", "needs secretRef", id="s3 keys"),
        pytest.param(
            variant(signature={"publicKeys": ["key"]}), "publicKeys", "should match", id="no key"
        ),
        pytest.param(
            variant(signature={"publicKeys": []}), "publicKeys", "at least 1", id="not one key"
        ),
        pytest.param(
            variant(signature={"publicKeys": [KEY] * 9}), "publicKeys", "at most 8", id="nine keys"
        ),
        pytest.param(
            variant(encryption={"format": "gpg", "keyRef": {"name": "a"}}),
            "encryption.format",
            '"age"',
            id="another encryption",
        ),
        pytest.param(
            variant(encryption={"keyRef": {"name": "a", "key": "../a"}}),
            "keyRef.key",
            "should match",
            id="a key elsewhere",
        ),
        pytest.param(
            variant(
                source={**HTTPS, "files": [{"path": "w.bin", **HTTPS}]},
                encryption={"keyRef": {"name": "a"}},
            ),
            "variants[0]",
            "an encrypted model has one file",
            id="an encrypted model of several files",
        ),
        pytest.param(source(uri="https://" + "a" * 2048), "uri", "more than 2048", id="long uri"),
        pytest.param(source(sha256=SHA.upper()), "sha256", "should match", id="sha in upper case"),
        pytest.param(source(sha256="a" * 63), "sha256", "should match", id="sha too short"),
        pytest.param(variant(source={"uri": HTTPS["uri"]}), "sha256", "Required", id="no sha"),
        pytest.param(
            model(golden={"source": HTTPS, "threshold": "95%"}),
            "golden.threshold",
            "should match",
            id="a threshold in percent",
        ),
        pytest.param(
            model(golden={"source": HTTPS, "threshold": 0.95}),
            "golden.threshold",
            "must be of type string",
            id="a threshold as a float",
        ),
        pytest.param(
            model(golden={"source": HTTPS, "metric": "F1", "threshold": "1"}),
            "golden.metric",
            '"MaxAbsError"',
            id="an unknown exam",
        ),
        pytest.param(model(golden={"threshold": "1"}), "golden.source", "Required", id="no exam"),
        pytest.param(model(verison="1"), "spec.verison", "unknown field", id="a misspelt field"),
        # what a deployment names
        pytest.param(deployment(modelRef={}), "modelRef.name", "Required", id="no model"),
        pytest.param(
            deployment(modelRef={"name": "other/digits"}), "modelRef.name", "match", id="elsewhere"
        ),
        pytest.param(deployment(name="1st"), "<nil>", "start with a letter", id="a digit first"),
        # placement
        pytest.param(placement(mode="Everywhere"), "placement.mode", '"PerNode"', id="mode"),
        pytest.param(placement(fallback="Maybe"), "placement.fallback", '"Forbid"', id="fallback"),
        pytest.param(
            placement(accelerators=["npu", "cpu", "npu"]),
            "spec.placement",
            "accelerators must not repeat an entry",
            id="an accelerator twice",
        ),
        pytest.param(
            placement(nodeSelector={"a b": "c"}), "nodeSelector", "keys must", id="no label key"
        ),
        pytest.param(
            placement(nodeSelector={"": "c"}), "nodeSelector", "keys must have 1", id="empty key"
        ),
        pytest.param(
            placement(nodeSelector={"a": "b c"}), "nodeSelector.a", "match", id="no label value"
        ),
        pytest.param(
            placement(nodeSelector={f"l{i}": "" for i in range(17)}),
            "placement.nodeSelector",
            "at most 16 items",
            id="too many labels",
        ),
        pytest.param(placement(siteLabel=""), "siteLabel", "at least 1 char", id="no site label"),
        pytest.param(
            placement(tolerations=[{"value": "a"}]),
            "tolerations[0]",
            "without key needs operator: Exists",
            id="a toleration of nothing",
        ),
        pytest.param(
            placement(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
            "tolerations[0]",
            "Exists has no value",
            id="a toleration of any value and of one",
        ),
        pytest.param(
            placement(tolerations=[{"key": "a", "effect": "NoRun"}]),
            "tolerations[0].effect",
            '"NoExecute"',
            id="an unknown effect",
        ),
        # runtime and serving
        pytest.param(
            resources(cpuRequest="2 cores", cpuLimit="4"),
            "cpuRequest",
            "2 cores is no quantity",
            id="quantity",
        ),
        pytest.param(
            deployment(runtime={"engine": "PyTorch"}),
            "runtime.engine",
            '"ONNXRuntime", "LiteRT", "Triton"',
            id="an engine",
        ),
        pytest.param(
            deployment(runtime={"tritonImage": "triton:1"}),
            "spec.runtime",
            "with engine: Triton only",
            id="a server's image without the server",
        ),
        pytest.param(
            resources(cpuRequest="1001m", cpuLimit="1"),
            "runtime.resources",
            "cpuRequest must not exceed cpuLimit",
            id="more CPU than allowed",
        ),
        pytest.param(
            resources(memoryRequest="1Gi", memoryLimit="1G"),
            "runtime.resources",
            "memoryRequest must not exceed memoryLimit",
            id="more memory than allowed",
        ),
        pytest.param(deployment(runtime={"threads": 0}), "threads", "equal to 1", id="no thread"),
        pytest.param(deployment(runtime={"image": ""}), "image", "at least 1 char", id="no image"),
        pytest.param(deployment(runtime={"swap": "Hot"}), "swap", '"Overlap"', id="swap"),
        pytest.param(
            serving(port=9000, grpcPort=9000), "spec.serving", "must differ", id="ports clash"
        ),
        pytest.param(serving(port=8081), "spec.serving", "must differ", id="clash with a default"),
        pytest.param(serving(grpcPort=8082), "spec.serving", "admin port", id="the admin port"),
        pytest.param(serving(port=80), "spec.serving", "need privileges", id="a low port"),
        pytest.param(serving(port=65536), "serving.port", "equal to 65535", id="no port"),
        pytest.param(
            serving(service={"internalTrafficPolicy": "Near"}), "Policy", '"Local"', id="policy"
        ),
        # steps
        pytest.param(
            steps({"units": "1"}, {"pause": True}),
            "spec.rollout",
            "the last step must have units",
            id="the last step pauses",
        ),
        pytest.param(
            steps({"units": "1", "pause": True}, {"units": "1"}),
            "steps[0]",
            "either units or pause",
            id="units and a pause in one step",
        ),
        pytest.param(steps({}, {"units": "1"}), "steps[0]", "either units or", id="empty step"),
        pytest.param(
            steps({"pause": False}, {"units": "1"}), "steps[0]", "either units", id="no pause"
        ),
        pytest.param(
            steps({"pause": True, "soak": "1s"}, {"units": "1"}),
            "steps[0]",
            "soak belongs to a step with units",
            id="a pause that soaks",
        ),
        pytest.param(
            steps({"units": "0%"}),
            "steps[0].units",
            "0% is no number of units: write a count",
            id="0%",
        ),
        pytest.param(
            steps({"units": "101%"}), "steps[0]", '"1%" to "100%"', id="a percentage over 100"
        ),
        pytest.param(
            steps({"units": "50%"}, {"pause": True}, {"units": "9%"}, {"units": "100%"}),
            "spec.rollout",
            "percentages in ascending order",
            id="percentages that go down",
        ),
        pytest.param(
            steps({"units": "10"}, {"units": "50%"}, {"units": "9"}),
            "spec.rollout",
            "counts in ascending order",
            id="counts that go down",
        ),
        pytest.param(steps({"units": "0"}), "steps[0].units", "write a count", id="zero units"),
        pytest.param(steps({"units": "-1"}), "steps[0].units", "write a count", id="fewer"),
        pytest.param(steps({"units": 1}), "steps[0].units", "of type string", id="a number"),
        pytest.param(
            steps({"units": "1", "soak": "60"}), "steps[0].soak", "60 is no duration", id="no unit"
        ),
        pytest.param(
            steps({"units": "1", "soak": "31d"}), "steps[0].soak", "31d is out of bounds", id="days"
        ),
        pytest.param(
            steps(*[{"units": "1"}] * 33), "rollout.steps", "at most 32 items", id="many steps"
        ),
        # rollout
        pytest.param(rollout(maxUnavailable=0), "maxUnavailable", "equal to 1", id="none may go"),
        pytest.param(rollout(failureLimit=-1), "failureLimit", "equal to 0", id="below none"),
        pytest.param(rollout(historyLimit=51), "historyLimit", "equal to 50", id="much history"),
        pytest.param(
            rollout(update="Replace"), "rollout.update", '"Recreate"', id="no such update"
        ),
        pytest.param(rollout(onFailure="Ignore"), "onFailure", '"Rollback"', id="on failure"),
        pytest.param(
            rollout(progressDeadline="10"), "progressDeadline", "10 is no duration", id="deadline"
        ),
        pytest.param(
            rollout(progressDeadline="0s"), "progressDeadline", "write 1ms to", id="deadline of 0"
        ),
        pytest.param(
            rollout(analysis={"interval": "0m"}), "interval", "write 1ms to", id="interval of 0"
        ),
        # numbers that nobody can mean: the message names the value and the remedy
        pytest.param(
            steps({"units": "1", "soak": "99999999h"}),
            "steps[0].soak",
            "99999999h is out of bounds: write 0s to 720h",
            id="a soak of ten thousand years",
        ),
        pytest.param(
            steps({"units": "1", "soak": "721h"}), "soak", "write 0s to 720h", id="a long soak"
        ),
        pytest.param(
            steps({"units": "1", "soak": "700h700h"}), "soak", "write 0s", id="a long soak in two"
        ),
        pytest.param(
            rollout(progressDeadline="9999999999999h"),
            "progressDeadline",
            "write 1ms to 720h",
            id="a deadline without end",
        ),
        pytest.param(
            rollout(analysis={"interval": "25h"}), "interval", "write 1ms to 24h", id="interval"
        ),
        pytest.param(
            metric(name="LatencyP95", max="99999999h"),
            "metrics[0]",
            "of at most 1h",
            id="a latency of ten thousand years",
        ),
        pytest.param(
            deployment(runtime={"batching": {"maxSize": 2, "maxDelay": "99999999h"}}),
            "batching.maxDelay",
            "write 0s to 1s: clients wait for it",
            id="a long delay",
        ),
        pytest.param(
            resources(memoryRequest="9" * 29 + "Ti"),
            "memoryRequest",
            "write 1Mi to 64Ti",
            id="all memory there is",
        ),
        pytest.param(resources(cpuLimit="0"), "cpuLimit", "write 1m to 1024", id="no processor"),
        pytest.param(variant(memory="65Ti"), "memory", "write 1 to 64Ti", id="a large model"),
        # texts that a terminal would obey
        pytest.param(
            model(version="1.0\x1b[31m"), "spec.version", "no control characters", id="escape"
        ),
        pytest.param(
            model(version="1.0\u202e0.2"), "spec.version", "text direction", id="right to left"
        ),
        pytest.param(rollout(retry="a\nb"), "retry", "no control characters", id="two lines"),
        pytest.param(
            source(uri="https://a/\x1bb"), "uri", "no control characters", id="escape in a uri"
        ),
        pytest.param(
            variant(inputShapes={"a\u2066": [1]}), "inputShapes", "keys must hold no", id="input"
        ),
        pytest.param(
            metric(name="x", max="1", prometheus={"query": "a\x1b"}),
            "query",
            "no control characters but tab",
            id="escape in a query",
        ),
        pytest.param(rollout(retry="r" * 65), "rollout.retry", "more than 64", id="long retry"),
        # metrics
        pytest.param(metric(name="LatencyP95"), "metrics[0]", "either max or min", id="no limit"),
        pytest.param(
            metric(name="GoldenAccuracy"), "metrics[0]", "either max or min", id="no accuracy"
        ),
        pytest.param(
            metric(name="GoldenAccuracy", min="0", max="1"), "metrics[0]", "only one", id="both"
        ),
        pytest.param(
            metric(name="LatencyP95", max="50"),
            "metrics[0]",
            "needs max as a duration",
            id="a latency without unit",
        ),
        pytest.param(
            metric(name="LatencyP50", min="50ms"),
            "metrics[0]",
            "needs max as a duration",
            id="a latency that must be long",
        ),
        pytest.param(
            metric(name="LatencyP99", max="1x5ms"),
            "metrics[0]",
            "needs max as a duration",
            id="the dot of a latency is a dot",
        ),
        pytest.param(
            metric(name="ErrorRate", max="1%"), "metrics[0]", "a share between", id="percent"
        ),
        pytest.param(metric(name="ErrorRate", max="1.1"), "metrics[0]", "a share", id="above 1"),
        pytest.param(metric(name="ErrorRate", max="0x5"), "metrics[0]", "a share", id="a dot too"),
        pytest.param(
            metric(name="ErrorRate", min="0.1"), "metrics[0]", "a share", id="errors at least"
        ),
        pytest.param(
            metric(name="GoldenAccuracy", min="95%"), "metrics[0]", "as a decimal", id="accuracy"
        ),
        pytest.param(
            metric(name="Speed", max="1"), "metrics[0]", "must be one of ErrorRate", id="speed"
        ),
        pytest.param(metric(name="a b", max="1"), "metrics[0].name", "should match", id="a space"),
        pytest.param(
            metric(name="ErrorRate", max="1", prometheus={"query": "up"}),
            "metrics[0]",
            "must not have one",
            id="a query under a known name",
        ),
        pytest.param(
            metric(name="LatencyP95", max="50ms", maxRatioToStable="1.5"),
            "metrics[0]",
            "only one of them",
            id="a limit and a ratio in one",
        ),
        pytest.param(
            metric(name="LatencyP95", maxRatioToStable="0.0"),
            "metrics[0]",
            "a ratio must be above 0",
            id="a ratio of 0",
        ),
        pytest.param(
            metric(name="LatencyP95", maxRatioToStable="150%"),
            "maxRatioToStable",
            "should match",
            id="a ratio in percent",
        ),
        pytest.param(
            metric(name="LatencyP95", minRatioToStable="0.5"),
            "metrics[0]",
            "or maxRatioToStable",
            id="a latency that must be as long as stable's",
        ),
        pytest.param(
            metric(name="Accelerated", min="1.5"), "metrics[0]", "Accelerated and", id="over 1"
        ),
        pytest.param(
            metric(name="OutputAgreement", min="98%"),
            "metrics[0]",
            "OutputAgreement need min as a share",
            id="an agreement in percent",
        ),
        pytest.param(
            metric(name="OutputAgreement", max="0.5"),
            "metrics[0]",
            "need min as a share",
            id="an agreement that must be small",
        ),
        pytest.param(
            metric(name="Restarts", max="0.5"), "metrics[0]", "a whole number", id="half a restart"
        ),
        pytest.param(
            metric(name="ovens", min="1", prometheus={}),
            "prometheus.query",
            "Required",
            id="no query",
        ),
        pytest.param(
            metric(name="ovens", min="1", prometheus={"query": ""}),
            "prometheus.query",
            "at least 1 char",
            id="an empty query",
        ),
        pytest.param(
            metric(name="ovens", min="1", prometheus={"query": "a" * 2049}),
            "prometheus.query",
            "more than 2048",
            id="a query that is too long",
        ),
        pytest.param(
            metric(name="ovens", min="1", prometheus={"query": 'up{node="{{node}}"}'}),
            "prometheus",
            "and no others",
            id="an unknown placeholder",
        ),
        pytest.param(
            metric(name="ovens", min="1", prometheus={"query": "up", "url": "http://a"}),
            "prometheus.url",
            "unknown field",
            id="an address of the user's own",
        ),
        pytest.param(
            metric(name="ovens", prometheus={"query": "up"}), "metrics[0]", "either", id="no bound"
        ),
        pytest.param(
            metric(name="ovens", min="50ms", prometheus={"query": "up"}),
            "metrics[0]",
            "prometheus need min or max as a decimal",
            id="a duration for a query",
        ),
        pytest.param(
            metric(name="ovens", maxRatioToStable="2", prometheus={"query": "up"}),
            "metrics[0]",
            "write a ratio in the query",
            id="a ratio for a query",
        ),
        pytest.param(
            metric(name="ovens", min="1", minSamples=5, prometheus={"query": "up"}),
            "metrics[0]",
            "minSamples does not belong",
            id="samples of a query",
        ),
        pytest.param(
            metric(name="GoldenAccuracy", min="0.9", failureLimit=1),
            "metrics[0]",
            "are read once",
            id="a second look at what is read once",
        ),
        pytest.param(
            metric(name="Accelerated", min="1", reading="WorstUnit"),
            "metrics[0]",
            "reading: WorstUnit is for",
            id="the worst unit of what has none",
        ),
        pytest.param(
            metric(name="Latencies", min="1", reading="WorstUnit", prometheus={"query": "up"}),
            "metrics[0]",
            "reading: WorstUnit is for",
            id="the worst unit of a query",
        ),
        pytest.param(
            deployment(
                runtime={"swap": "Sequential"},
                rollout={"analysis": {"metrics": [{"name": "OutputAgreement", "min": "0.9"}]}},
            ),
            "spec",
            "swap: Sequential never has them",
            id="a shadow without a second model",
        ),
        pytest.param(
            metric(name="ErrorRate", max="0", minSamples=0), "minSamples", "equal to 1", id="none"
        ),
        pytest.param(
            metric(name="ErrorRate", max="0", noData="Skip"), "noData", '"Hold"', id="no data"
        ),
        pytest.param(
            rollout(analysis={"metrics": [{"name": "ErrorRate", "max": "0"}] * 17}),
            "analysis.metrics",
            "at most 16 items",
            id="many metrics",
        ),
    ],
)
def test_refused_with_the_field_and_the_remedy(
    create: Create, body: Object, field: str, words: str
) -> None:
    with pytest.raises(ApiException) as refusal:
        create(body, dry_run="All")
    message = json.loads(refusal.value.body)["message"]
    assert refusal.value.status in {400, 422}, message
    assert field in message
    assert words in message
    assert "evaluation error" not in message


@pytest.mark.parametrize(
    "body",
    [
        steps({"units": "1", "soak": "1x"}),
        steps({"units": "1", "soak": "1d12h"}),
        steps({"units": "1", "soak": "31d"}),
        steps({"units": "0%"}),
        rollout(progressDeadline="soon"),
        variant(memory="1 GB"),
        resources(memoryRequest="1 GB", memoryLimit="2Gi"),
        resources(memoryRequest="3Gi", memoryLimit="2Gi"),
        deployment(pods={"labels": {"skerry.dev/unit": "x"}}),
        deployment(pods={"annotations": {"a.skerry.dev/unit": "x"}}),
        deployment(pods={"labels": {"app.kubernetes.io/managed-by": "x"}}),
    ],
    ids=lambda body: json.dumps(body["spec"])[:60],
)
def test_one_mistake_is_one_message(create: Create, body: Object) -> None:
    with pytest.raises(ApiException) as refusal:
        create(body, dry_run="All")
    told = json.loads(refusal.value.body)
    causes = told["details"]["causes"]
    assert len(causes) == 1, told["message"]
    assert "match" not in told["message"]


def test_a_model_shows_its_version_and_exam(create: Create, kubectl: Callable[..., str]) -> None:
    create(EVERYTHING_MODEL | {"metadata": {"name": "shown"}})
    head, row = kubectl("get", "em", "shown", "-o", "wide").splitlines()
    assert head.split() == ["NAME", "VERSION", "READY", "REASON", "EXAM", "AGE"]
    assert row.split()[:3] == ["shown", "1.0.0", "MaxAbsError"]


def test_the_category_lists_both_kinds(create: Create, kubectl: Callable[..., str]) -> None:
    create(model(name="listed"))
    create(deployment(name="listed"))
    names = kubectl("get", "skerry", "-o", "name")
    assert "edgemodel.skerry.dev/listed" in names
    assert "edgedeployment.skerry.dev/listed" in names


def test_explain_tells_meaning_default_and_words(kubectl: Callable[..., str]) -> None:
    text = kubectl("explain", "edgedeployment.spec.rollout")
    assert "How a new revision reaches the units." in text
    assert "Longest time without real progress; a download that moves stops it." in text
    assert "enum: Rollback, Pause" in text
    assert "-required-" in kubectl("explain", "edgemodel.spec.variants")
