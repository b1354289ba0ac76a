"""Pruning: which weights and channels go, and that what is left says the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from optimize_models import GraphBuilder, cnn, mlp
from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import put_weights, read_graph, shapes_of, weights_of
from skerry_optimize.prune.channels import map_channels, unshared
from skerry_optimize.prune.magnitude import prune_magnitude, zeroed
from skerry_optimize.prune.structured import chosen, prune_structured


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_the_smallest_magnitudes_of_each_layer_become_zero() -> None:
    weights = np.array([[0.5, -0.1, 2.0], [-3.0, 0.1, 0.3]], np.float32)
    assert np.array_equal(zeroed(weights, 0.5), np.array([[0.5, 0, 2.0], [-3.0, 0, 0]], np.float32))
    assert np.count_nonzero(zeroed(weights, 0.33)) == 6 - round(0.33 * 6)


def test_magnitude_pruning_takes_its_share_of_every_layer_and_leaves_biases() -> None:
    model = read_graph(mlp())
    before, after = weights_of(model), weights_of(prune_magnitude(model, 0.7))
    for name, array in after.items():
        zeros = np.count_nonzero(array == 0)
        expected = round(0.7 * array.size) if array.ndim > 1 else 0
        assert zeros - np.count_nonzero(before[name] == 0) in {expected, 0} or zeros == expected
        assert array.ndim > 1 or np.array_equal(array, before[name])


def test_the_channels_with_the_smallest_norm_go_as_many_as_torch_takes() -> None:
    model = unshared(read_graph(mlp()))
    weights = weights_of(model)
    known = map_channels(model, shapes_of(model), weights)
    gone = chosen(known, weights, 0.3)
    for maker in known.makers[:-1]:
        rows = np.moveaxis(weights[maker.weights], maker.axis, 0)
        norms = np.linalg.norm(rows.reshape(len(rows), -1).astype(np.float64), axis=1)
        expected = set(np.argsort(norms, kind="stable")[: round(0.3 * len(rows))])
        found = {n for n, number in enumerate(maker.numbers) if known.root(number) in gone}
        assert found == expected
    assert not any(known.root(number) in gone for number in known.makers[-1].numbers)


def straight(made: GraphBuilder) -> str:
    x = made.add("Relu", made.batch_norm(made.conv("x", 3, 8), 8))
    x = made.add("GlobalAveragePool", made.add("Relu", made.conv(x, 8, 12)))
    return made.gemm(made.add("Flatten", x), 12, 5)


def residual(made: GraphBuilder) -> str:
    x = made.add("Relu", made.conv("x", 3, 8))
    y = made.add("Relu", made.conv(x, 8, 8))
    z = made.add("Relu", made.add("Add", made.conv(y, 8, 8), x))
    return made.gemm(made.add("Flatten", z), 8 * 36, 5)


def depthwise(made: GraphBuilder) -> str:
    x = made.add("Relu", made.conv("x", 3, 8, size=1))
    x = made.add("Relu", made.conv(x, 8, 8, group=8))
    x = made.add("Relu", made.conv(x, 8, 6, size=1))
    shape = made.weight(np.array([-1, 6 * 36], np.int64))
    return made.gemm(made.add("Reshape", x, shape), 6 * 36, 5)


def joined(made: GraphBuilder) -> str:
    x = made.add("Relu", made.conv("x", 3, 6))
    both = [made.add("Relu", made.conv(x, 6, 4)), made.add("Relu", made.conv(x, 6, 5))]
    x = made.add("Concat", *both, "x", axis=1)
    x = made.add("Relu", made.conv(x, 12, 7))
    x = made.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    return made.gemm(x, 7, 5)


def gated(made: GraphBuilder) -> str:
    """Squeeze and excitation: channels are multiplied by what was made of them."""
    x = made.add("Relu", made.conv("x", 3, 8))
    gate = made.add("Relu", made.conv(made.add("GlobalAveragePool", x), 8, 4, size=1))
    gate = made.add("Sigmoid", made.conv(gate, 4, 8, size=1))
    x = made.add("Mul", x, gate)
    x = made.add("Mul", x, made.drawn(8, 1, 1))
    x = made.add("PRelu", x, made.drawn(8, 1, 1))
    return made.gemm(made.add("Flatten", x), 8 * 36, 5)


def shared(made: GraphBuilder) -> str:
    """Two convolutions have the same weights."""
    weights, bias = made.drawn(6, 6, 3, 3), made.drawn(6)
    x = made.add("Relu", made.conv("x", 3, 6))
    for _ in range(2):
        x = made.add("Relu", made.add("Conv", x, weights, bias, pads=[1, 1, 1, 1]))
    return made.gemm(made.add("Flatten", x), 6 * 36, 5)


GRAPHS = [straight, residual, depthwise, joined, gated, shared]


@pytest.mark.parametrize("draw", GRAPHS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_channels_that_say_nothing_can_go_without_a_change_of_any_answer(
    draw: Callable[[GraphBuilder], str], share: float
) -> None:
    made = GraphBuilder((2, 3, 6, 6))
    model = unshared(read_graph(made.model(draw(made), (2, 5))))
    weights = weights_of(model)
    known = map_channels(model, shapes_of(model), weights)
    gone = chosen(known, weights, share)
    silent = {name: array.copy() for name, array in weights.items() if array.dtype.kind == "f"}
    for cut in known.cuts:  # whatever a channel that goes has of its own is nothing
        for place, number in enumerate(cut.numbers):
            if known.root(number) in gone:
                np.moveaxis(silent[cut.weights], cut.axis, 0)[place] = 0
    put_weights(model, silent)
    slimmed = prune_structured(model, share)
    x = np.random.default_rng(5).normal(size=(2, 3, 6, 6)).astype(np.float32)
    assert np.allclose(answers(model, x), answers(slimmed.model, x), atol=1e-4)
    assert len(slimmed.model.SerializeToString()) < len(model.SerializeToString())
    assert all(after >= 1 for _, after in slimmed.channels.values())


def test_half_of_the_channels_is_about_a_quarter_of_the_bytes() -> None:
    model = read_graph(cnn())
    slim = prune_structured(model, 0.5)
    assert list(slim.channels.values()) == [(16, 8), (32, 16), (32, 16), (10, 10)]
    assert len(slim.model.SerializeToString()) < 0.5 * len(model.SerializeToString())


def test_branches_that_are_added_lose_the_same_channels() -> None:
    made = GraphBuilder((1, 3, 6, 6))
    slim = prune_structured(read_graph(made.model(residual(made), (1, 5))), 0.5)
    first, _, third, _ = slim.channels.values()
    assert first == third == (8, 4)


def unknown_operator(made: GraphBuilder) -> str:
    x = made.conv("x", 3, 8)
    return made.add("Softmax", x, axis=1)


def grouped(made: GraphBuilder) -> str:
    x = made.conv("x", 3, 8)
    return made.add("GlobalAveragePool", made.conv(x, 8, 8, group=2))


@pytest.mark.parametrize(
    ("draw", "told"),
    [(unknown_operator, "goes into Softmax (Softmax_t1)"), (grouped, "goes into Conv (Conv_t1)")],
)
def test_where_no_channel_can_go_it_is_told_what_keeps_them(
    draw: Callable[[GraphBuilder], str], told: str
) -> None:
    made = GraphBuilder((1, 3, 6, 6))
    with pytest.raises(StepRefused) as raised:
        prune_structured(read_graph(made.model(draw(made))), 0.5)
    assert told in str(raised.value)


def test_what_a_subgraph_uses_keeps_its_channels() -> None:
    made = GraphBuilder((1, 3, 6, 6))
    x = made.conv("x", 3, 8)
    flag = made.weight(np.array(True))
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branches = [
        helper.make_graph([helper.make_node(kind, [x], ["inner"])], kind, [], [out])
        for kind in ("Relu", "Tanh")
    ]
    tip = made.add("If", flag, then_branch=branches[0], else_branch=branches[1])
    with pytest.raises(StepRefused, match="a subgraph uses it"):
        prune_structured(read_graph(made.model(tip)), 0.5)


def test_a_model_without_weights_is_refused() -> None:
    made = GraphBuilder((1, 3, 6, 6))
    model = read_graph(made.model(made.add("Relu", "x")))
    with pytest.raises(StepRefused, match="weights of its own"):
        prune_magnitude(model, 0.5)
    with pytest.raises(StepRefused, match="weights of its own"):
        prune_structured(model, 0.5)
