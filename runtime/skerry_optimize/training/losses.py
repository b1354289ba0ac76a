"""What is made small while a student learns.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network": the cross entropy with
the teacher's shares at temperature T, whose gradients are 1/T^2 of the hard ones and are therefore
multiplied by T^2, beside the cross entropy with the labels at temperature 1. Kullback and Leibler's
divergence, which is used here, differs from the former by the entropy of the teacher, a constant.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

LEAST_SHARE = 1e-7
"""Shares below are taken for this: their logarithm would be without end."""


def log_shares(logits: jax.Array, temperature: float) -> jax.Array:
    """Return the logarithms of the softmax of logits over a temperature, along the last axis."""
    return jax.nn.log_softmax(logits / temperature, axis=-1)


def divergence(student: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Return T^2 KL(teacher || student), the mean over samples; both are logits [n, classes]."""
    says, learns = log_shares(teacher, temperature), log_shares(student, temperature)
    each = jnp.sum(jnp.exp(says) * (says - learns), axis=-1)
    return jnp.mean(each) * temperature**2


def cross_entropy(student: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross entropy of logits [n, classes] with labels [n]."""
    learns = log_shares(student, 1.0)
    return -jnp.mean(jnp.take_along_axis(learns, labels[:, None], axis=-1))


def squares(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Return the mean square of what two outputs differ by, in the teacher's own spread."""
    spread = jnp.maximum(jnp.var(teacher), 1e-12)
    return jnp.mean(jnp.square(student - teacher)) / spread
