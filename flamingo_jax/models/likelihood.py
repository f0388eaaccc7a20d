"""The negative log-likelihood of tokens, without the logits of all of them at once.

Logits are the largest array of a training step: as many as tokens times the vocabulary. Where a
loss is all that is asked for, they are made for some positions at a time, and the gradient of these
is computed right there, while they exist (as arXiv:2410.10989, §3.2, does on GPUs): neither the
logits nor their gradient are ever whole, and nothing is computed twice.

Axes: B batch, A positions, c of them at once, n times, E channels, V vocabulary.
"""

from typing import Any

import jax
import jax.numpy as jnp

from flamingo_jax.models.axes import constrain

Array = jax.Array

AT_ONCE = 128
"""Positions of each sequence whose logits are made at once, at most."""


def all_logits(x_BxAxE: Array, table_VxE: Array) -> Array:
    """Products with each token's row, float32 [B, A, V]."""
    logits_BxAxV = jnp.einsum("BAE,VE->BAV", x_BxAxE, table_VxE, preferred_element_type=jnp.float32)
    return constrain(logits_BxAxV, "batch", "length", "vocab")


def token_losses(logits_BxAxV: Array, targets_BxA: Array) -> Array:
    """-log p(target), float32 [B, A]."""
    picked_BxA = jnp.take_along_axis(logits_BxAxV, targets_BxA[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits_BxAxV, axis=-1) - picked_BxA


def mean_loss(x_BxAxE: Array, table_VxE: Array, targets_BxA: Array, weights_BxA: Array) -> Array:
    """Weighted mean of -log p(target), a float32 scalar; 0 where all weights are 0.

    Args:
      x_BxAxE: what predicts the targets.
      table_VxE: a row for each token of the vocabulary, of the same type.
      targets_BxA: int32.
      weights_BxA: float32, 0 for padding; constants, which get no gradient.
    """
    weights_BxA /= jnp.maximum(jnp.sum(weights_BxA), 1e-6)
    return _summed(x_BxAxE, table_VxE, targets_BxA, weights_BxA)


@jax.custom_vjp
def _summed(x_BxAxE: Array, table_VxE: Array, targets_BxA: Array, weights_BxA: Array) -> Array:
    """Weighted sum of -log p(target)."""
    return _with_gradient(x_BxAxE, table_VxE, targets_BxA, weights_BxA)[0]


def _with_gradient(
    x_BxAxE: Array, table_VxE: Array, targets_BxA: Array, weights_BxA: Array
) -> tuple[Array, tuple[Array, Array]]:
    """(the sum, its gradient with regard to x and table).

    A gradient that nobody asks for, as of a frozen table, is left out by the compiler.
    """
    table_VxE = constrain(table_VxE, "vocab", None)  # gathered once, not in each turn

    def turn(total: tuple[Array, Array], part: Any) -> tuple[tuple[Array, Array], Array]:
        x_BxcxE, targets_Bxc, weights_Bxc = part
        logits_BxcxV = all_logits(x_BxcxE, table_VxE)
        loss = jnp.sum(token_losses(logits_BxcxV, targets_Bxc) * weights_Bxc)
        probability_BxcxV = jnp.exp(logits_BxcxV - jax.nn.logsumexp(logits_BxcxV, -1)[..., None])
        is_target_BxcxV = jnp.arange(len(table_VxE)) == targets_Bxc[..., None]
        by_logits = probability_BxcxV - is_target_BxcxV
        by_logits = (by_logits * weights_Bxc[..., None]).astype(x_BxcxE.dtype)
        by_table_VxE = jnp.einsum(
            "BAV,BAE->VE", by_logits, x_BxcxE, preferred_element_type=jnp.float32
        )
        by_x_BxcxE = jnp.einsum("BAV,VE->BAE", by_logits, table_VxE)
        return (total[0] + loss, total[1] + by_table_VxE), by_x_BxcxE

    parts = tuple(_parted(array) for array in (x_BxAxE, targets_BxA, weights_BxA))
    nothing = jnp.zeros(()), jnp.zeros(table_VxE.shape)  # float32: many parts are added
    (loss, by_table_VxE), by_x_nxBxcxE = jax.lax.scan(turn, nothing, parts)
    by_x = by_x_nxBxcxE.swapaxes(0, 1).reshape(len(x_BxAxE), -1, x_BxAxE.shape[-1])
    return loss, (by_x[:, : x_BxAxE.shape[1]], by_table_VxE.astype(table_VxE.dtype))


def _backward(gradient: tuple[Array, Array], by: Array) -> tuple[Array, Array, None, None]:
    by_x_BxAxE, by_table_VxE = gradient
    by = by.astype(by_x_BxAxE.dtype)
    return by_x_BxAxE * by, by_table_VxE * by, None, None


_summed.defvjp(_with_gradient, _backward)


def _parted(array_BxA: Array) -> Array:
    """[B, A, ...] to [n, B, c, ...], padded with zeros, whose weight is 0."""
    batch, length, *rest = array_BxA.shape
    turns = -(-length // AT_ONCE)
    size = -(-length // turns)
    padding = [(0, 0), (0, turns * size - length)] + [(0, 0)] * len(rest)
    return jnp.pad(array_BxA, padding).reshape(batch, turns, size, *rest).swapaxes(0, 1)
