"""Which device of a plugin is taken, and what is said of a provider that is not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from skerry_runtime.backends.base import ProviderMissing, accelerators
from skerry_runtime.backends.providers import (
    EpDevice,
    adder_of,
    choose_device,
    hides_fallback,
)
from skerry_runtime.contract import Execution

OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"


def device(kind: str, ov_device: str = "") -> EpDevice:
    hardware = SimpleNamespace(type=SimpleNamespace(name=kind))
    metadata = {"ov_device": ov_device or kind}
    return cast("EpDevice", SimpleNamespace(ep_name="x", device=hardware, ep_metadata=metadata))


CPU_DEVICE, GPU, SECOND_GPU, NPU = (
    device("CPU"),
    device("GPU"),
    device("GPU", "GPU.1"),
    device("NPU"),
)


def test_the_wanted_kind_of_device_is_taken() -> None:
    offered = [CPU_DEVICE, GPU, SECOND_GPU, NPU]
    assert choose_device(offered, "GPU") is GPU
    assert choose_device(offered, "GPU.1") is SECOND_GPU
    assert choose_device(offered, "CPU") is CPU_DEVICE


def test_no_device_of_another_kind_takes_its_place() -> None:
    assert choose_device([CPU_DEVICE, NPU], "GPU") is None
    assert choose_device([CPU_DEVICE, GPU], "GPU.1") is None


def test_without_a_wish_an_npu_goes_first_and_the_cpu_never() -> None:
    assert choose_device([CPU_DEVICE, GPU, NPU], None) is NPU
    assert choose_device([CPU_DEVICE, GPU], None) is GPU
    assert choose_device([CPU_DEVICE], None) is None


def test_a_provider_that_is_not_in_the_image_is_told_apart_from_a_missing_device() -> None:
    execution = Execution(profile="x", providers=("QNNExecutionProvider",))
    with pytest.raises(ProviderMissing, match=r"QNN.* is not part of this runtime image, which"):
        adder_of("QNNExecutionProvider", execution, threads=1)


def test_only_what_comes_before_the_cpu_counts_as_accelerator() -> None:
    assert accelerators(Execution(profile="x", providers=("A", "B", CPU, "C"))) == ("A", "B")
    assert accelerators(Execution(profile="x", providers=("A",))) == ("A",)
    assert accelerators(Execution(profile="x")) == ()


@pytest.mark.parametrize(("kind", "hides"), [("NPU", True), ("GPU", False), ("CPU", False)])
def test_openvino_hides_its_own_fallback_on_an_npu_only(kind: str, *, hides: bool) -> None:
    options = {OPENVINO: {"device_type": kind}}
    execution = Execution(profile="x", provider_options=options)
    assert hides_fallback(OPENVINO, execution) is hides
