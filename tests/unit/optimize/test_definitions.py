"""Methods against their published definitions: what torch says of the same numbers is recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optimize_models import GraphBuilder
from skerry_optimize.graphs import read_graph, shapes_of, weights_of
from skerry_optimize.prune.channels import map_channels, unshared
from skerry_optimize.prune.magnitude import zeroed
from skerry_optimize.prune.structured import chosen
from skerry_optimize.training.losses import cross_entropy, divergence
from torch_says import AMOUNTS, CLASSES, SAMPLES, SHAPES, numbers

SAID = json.loads(Path(__file__).with_name("torch.json").read_text())


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.array(numbers(math.prod(shape), seed), np.float32).reshape(shape)


CASES = [(seed, amount) for seed in range(len(SHAPES)) for amount in AMOUNTS]


@pytest.mark.parametrize(("seed", "amount"), CASES)
def test_the_weights_that_go_are_those_of_l1_unstructured(seed: int, amount: float) -> None:
    said = SAID["pruning"][CASES.index((seed, amount))]
    assert (tuple(said["shape"]), said["amount"]) == (SHAPES[seed], amount)
    flat = zeroed(drawn(SHAPES[seed], seed), amount).reshape(-1)
    assert np.flatnonzero(flat == 0).tolist() == said["zeros"]


@pytest.mark.parametrize(("seed", "amount"), CASES)
def test_the_channels_that_go_are_those_of_ln_structured(seed: int, amount: float) -> None:
    """A layer between two others; in torch's shapes the made channels lie on the first axis."""
    weights = drawn(SHAPES[seed], seed)
    made, taken, *kernel = weights.shape
    builder = GraphBuilder((1, taken, 6, 6) if kernel else (1, taken))
    name = builder.weight(weights)
    if kernel:
        x = builder.add("Relu", builder.add("Conv", "x", name, pads=[1, 1, 1, 1]))
        tip = builder.conv(x, made, 3)
    else:
        x = builder.add("Relu", builder.add("Gemm", "x", name, transB=1))
        tip = builder.gemm(x, made, 3)
    model = unshared(read_graph(builder.model(tip)))
    known = map_channels(model, shapes_of(model), weights_of(model))
    gone = chosen(known, weights_of(model), amount)
    first = known.makers[0]
    found = [n for n, number in enumerate(first.numbers) if known.root(number) in gone]
    assert found == SAID["pruning"][CASES.index((seed, amount))]["channels"]


@pytest.mark.parametrize(
    "said", SAID["losses"], ids=lambda one: f"T{one['temperature']}a{one['alpha']}"
)
def test_loss_and_gradient_of_distillation_are_those_of_hinton_2015(said: dict[str, Any]) -> None:
    student, teacher = (5 * drawn((SAMPLES, CLASSES), seed) for seed in (11, 12))
    labels, alpha = jnp.arange(SAMPLES) % CLASSES, said["alpha"]

    def loss(own: jax.Array) -> jax.Array:
        soft = divergence(own, jnp.asarray(teacher), said["temperature"])
        return alpha * soft + (1 - alpha) * cross_entropy(own, labels)

    value, slope = jax.value_and_grad(loss)(jnp.asarray(student))
    assert float(value) == pytest.approx(said["loss"], rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(np.asarray(slope).reshape(-1), said["slope"], rtol=1e-4, atol=1e-6)
