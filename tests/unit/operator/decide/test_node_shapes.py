"""Nodes as they are found in the field, each with the profile of the catalogue that it must get.

Labels and resources are spelled as the tools spell them that set them; no row is about hardware
that was at hand.
"""
# ruff: noqa: E501 (a table reads best with one case on a line)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from builders import NOW, make_deployment, make_model, make_node, make_variant
from skerry_operator.catalogue.profiles import SHIPPED_FLAVORS, Profile, extended_profiles
from skerry_operator.constants import RejectReason as R
from skerry_operator.decide.placement.place import Incumbents, Wish, place

F = "feature.node.kubernetes.io"
DT = "beta.devicetree.org"
NONE: dict[str, str] = {}

BUILDS = make_model(
    "1",
    make_variant("fp32", inputShapes={"image": [1, 64]}),
    make_variant("edgetpu", format="TFLite", precision="INT8"),
    make_variant("compiled", format="Custom", precision="INT8"),
).spec.variants
"""A model with a file for every profile."""


def yes(*names: str, of: str = F) -> dict[str, str]:
    return {f"{of}/{name}": "true" for name in names}


@cache
def catalogue(rows: str) -> tuple[Profile, ...]:
    return extended_profiles(rows, "values")


def outcome(
    labels: Mapping[str, str],
    resources: Mapping[str, int],
    arch: str,
    asked: tuple[str, ...],
    flavors: frozenset[str] | None = None,
    rows: str = "",
) -> str:
    """The profile that a node of this shape gets, or the reason why it gets none.

    Without `flavors` it is that of somebody who has an image for everything; `rows` change the
    catalogue.
    """
    bare = make_node("node", arch=arch)
    node = replace(
        bare,
        labels={**bare.labels, **labels},
        allocatable={**bare.allocatable, **{name: float(n) for name, n in resources.items()}},
    )
    wanted = make_deployment(placement={"accelerators": list(asked)}).spec.placement
    wish = Wish("digits", wanted, BUILDS, catalogue(rows), flavors)
    result = place([node], wish, Incumbents(now=NOW))
    if result.cells:
        return result.cells[0].hardware.profile.name
    return str(result.rejected[0].reason)


@pytest.mark.parametrize(
    ("labels", "resources", "arch", "asked", "expected"),
    [
        # Jetson: no PCI device; the resource is that of cards
        pytest.param(NONE, {"nvidia.com/gpu": 1}, "arm64", (), "nvidia-jetson", id="Orin with NVIDIA's plugin"),
        pytest.param(NONE, {"nvidia.com/gpu.shared": 4}, "arm64", (), "nvidia-jetson", id="Orin, time-sliced under another name"),
        pytest.param({"skerry.dev/accelerator-nvidia-jetson": "present"}, {}, "arm64", ("gpu",), R.ACCELERATOR_MISSING, id="Orin without plugin, known by its kernel"),
        pytest.param({f"{F}/cpu-model.vendor_id": "NVIDIA"}, {}, "arm64", ("gpu",), R.ACCELERATOR_MISSING, id="Xavier without plugin, known by its CPU"),
        pytest.param(yes("gpu.present", of="nvidia.com"), {}, "arm64", ("nvidia-jetson",), R.ACCELERATOR_MISSING, id="Orin without plugin, labelled by hand"),
        pytest.param({f"{DT}/nvidia-jetson-nano": "1", f"{DT}/nvidia-tegra210": "1"}, {}, "arm64", ("gpu",), R.ACCELERATOR_MISSING, id="Nano without plugin, known by its devicetree"),
        pytest.param({"skerry.dev/accelerator-nvidia-jetson": "present"}, {}, "arm64", (), "cpu", id="Orin without plugin serves on its CPU"),
        pytest.param(yes("pci-0302_10de.present"), {"nvidia.com/gpu": 1}, "arm64", ("nvidia-jetson",), R.NO_MATCHING_LABEL, id="card in an Arm server is no Jetson"),
        pytest.param(yes("pci-0302_10de.present"), {"nvidia.com/gpu": 1}, "arm64", ("gpu",), R.ARCHITECTURE_NOT_BUILT, id="card in an Arm server, image for x86 only"),
        # NVIDIA cards
        pytest.param(yes("pci-0300_10de.present"), {"nvidia.com/gpu": 1}, "amd64", (), "nvidia-gpu", id="workstation card, stock NFD"),
        pytest.param(yes("pci-0302_10de.present"), {"nvidia.com/gpu": 2}, "amd64", ("gpu",), "nvidia-gpu", id="two server cards, stock NFD"),
        pytest.param(yes("pci-10de.present") | {"nvidia.com/gpu.product": "NVIDIA-L4"}, {"nvidia.com/gpu": 1}, "amd64", (), "nvidia-gpu", id="card, NVIDIA's NFD and GFD"),
        pytest.param(NONE, {"nvidia.com/gpu": 1}, "amd64", (), "nvidia-gpu", id="card without any label"),
        pytest.param(NONE, {"nvidia.com/gpu.shared": 10}, "amd64", (), "nvidia-gpu", id="card, time-sliced under another name"),
        pytest.param({"nvidia.com/mig.strategy": "single"}, {"nvidia.com/gpu": 7}, "amd64", (), "nvidia-gpu", id="MIG, strategy single"),
        pytest.param({"nvidia.com/mig.strategy": "mixed"}, {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.5gb": 7}, "amd64", (), "nvidia-mig", id="MIG, strategy mixed, A100"),
        pytest.param(NONE, {"nvidia.com/mig-3g.40gb": 1}, "amd64", ("gpu",), "nvidia-mig", id="MIG, strategy mixed, only a large slice"),
        pytest.param({"nvidia.com/mig.strategy": "mixed"}, {}, "amd64", ("nvidia-mig",), R.ACCELERATOR_MISSING, id="MIG without slices"),
        pytest.param(yes("pci-10de.present"), {}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="card without plugin, NVIDIA's NFD"),
        pytest.param(yes("pci-0302_10de.present"), {}, "amd64", ("nvidia-gpu",), R.ACCELERATOR_MISSING, id="card without plugin, stock NFD"),
        pytest.param(yes("gpu.present", of="nvidia.com"), {"nvidia.com/gpu": 0}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="card that fell off its bus"),
        # Intel graphics
        pytest.param(yes("gpu", of=f"intel.{F}"), {"gpu.intel.com/i915": 1}, "amd64", (), "intel-gpu", id="Intel graphics, old driver"),
        pytest.param(yes("pci-0300_8086.present"), {"gpu.intel.com/xe": 1}, "amd64", (), "intel-gpu", id="Intel graphics, new driver"),
        pytest.param(NONE, {"gpu.intel.com/i915": 10, "gpu.intel.com/xe": 1}, "amd64", ("gpu",), "intel-gpu", id="Intel graphics shared, and a card"),
        pytest.param(yes("gpu", of=f"intel.{F}"), {}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="Intel graphics without plugin, Intel's rules"),
        pytest.param(yes("pci-0300_8086.present"), {}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="Intel graphics without plugin, stock NFD"),
        pytest.param(yes("pci-0380_8086.present"), {}, "amd64", ("intel-gpu",), R.ACCELERATOR_MISSING, id="Intel data-centre card without plugin"),
        pytest.param({"gpu.intel.com/family": "A_Series"}, {}, "amd64", ("intel-gpu",), R.ACCELERATOR_MISSING, id="Arc without plugin"),
        pytest.param(NONE, {"gpu.intel.com/monitoring": 1}, "amd64", ("gpu",), R.NO_MATCHING_LABEL, id="monitoring of Intel graphics is no device"),
        pytest.param(yes("pci-8086.present"), {}, "amd64", ("gpu",), R.NO_MATCHING_LABEL, id="an Intel network card under NVIDIA's NFD is no graphics"),
        # Intel NPU
        pytest.param(yes("npu", of=f"intel.{F}"), {"npu.intel.com/accel": 1}, "amd64", (), "intel-npu", id="Core Ultra with Intel's plugin"),
        pytest.param(NONE, {"npu.intel.com/accel": 8, "gpu.intel.com/xe": 1}, "amd64", (), "intel-npu", id="Core Ultra with both plugins"),
        pytest.param(NONE, {"npu.intel.com/accel": 8, "gpu.intel.com/xe": 1}, "amd64", ("gpu", "npu"), "intel-gpu", id="the same, graphics wanted"),
        pytest.param(yes("npu", of=f"intel.{F}"), {}, "amd64", ("npu",), R.ACCELERATOR_MISSING, id="Core Ultra without plugin, Intel's rules"),
        pytest.param(yes("pci-1200_8086_643e.present"), {}, "amd64", ("npu",), R.ACCELERATOR_MISSING, id="Core Ultra without plugin, NFD by device"),
        pytest.param(yes("pci-1200_8086.present"), {}, "amd64", ("npu",), R.NO_MATCHING_LABEL, id="an FPGA of the same class is no NPU"),
        # AMD
        pytest.param(yes("amd-gpu"), {"amd.com/gpu": 1}, "amd64", (), "amd-gpu", id="Radeon with AMD's operator"),
        pytest.param(yes("pci-0300_1002.present"), {}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="Radeon without plugin, stock NFD"),
        pytest.param(yes("pci-0380_1002.present"), {}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="Instinct without plugin, stock NFD"),
        pytest.param({"amd.com/gpu.family": "NV", "amd.com/gpu.vram": "16G"}, {}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="Radeon without plugin, AMD's labeller"),
        pytest.param({"beta.amd.com/gpu.family.AI": "1"}, {}, "amd64", ("gpu",), R.ACCELERATOR_MISSING, id="Radeon without plugin, AMD's old labeller"),
        pytest.param(NONE, {"amd.com/gpu": 1}, "arm64", ("amd-gpu",), R.ARCHITECTURE_NOT_BUILT, id="Radeon in an Arm server"),
        pytest.param(NONE, {"squat.ai/amd-xdna": 1}, "amd64", (), "amd-xdna", id="Ryzen AI behind the generic plugin"),
        pytest.param(yes("pci-1180_1022.present"), {}, "amd64", ("npu",), R.ACCELERATOR_MISSING, id="Ryzen AI without plugin, NFD with class 1180"),
        pytest.param(yes("pci-1022_17f0.present"), {"amd.com/gpu": 1}, "amd64", (), "amd-gpu", id="Ryzen AI without plugin serves on its graphics"),
        # Hailo
        pytest.param({"hailo.ai/device": "present"}, {"hailo.ai/h8": 1}, "arm64", (), "hailo-8", id="Raspberry Pi 5 with Hailo-8"),
        pytest.param(yes("pci-0b40_1e60.present"), {"hailo.ai/h8": 1}, "amd64", ("npu",), "hailo-8", id="industrial PC with Hailo-8"),
        pytest.param({"hailo.ai/device": "present"}, {"hailo.ai/h8l": 1}, "arm64", (), "hailo-8l", id="Raspberry Pi 5 with the AI Kit"),
        pytest.param({"hailo.ai/device": "present"}, {"hailo.ai/h10": 1}, "arm64", (), "hailo-10h", id="Raspberry Pi 5 with the AI HAT+ 2"),
        pytest.param(NONE, {"squat.ai/hailo-8": 1}, "arm64", (), "hailo-8", id="Hailo-8 behind the generic plugin"),
        pytest.param({"hailo.ai/device": "present"}, {}, "arm64", ("npu",), R.ACCELERATOR_MISSING, id="Hailo without plugin, labelled by hand"),
        pytest.param(yes("pci-0b40_1e60.present"), {}, "arm64", ("hailo-8l",), R.ACCELERATOR_MISSING, id="Hailo without plugin, stock NFD"),
        pytest.param(yes("pci-1e60.present"), {}, "arm64", ("hailo-10h",), R.ACCELERATOR_MISSING, id="Hailo without plugin, NFD by vendor"),
        pytest.param({"skerry.dev/accelerator-hailo-10h": "present"}, {}, "arm64", ("hailo-8",), R.NO_MATCHING_LABEL, id="a Hailo-10H is no Hailo-8"),
        pytest.param(NONE, {"hailo.ai/h8": 1, "squat.ai/coral-pcie": 1}, "arm64", (), "hailo-8", id="Hailo-8 goes before Coral"),
        pytest.param(NONE, {"hailo.ai/h8": 1, "squat.ai/coral-pcie": 1}, "arm64", ("coral-pcie", "npu"), "coral-pcie", id="unless Coral is named first"),
        pytest.param(NONE, {"hailo.ai/h8": 1, "npu.intel.com/accel": 1}, "amd64", (), "hailo-8", id="an added part goes before a built-in one"),
        # Coral
        pytest.param(yes("pci-0880_1ac1.present"), {"squat.ai/coral-pcie": 1}, "amd64", (), "coral-pcie", id="Coral on M.2, NFD with class 0880"),
        pytest.param(NONE, {"squat.ai/coral-pcie": 1}, "arm64", (), "coral-pcie", id="Coral on M.2 behind the generic plugin"),
        pytest.param(yes("pci-0880_1ac1.present"), {}, "amd64", ("npu",), R.ACCELERATOR_MISSING, id="Coral on M.2 without plugin, NFD with class 0880"),
        pytest.param({f"{DT}/fsl-imx8mq-phanbell": "1"}, {}, "arm64", ("npu",), R.ACCELERATOR_MISSING, id="Coral Dev Board without plugin"),
        pytest.param(yes("usb-fe_1a6e_089a.present"), {"squat.ai/coral-usb": 1}, "arm64", (), "coral-usb", id="Coral on USB before its first use"),
        pytest.param(yes("usb-ff_18d1_9302.present"), {"squat.ai/coral-usb": 1}, "arm64", (), "coral-usb", id="Coral on USB after its first use"),
        pytest.param(NONE, {"akri.sh/coral-usb": 1}, "amd64", (), "coral-usb", id="Coral on USB found by Akri"),
        pytest.param(yes("usb-fe_1a6e_089a.present"), {"kkohtaka.org/edgetpu": 1}, "arm64", ("npu",), "coral-usb", id="Coral on USB with its community plugin"),
        pytest.param(yes("usb-fe_1a6e_089a.present"), {}, "arm64", ("coral-usb",), R.ACCELERATOR_MISSING, id="Coral on USB without plugin, cold"),
        pytest.param(yes("usb-ff_18d1_9302.present"), {}, "arm64", ("coral-usb",), R.ACCELERATOR_MISSING, id="Coral on USB without plugin, in use"),
        # dead hardware
        pytest.param(yes("usb-ff_03e7_2485.present"), {}, "amd64", ("npu",), R.UNSUPPORTED_HARDWARE, id="Neural Compute Stick 2, NFD"),
        pytest.param({"intel.com/ncs2": "1", "ncs2.intel.com/MYRIAD.FP16": "true"}, {}, "arm64", ("movidius-ncs2",), R.UNSUPPORTED_HARDWARE, id="Neural Compute Stick 2, its community labeller"),
        pytest.param(yes("usb-ff_03e7_2485.present"), {}, "amd64", (), "cpu", id="a node with a Neural Compute Stick 2 serves on its CPU"),
        pytest.param(yes("usb-ff_03e7_2485.present"), {"hailo.ai/h8": 1}, "amd64", ("npu",), "hailo-8", id="or on what else it has"),
        pytest.param({"skerry.dev/accelerator-arm-mali": "present"}, {}, "arm64", ("gpu", "cpu"), "cpu", id="Mali serves on its CPU"),
        pytest.param({"skerry.dev/accelerator-arm-mali": "present"}, {}, "arm64", ("gpu",), R.UNSUPPORTED_HARDWARE, id="Mali, only graphics wanted"),
        # platform devices
        pytest.param({f"{DT}/rockchip-rk3588": "1"}, {"squat.ai/rockchip-rknpu": 3}, "arm64", (), "rockchip-rknpu", id="RK3588 behind the generic plugin"),
        pytest.param({f"{DT}/rockchip-rk3588": "1"}, {}, "arm64", ("npu",), R.ACCELERATOR_MISSING, id="RK3588 without plugin, known by its devicetree"),
        pytest.param({"skerry.dev/accelerator-rockchip-rknpu": "present"}, {}, "arm64", (), "cpu", id="RK3568 without plugin serves on its CPU"),
        pytest.param(NONE, {"squat.ai/rockchip-rknpu": 1}, "amd64", ("npu",), R.ARCHITECTURE_NOT_BUILT, id="a resource of Rockchip on x86"),
        pytest.param(NONE, {"squat.ai/qualcomm-qnn": 1}, "arm64", (), "qualcomm-qnn", id="Hexagon behind the generic plugin"),
        pytest.param({"skerry.dev/accelerator-qualcomm-qnn": "present"}, {}, "arm64", ("npu",), R.ACCELERATOR_MISSING, id="Hexagon without plugin, labelled by hand"),
        # CPU
        pytest.param(NONE, {}, "amd64", (), "cpu", id="a PC"),
        pytest.param(yes("cpu-cpuid.ASIMD"), {}, "arm64", (), "cpu", id="Raspberry Pi 4"),
        pytest.param(yes("cpu-cpuid.ASIMDDP"), {}, "arm64", (), "cpu", id="Raspberry Pi 5"),
        pytest.param(yes("cpu-cpuid.AMXINT8", "cpu-cpuid.AVX512VNNI"), {}, "amd64", ("cpu",), "cpu", id="a class leads to no row that must be named"),
        pytest.param(yes("cpu-cpuid.ASIMDDP"), {}, "arm64", ("cpu-arm64-dotprod", "cpu"), "cpu-arm64-dotprod", id="Raspberry Pi 5, int8 wanted"),
        pytest.param(yes("cpu-cpuid.ASIMD"), {}, "arm64", ("cpu-arm64-dotprod", "cpu"), "cpu", id="Raspberry Pi 4, int8 wanted"),
        pytest.param(yes("cpu-cpuid.ASIMD"), {}, "arm64", ("cpu-arm64-dotprod",), R.NO_MATCHING_LABEL, id="Raspberry Pi 4, only int8 wanted"),
        pytest.param(yes("cpu-cpuid.AMXINT8", "cpu-cpuid.AVX512VNNI"), {}, "amd64", ("cpu-x86-amx", "cpu-x86-vnni"), "cpu-x86-amx", id="Sapphire Rapids"),
        pytest.param(yes("cpu-cpuid.AVXVNNI"), {}, "amd64", ("cpu-x86-amx", "cpu-x86-vnni"), "cpu-x86-vnni", id="Alder Lake"),
        pytest.param(yes("cpu-cpuid.AVX2"), {}, "amd64", ("cpu-x86-amx", "cpu-x86-vnni", "cpu"), "cpu", id="Haswell"),
        pytest.param(NONE, {}, "amd64", ("cpu-openvino",), "cpu-openvino", id="OpenVINO on a PC, by name"),
        pytest.param(NONE, {}, "arm64", ("cpu-openvino",), R.ARCHITECTURE_NOT_BUILT, id="OpenVINO on Arm"),
        pytest.param(NONE, {}, "riscv64", (), R.ARCHITECTURE_NOT_BUILT, id="a RISC-V board"),
        pytest.param(NONE, {"memryx.com/mx3": 1}, "arm64", ("npu",), R.NO_MATCHING_LABEL, id="hardware that no row knows"),
    ],
)  # fmt: skip
def test_a_node_of_the_field(
    labels: dict[str, str],
    resources: dict[str, int],
    arch: str,
    asked: tuple[str, ...],
    expected: str,
) -> None:
    assert outcome(labels, resources, arch, asked) == expected


@pytest.mark.parametrize(
    ("resources", "arch", "asked", "expected"),
    [
        pytest.param({"hailo.ai/h8": 1}, "arm64", ("npu",), R.IMAGE_MISSING, id="Hailo"),
        pytest.param({"hailo.ai/h8": 1}, "arm64", (), "cpu", id="Hailo, with the CPU to fall back to"),
        pytest.param({"nvidia.com/gpu": 1}, "arm64", ("gpu",), R.IMAGE_MISSING, id="Jetson"),
        pytest.param({"nvidia.com/gpu": 1}, "amd64", ("gpu",), R.IMAGE_MISSING, id="NVIDIA card"),
        pytest.param({"npu.intel.com/accel": 1}, "amd64", ("npu",), R.IMAGE_MISSING, id="Intel NPU"),
        pytest.param({"gpu.intel.com/xe": 1}, "amd64", ("gpu",), R.IMAGE_MISSING, id="Intel graphics"),
        pytest.param({}, "amd64", ("cpu-openvino",), "cpu-openvino", id="OpenVINO on the CPU"),
        pytest.param({}, "arm64", (), "cpu", id="the CPU"),
    ],
)  # fmt: skip
def test_with_no_images_but_skerrys_own(
    resources: dict[str, int], arch: str, asked: tuple[str, ...], expected: str
) -> None:
    assert outcome(NONE, resources, arch, asked, frozenset(SHIPPED_FLAVORS)) == expected


WITH_CUDA = frozenset({*SHIPPED_FLAVORS, "cuda"})


@pytest.mark.parametrize(
    ("labels", "rows", "expected"),
    [
        pytest.param(NONE, "", R.IMAGE_MISSING, id="Jetson"),
        pytest.param({"skerry.dev/accelerator-nvidia-jetson": "present"}, "[{name: nvidia-gpu, architectures: [amd64, arm64]}]", R.IMAGE_MISSING, id="Jetson that is labelled, and CUDA for Arm servers"),
        pytest.param(yes("pci-0302_10de.present"), "[{name: nvidia-gpu, architectures: [amd64, arm64]}]", "nvidia-gpu", id="card in an Arm server, stock NFD"),
        pytest.param(yes("pci-10de.present"), "[{name: nvidia-gpu, architectures: [amd64, arm64]}]", "nvidia-gpu", id="card in an Arm server, NVIDIA's NFD"),
    ],
)  # fmt: skip
def test_an_image_for_cards_is_not_started_on_a_jetson(
    labels: dict[str, str], rows: str, expected: str
) -> None:
    assert outcome(labels, {"nvidia.com/gpu": 1}, "arm64", ("gpu",), WITH_CUDA, rows) == expected
