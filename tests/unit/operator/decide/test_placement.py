"""Placement: which node gets a unit, on which hardware, and why another gets none."""
# ruff: noqa: E501 (a table reads best with one case on a line)

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import (
    HAILO,
    NOW,
    NVIDIA,
    PROFILES,
    cordoned,
    having,
    labelled,
    make_deployment,
    make_model,
    make_node,
    make_variant,
    offline,
    tainted,
)
from skerry_operator.catalogue.profiles import Profile
from skerry_operator.constants import RejectReason
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.place import (
    Incumbents,
    PlacementResult,
    Wish,
    accelerator_problem,
    place,
)
from skerry_runtime.contract import Engine

CPU_CELL = "digits-cpu-amd64"
GPU_CELL = "digits-nvidia-gpu-amd64"
HAILO_CELL = "digits-hailo-8-arm64"
LABEL = labelled(hailo_ai__device="present")
H8 = having("hailo.ai/h8")
GPU = having("nvidia.com/gpu")
TFLITE = make_variant("lite", format="TFLite")
SMALL = having("memory", 64 * 2.0**20)
TOLERATE = {"tolerations": [{"key": "edge", "operator": "Exists"}]}


def wish(
    *variants: dict[str, Any],
    profiles: tuple[Profile, ...] = PROFILES,
    engine: Engine | None = None,
    **placement: Any,
) -> Wish:
    spec = make_deployment(placement=placement).spec.placement
    model = make_model("1", *variants).spec
    return Wish("digits", spec, model.variants, profiles, engine=engine)


def incumbents(cell: str | None = None, lost_s: float | None = None, node: str = "n") -> Incumbents:
    return Incumbents(
        now=NOW,
        cells={node: cell} if cell else {},
        lost={node: NOW - timedelta(seconds=lost_s)} if lost_s is not None else {},
    )


def outcome(result: PlacementResult) -> str | None:
    """The cell of the one node, else the reason why it has none, else None: not looked at."""
    if result.cells:
        return result.cells[0].name
    return result.rejected[0].reason if result.rejected else None


R = RejectReason
PLACED_ON_CPU = incumbents(CPU_CELL)
PLACED_ON_HAILO = incumbents(HAILO_CELL)


@pytest.mark.parametrize(
    ("node", "asked", "before", "expected"),
    [
        pytest.param(make_node("n"), wish(), incumbents(), CPU_CELL, id="a plain node serves on its CPU"),
        pytest.param(make_node("n", GPU), wish(), incumbents(), GPU_CELL, id="a GPU is better than the CPU"),
        pytest.param(make_node("n", H8, GPU, arch="arm64"), wish(), incumbents(), HAILO_CELL, id="an NPU is better than a GPU"),
        pytest.param(make_node("n", GPU), wish(accelerators=["cpu", "gpu"]), incumbents(), CPU_CELL, id="the order of the spec wins over the default"),
        pytest.param(make_node("n", GPU), wish(accelerators=["nvidia-gpu"]), incumbents(), GPU_CELL, id="a profile can be asked for by name"),
        pytest.param(make_node("n"), wish(nodeSelector={"site": "a"}), incumbents(), None, id="a node outside the selector is not even mentioned"),
        pytest.param(make_node("n", labelled(site="a")), wish(nodeSelector={"site": "a"}), incumbents(), CPU_CELL, id="a node inside the selector is taken"),
        pytest.param(make_node("n", LABEL, arch="arm64"), wish(accelerators=["npu"]), incumbents(), R.ACCELERATOR_MISSING, id="a label without a resource is no capacity"),
        pytest.param(make_node("n", having("hailo.ai/h8", 0), arch="arm64"), wish(accelerators=["npu"]), incumbents(), R.ACCELERATOR_MISSING, id="a plugin that offers no device is no capacity"),
        pytest.param(make_node("n", LABEL, arch="arm64"), wish(), incumbents(), "digits-cpu-arm64", id="a missing NPU falls back to the CPU"),
        pytest.param(make_node("n", LABEL, arch="arm64"), wish(fallback="Forbid"), incumbents(), R.FALLBACK_FORBIDDEN, id="a missing NPU falls back to nothing when that is forbidden"),
        pytest.param(make_node("n"), wish(accelerators=["npu"], fallback="Forbid"), incumbents(), R.NO_MATCHING_LABEL, id="nothing to fall back to is the first entry's own reason"),
        pytest.param(make_node("n", labelled(gpu="mali")), wish(accelerators=["vulkan-gpu"]), incumbents(), "digits-vulkan-gpu-amd64", id="a profile without a resource is proven by its label"),
        pytest.param(make_node("n", labelled(gpu="adreno")), wish(accelerators=["vulkan-gpu"]), incumbents(), "digits-vulkan-gpu-amd64", id="any label alternative will do"),
        pytest.param(make_node("n"), wish(accelerators=["vulkan-gpu"]), incumbents(), R.NO_MATCHING_LABEL, id="a profile without a resource needs its label"),
        pytest.param(make_node("n", H8), wish(accelerators=["npu"]), incumbents(), R.ARCHITECTURE_NOT_BUILT, id="an image must be built for the CPU architecture"),
        pytest.param(make_node("n", having("squat.ai/hailo"), arch="arm64"), wish(), incumbents(), "digits-hailo-8-arm64-r2", id="another resource of the profile is a cell of its own"),
        pytest.param(make_node("n"), wish(make_variant(runsOn=["gpu"])), incumbents(), R.NO_VARIANT_FOR, id="a variant for GPUs does not run on the CPU"),
        pytest.param(make_node("n", GPU), wish(make_variant(runsOn=["cpu"])), incumbents(), CPU_CELL, id="a GPU without a variant is passed over"),
        pytest.param(make_node("n", GPU), wish(make_variant(runsOn=["nvidia-gpu"])), incumbents(), GPU_CELL, id="a variant may name a profile"),
        pytest.param(make_node("n"), wish(TFLITE, engine=Engine.TRITON), incumbents(), R.NO_VARIANT_FOR, id="an engine runs its own formats only"),
        pytest.param(make_node("n"), wish(make_variant(format="ORT"), engine=Engine.TRITON), incumbents(), R.NO_VARIANT_FOR, id="Triton reads .onnx and not .ort"),
        pytest.param(make_node("n"), wish(TFLITE, make_variant(), engine=Engine.TRITON), incumbents(), CPU_CELL, id="of several variants an engine takes one that it reads"),
        pytest.param(make_node("n"), wish(make_variant(format="ORT"), engine=Engine.ONNX_RUNTIME), incumbents(), CPU_CELL, id="ONNX Runtime reads .ort"),
        pytest.param(make_node("n"), wish(make_variant(), engine=Engine.LITE_RT), incumbents(), R.NO_VARIANT_FOR, id="LiteRT reads no .onnx"),
        pytest.param(make_node("n", SMALL), wish(make_variant(memory="200Mi")), incumbents(), R.INSUFFICIENT_MEMORY, id="a model must fit into the memory"),
        pytest.param(make_node("n", SMALL), wish(make_variant()), incumbents(), CPU_CELL, id="a variant that names no memory is let in"),
        pytest.param(make_node("n", GPU, SMALL), wish(make_variant("big", memory="200Mi", runsOn=["gpu"]), make_variant("small", memory="32Mi")), incumbents(), GPU_CELL + "-v2", id="too little memory for one variant leaves the next on the same hardware"),
        pytest.param(make_node("n", cordoned), wish(), incumbents(), R.NODE_UNSCHEDULABLE, id="a cordoned node gets nothing new"),
        pytest.param(make_node("n", cordoned), wish(), PLACED_ON_CPU, CPU_CELL, id="a cordoned node keeps what it has"),
        pytest.param(make_node("n", offline), wish(), incumbents(), R.NODE_OFFLINE, id="an offline node gets nothing new"),
        pytest.param(make_node("n", offline), wish(), PLACED_ON_CPU, CPU_CELL, id="an offline node keeps its unit"),
        pytest.param(make_node("n", offline, arch="arm64"), wish(), incumbents(HAILO_CELL, 3600), HAILO_CELL, id="an offline node keeps its accelerator however long"),
        pytest.param(make_node("n", tainted("edge")), wish(), incumbents(), R.TAINT_NOT_TOLERATED, id="a taint keeps units away"),
        pytest.param(make_node("n", tainted("edge")), wish(**TOLERATE), incumbents(), CPU_CELL, id="a tolerated taint does not"),
        pytest.param(make_node("n", tainted("edge")), wish(), PLACED_ON_CPU, CPU_CELL, id="NoSchedule leaves a placed unit alone"),
        pytest.param(make_node("n", tainted("edge", "NoExecute")), wish(), PLACED_ON_CPU, R.TAINT_NOT_TOLERATED, id="NoExecute drives a placed unit away"),
        pytest.param(make_node("n", tainted("edge", "PreferNoSchedule")), wish(), incumbents(), CPU_CELL, id="PreferNoSchedule is only a wish"),
        pytest.param(make_node("n", tainted("node.kubernetes.io/unreachable", "NoExecute")), wish(), incumbents(), CPU_CELL, id="the taints of a node in trouble are tolerated"),
        pytest.param(make_node("n", arch="arm64"), wish(), PLACED_ON_HAILO, HAILO_CELL, id="a unit stays while its device plugin restarts"),
        pytest.param(make_node("n", arch="arm64"), wish(), incumbents(HAILO_CELL, 299), HAILO_CELL, id="it stays to the end of the grace period"),
        pytest.param(make_node("n", arch="arm64"), wish(), incumbents(HAILO_CELL, 300), "digits-cpu-arm64", id="it moves when the grace period is over"),
        pytest.param(make_node("n", arch="arm64"), wish(accelerators=["npu"]), incumbents(HAILO_CELL, 300), R.NO_MATCHING_LABEL, id="it is rejected when there is nothing to move to"),
        pytest.param(make_node("n", arch="arm64"), wish(accelerators=["cpu"]), PLACED_ON_HAILO, "digits-cpu-arm64", id="the spec can move a unit at once"),
        pytest.param(make_node("n", GPU), wish(), PLACED_ON_CPU, GPU_CELL, id="better hardware that appears is used"),
        pytest.param(make_node("n"), wish(profiles=(HAILO, NVIDIA), accelerators=["cpu"]), incumbents(), R.NO_MATCHING_LABEL, id="a class without a profile is no hardware"),
    ],
)  # fmt: skip
def test_a_node(node: Node, asked: Wish, before: Incumbents, expected: str | None) -> None:
    assert outcome(place([node], asked, before)) == expected


@pytest.mark.parametrize(
    ("node", "asked", "words"),
    [
        pytest.param(make_node("n", LABEL, arch="arm64"), wish(accelerators=["npu"]), "label present, no allocatable hailo.ai/h8 or squat.ai/hailo: is the device plugin running?", id="label without plugin"),
        pytest.param(make_node("n", LABEL, arch="arm64"), wish(fallback="Forbid"), "set spec.placement.fallback to Allow", id="forbidden fallback"),
        pytest.param(make_node("n"), wish(make_variant("big", runsOn=["gpu"])), "the model has no variant for cpu, which takes ONNX or ORT (big: runsOn is gpu): add one, with cpu in runsOn", id="no variant"),
        pytest.param(make_node("n"), wish(TFLITE, engine=Engine.TRITON), ", with spec.runtime.engine Triton, which takes ONNX (lite: format TFLite): add one, with cpu in runsOn, or change spec.runtime.engine", id="no variant for the engine"),
        pytest.param(make_node("n"), wish(make_variant(inputShapes={"x": [1, 4]}), engine=Engine.TRITON), "(fp32: inputShapes, and Triton fixes no axes)", id="shapes that the engine cannot fix"),
        pytest.param(make_node("n", SMALL), wish(make_variant(memory="200Mi")), "the node has 64Mi of memory allocatable, and needed are: fp32 200Mi: offer a smaller variant", id="memory"),
        pytest.param(make_node("n", cordoned), wish(), "kubectl uncordon n", id="cordoned"),
        pytest.param(make_node("n", tainted("edge", value="x")), wish(), "taint edge=x:NoSchedule is not tolerated: add it to spec.placement.tolerations", id="taint"),
        pytest.param(make_node("n", H8), wish(accelerators=["npu"]), "is built for arm64, the node is amd64", id="architecture"),
    ],
)  # fmt: skip
def test_a_rejection_names_what_is_missing_and_what_would_help(
    node: Node, asked: Wish, words: str
) -> None:
    assert words in place([node], asked, incumbents()).rejected[0].message


def test_missing_hardware_is_remembered_with_the_time_it_was_first_missed() -> None:
    node = make_node("n", arch="arm64")
    assert place([node], wish(), PLACED_ON_HAILO).lost == {"n": NOW}
    assert place([node], wish(), incumbents(HAILO_CELL, 60)).lost == {
        "n": NOW - timedelta(seconds=60)
    }


def test_hardware_that_is_back_is_missed_no_longer() -> None:
    node = make_node("n", H8, arch="arm64")
    assert place([node], wish(), incumbents(HAILO_CELL, 60)).lost == {}


def test_the_first_variant_that_fits_wins() -> None:
    result = place([make_node("n")], wish(make_variant("int8"), make_variant("fp32")), incumbents())
    assert result.cells[0].variant.name == "int8"


def test_an_unknown_accelerator_is_named_with_those_that_exist() -> None:
    problem = accelerator_problem(wish(accelerators=["npuu"]).placement, PROFILES)
    assert problem is not None
    assert "spec.placement.accelerators names 'npuu'" in problem
    assert "npu, gpu, cpu, hailo-8, nvidia-gpu, vulkan-gpu" in problem
    assert accelerator_problem(wish(accelerators=["npu", "cpu"]).placement, PROFILES) is None


def test_a_long_cell_name_is_cut_and_stays_unique() -> None:
    spec = wish()
    names = {
        place([make_node("n")], Wish("d" * 60 + tail, spec.placement, spec.variants, PROFILES), incumbents())
        .cells[0]
        .name
        for tail in ("a", "b")
    }  # fmt: skip
    assert len(names) == 2
    assert all(len(name) <= 52 for name in names)


# --- properties ---

OPTIONS = [H8, GPU, LABEL, SMALL, offline, cordoned, tainted("edge"), labelled(gpu="mali")]
nodes = st.lists(
    st.tuples(st.sets(st.sampled_from(range(len(OPTIONS)))), st.sampled_from(["amd64", "arm64"])),
    max_size=8,
).map(
    lambda rows: [
        make_node(f"n{index}", *(OPTIONS[i] for i in sorted(options)), arch=arch)
        for index, (options, arch) in enumerate(rows)
    ]
)
wishes = st.builds(
    lambda entries, fallback: wish(accelerators=entries, fallback=fallback),
    st.lists(st.sampled_from(["npu", "gpu", "cpu", "nvidia-gpu"]), unique=True, max_size=3),
    st.sampled_from(["Allow", "Forbid"]),
)


@given(nodes, wishes)
def test_no_unit_is_new_on_a_node_without_its_resource(fleet: list[Node], asked: Wish) -> None:
    by_name = {node.name: node for node in fleet}
    for cell in place(fleet, asked, Incumbents(NOW)).cells:
        for unit in cell.units:
            resource = cell.hardware.resource
            assert resource is None or by_name[unit].allocatable.get(resource, 0) >= 1
            assert by_name[unit].arch == cell.hardware.arch


@given(nodes, wishes, st.integers(0, 8))
def test_a_node_that_comes_or_goes_moves_no_other(
    fleet: list[Node], asked: Wish, position: int
) -> None:
    others = fleet[:position] + fleet[position + 1 :]
    whole = place(fleet, asked, Incumbents(NOW)).cell_of
    rest = place(others, asked, Incumbents(NOW)).cell_of
    assert rest == {unit: cell for unit, cell in whole.items() if unit in rest}


@given(nodes, wishes)
def test_every_selected_node_has_a_cell_or_a_reason(fleet: list[Node], asked: Wish) -> None:
    result = place(fleet, asked, Incumbents(NOW))
    rejected = {item.node for item in result.rejected}
    assert set(result.cell_of) | rejected == {node.name for node in fleet}
    assert not set(result.cell_of) & rejected


@given(nodes, wishes)
def test_what_is_placed_stays_placed(fleet: list[Node], asked: Wish) -> None:
    first = place(fleet, asked, Incumbents(NOW)).cell_of
    again = place(fleet, asked, Incumbents(NOW, cells=first)).cell_of
    assert {unit: again.get(unit) for unit in first} == first


EVENTS = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from(range(len(OPTIONS))), st.booleans()), max_size=6
)


@given(nodes, wishes, EVENTS)
def test_what_the_last_placement_worked_out_makes_no_difference(
    fleet: list[Node], asked: Wish, events: list[tuple[int, int, bool]]
) -> None:
    result = place(fleet, asked, Incumbents(NOW))
    for index, option, stays in events:
        name = f"n{index}"
        others = [node for node in fleet if node.name != name]
        fleet = [*others, make_node(name, OPTIONS[option])] if stays else others
        before = Incumbents(NOW, cells=result.cell_of, lost=result.lost)
        result = place(fleet, asked, before, result)
        assert result == place(fleet, asked, before)
