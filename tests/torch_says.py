"""Asks torch for what published methods are defined as; run where torch is, it is no dependency.

    python3 tests/torch_says.py > tests/unit/optimize/torch.json

Written with Debian's python3-torch 1.13.0: torch.nn.utils.prune.l1_unstructured and ln_structured
(n=2, dim=0), and the loss of Hinton et al. 2015 as its users write it, with F.kl_div and
F.cross_entropy. Inputs come from a formula, so that they need not be recorded.
"""

from __future__ import annotations

import json
import math
from importlib import import_module
from typing import Any

SHAPES = ((8, 4, 3, 3), (16, 8, 3, 3), (12, 20), (10, 7))
AMOUNTS = (0.1, 0.25, 0.5, 0.9)
TEMPERATURES = (1.0, 2.0, 4.0)
ALPHAS = (0.0, 0.3, 1.0)
SAMPLES, CLASSES = 6, 5


def numbers(count: int, seed: int) -> list[float]:
    """Return numbers between -1 and 1 that look random, the same wherever they are made."""
    found = []
    for n in range(count):
        value = math.sin((n + 1) * 12.9898 + seed * 78.233) * 43758.5453
        found.append(2 * (value - math.floor(value)) - 1)
    return found


def main() -> None:
    import torch  # noqa: PLC0415 (is no dependency)

    said: dict[str, Any] = {"torch": torch.__version__, "pruning": [], "losses": []}
    for seed, shape in enumerate(SHAPES):
        weights = torch.tensor(numbers(math.prod(shape), seed)).reshape(shape)
        said["pruning"] += [_pruned(torch, weights, amount) for amount in AMOUNTS]
    student, teacher = (
        torch.tensor(numbers(SAMPLES * CLASSES, seed)).reshape(SAMPLES, CLASSES) * 5
        for seed in (11, 12)
    )
    labels = torch.tensor([n % CLASSES for n in range(SAMPLES)])
    for heat in TEMPERATURES:
        for alpha in ALPHAS:
            said["losses"].append(_loss(torch, student, teacher, labels, heat, alpha))
    print(json.dumps(said))  # noqa: T201 (its answer)


def _pruned(torch: Any, weights: Any, amount: float) -> dict[str, Any]:
    prune = import_module("torch.nn.utils.prune")
    layers = [torch.nn.Linear(1, 1) for _ in range(2)]
    for layer in layers:
        layer.weight = torch.nn.Parameter(weights.clone())
    prune.l1_unstructured(layers[0], "weight", amount)
    prune.ln_structured(layers[1], "weight", amount, n=2, dim=0)
    flat = layers[0].weight_mask.reshape(-1)
    rows = layers[1].weight_mask.reshape(len(weights), -1)
    return {
        "shape": list(weights.shape),
        "amount": amount,
        "zeros": [n for n, kept in enumerate(flat.tolist()) if not kept],
        "channels": [n for n, kept in enumerate(rows.sum(dim=1).tolist()) if not kept],
    }


def _loss(torch: Any, student: Any, teacher: Any, labels: Any, heat: float, alpha: float) -> Any:
    f = torch.nn.functional
    own = student.clone().requires_grad_(True)
    soft = f.kl_div(
        f.log_softmax(own / heat, dim=1), f.softmax(teacher / heat, dim=1), reduction="batchmean"
    )
    loss = alpha * heat * heat * soft + (1 - alpha) * f.cross_entropy(own, labels)
    loss.backward()
    return {
        "temperature": heat,
        "alpha": alpha,
        "loss": loss.item(),
        "slope": own.grad.reshape(-1).tolist(),
    }


if __name__ == "__main__":
    main()
