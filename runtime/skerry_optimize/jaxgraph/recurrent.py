"""Recurrent layers: LSTM, GRU and RNN, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: jnp.maximum(x, 0),
    "sigmoid": jax.nn.sigmoid,
    "softsign": lambda x: x / (1 + jnp.abs(x)),
    "tanh": jnp.tanh,
}
Step = Callable[..., Any]


@operator("LSTM", last=22)
def lstm(  # noqa: PLR0913, PLR0917 (as ONNX has it)
    node: GraphNode,
    x: Tensor,
    weights: Tensor,
    recurrent: Tensor,
    bias: Tensor = None,
    lengths: Tensor = None,
    hidden: Tensor = None,
    cell: Tensor = None,
    peepholes: Tensor = None,
) -> tuple[Tensor, ...]:
    """Run an LSTM; gates lie in the order input, output, forget, cell."""
    _require_plain(node, lengths)
    if peepholes is not None or node.get("input_forget", 0):
        raise node.refuse("has peepholes or a coupled gate")
    sides = _Sides(node, x, weights, recurrent, bias)
    states = [sides.initial(one) for one in (hidden, cell)]
    found = [
        _over(
            _lstm_step(*sides.of(n), *sides.acts(n, 3)), [one[n] for one in states], sides.line(n)
        )
        for n in range(sides.count)
    ]
    return (*sides.joined(found, 0), sides.last(found, 1))


def _lstm_step(w: Tensor, r: Tensor, b: Tensor, f: Any, g: Any, h: Any) -> Step:
    def step(state: list[Tensor], x: Tensor) -> list[Tensor]:
        before, cell = state
        i, o, forget, c = jnp.split(x @ w.T + before @ r.T + b[0] + b[1], 4, axis=-1)
        cell = f(forget) * cell + f(i) * g(c)
        return [f(o) * h(cell), cell]

    return step


@operator("GRU", last=22)
def gru(  # noqa: PLR0913, PLR0917 (as ONNX has it)
    node: GraphNode,
    x: Tensor,
    weights: Tensor,
    recurrent: Tensor,
    bias: Tensor = None,
    lengths: Tensor = None,
    hidden: Tensor = None,
) -> tuple[Tensor, ...]:
    """Run a GRU; gates lie in the order update, reset, hidden."""
    _require_plain(node, lengths)
    after = bool(node.get("linear_before_reset", 0))
    sides = _Sides(node, x, weights, recurrent, bias)
    start = sides.initial(hidden)
    found = [
        _over(_gru_step(*sides.of(n), *sides.acts(n, 2), after=after), [start[n]], sides.line(n))
        for n in range(sides.count)
    ]
    return sides.joined(found, 0)


def _gru_step(w: Tensor, r: Tensor, b: Tensor, f: Any, g: Any, *, after: bool) -> Step:
    """Return a step; `after`: the reset comes after the multiplication."""
    size = r.shape[-1]

    def step(state: list[Tensor], x: Tensor) -> list[Tensor]:
        (before,) = state
        given = x @ w.T + b[0]
        gates = given[:, : 2 * size] + before @ r[: 2 * size].T + b[1][: 2 * size]
        update, reset = jnp.split(f(gates), 2, axis=-1)
        taken = before if after else reset * before
        inner = taken @ r[2 * size :].T + b[1][2 * size :]
        new = g(given[:, 2 * size :] + (reset * inner if after else inner))
        return [(1 - update) * new + update * before]

    return step


@operator("RNN", last=22)
def rnn(  # noqa: PLR0913, PLR0917 (as ONNX has it)
    node: GraphNode,
    x: Tensor,
    weights: Tensor,
    recurrent: Tensor,
    bias: Tensor = None,
    lengths: Tensor = None,
    hidden: Tensor = None,
) -> tuple[Tensor, ...]:
    """Run a plain recurrent layer."""
    _require_plain(node, lengths)
    sides = _Sides(node, x, weights, recurrent, bias)
    start = sides.initial(hidden)
    found = [
        _over(_rnn_step(*sides.of(n), *sides.acts(n, 1)), [start[n]], sides.line(n))
        for n in range(sides.count)
    ]
    return sides.joined(found, 0)


def _rnn_step(w: Tensor, r: Tensor, b: Tensor, f: Any) -> Step:
    return lambda state, x: [f(x @ w.T + state[0] @ r.T + b[0] + b[1])]


def _require_plain(node: GraphNode, lengths: Tensor) -> None:
    if lengths is not None:
        raise node.refuse("takes the length of each sequence")
    if node.get("layout", 0):
        raise node.refuse("has the samples on the first axis")
    if node.get("clip") is not None:
        raise node.refuse("keeps its gates between limits")


def _over(step: Step, state: list[Tensor], line: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the last states, and the first of them after every step."""

    def one(carried: list[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
        found = step(carried, x)
        return found, found[0]

    return lax.scan(one, state, line)


class _Sides:
    """The directions of a layer; x is [steps, samples, numbers]."""

    def __init__(
        self, node: GraphNode, x: Tensor, weights: Tensor, recurrent: Tensor, bias: Tensor
    ) -> None:
        self._node, self._x = node, jnp.asarray(x)
        self._weights, self._recurrent = jnp.asarray(weights), jnp.asarray(recurrent)
        self.count = weights.shape[0]
        both = 2 * weights.shape[1]
        given = np.zeros((self.count, both), np.float32) if bias is None else bias
        self._bias = jnp.reshape(jnp.asarray(given), (self.count, 2, -1))

    def of(self, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a direction has of its own."""
        return self._weights[side], self._recurrent[side], self._bias[side]

    def acts(self, side: int, count: int) -> list[Callable[[Tensor], Tensor]]:
        """Return its activations."""
        usual = {1: ["Tanh"], 2: ["Sigmoid", "Tanh"], 3: ["Sigmoid", "Tanh", "Tanh"]}[count]
        names = [_text(one) for one in self._node.get("activations", usual * self.count)]
        chosen = [one.lower() for one in names[side * count : (side + 1) * count]]
        if unknown := [one for one in chosen if one not in _ACTIVATIONS]:
            raise self._node.refuse(f"has the activation {unknown[0]}")
        return [_ACTIVATIONS[one] for one in chosen]

    def initial(self, given: Tensor) -> Tensor:
        """Return the state before the first step, [directions, samples, size]."""
        if given is not None:
            return jnp.asarray(given)
        shape = (self.count, self._x.shape[1], self._recurrent.shape[-1])
        return jnp.zeros(shape, self._x.dtype)

    def line(self, side: int) -> Tensor:
        """Return the steps in its order."""
        return jnp.flip(self._x, 0) if self._backward(side) else self._x

    def _backward(self, side: int) -> bool:
        return side == 1 or self._node.get("direction", "forward") == "reverse"

    def joined(self, found: list[tuple[list[Tensor], Tensor]], state: int) -> tuple[Tensor, Tensor]:
        """Return all steps, [steps, directions, samples, size], and the last."""
        lines = [jnp.flip(y, 0) if self._backward(n) else y for n, (_, y) in enumerate(found)]
        return jnp.stack(lines, axis=1), self.last(found, state)

    def last(self, found: list[tuple[list[Tensor], Tensor]], state: int) -> Tensor:
        """Return a state after the last step."""
        return jnp.stack([states[state] for states, _ in found])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
