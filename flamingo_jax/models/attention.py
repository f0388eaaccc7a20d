"""Attention, as a function: what the language model, resampler, bridge and ViT share.

Axes: B batch, T querying tokens, S attended tokens, C head width, K query heads, G key-value heads,
M queries of a key-value head, its K / G query heads one after another.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

Array = jax.Array

_LOWEST = float(jnp.finfo(jnp.float32).min)

# Products of bfloat16 are summed and kept in float32.
_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


ATTENDED = "attended"
"""The name of what `attend` returns, for policies of rematerialisation."""


def attend(
    q_BxTxKxC: Array,
    k_BxSxGxC: Array,
    v_BxSxGxC: Array,
    mask_BxTxS: Array | None = None,
    bias_BxKxTxS: Array | None = None,
) -> Array:
    """Values summed with the softmax of scaled products of queries and keys.

    Rows that may see nothing are zero, not a mean: a token before the first image must get nothing
    from the images (Flamingo, arXiv:2204.14198, §2.3). The weights are never kept: the backward
    pass computes them anew (arXiv:2205.14135, §3.1).

    Args:
      q_BxTxKxC: queries.
      k_BxSxGxC: keys; every K / G query heads in a row share one of their heads.
      v_BxSxGxC: values.
      mask_BxTxS: bool, True where token t may attend to token s; None where all may to all.
      bias_BxKxTxS: float32, added to the scaled products.

    Returns:
      [B, T, K, C], in the values' type.
    """
    out = _attend(q_BxTxKxC, k_BxSxGxC, v_BxSxGxC, mask_BxTxS, bias_BxKxTxS)
    return checkpoint_name(out, ATTENDED)


def attention_weights(q_BxTxKxC: Array, k_BxSxGxC: Array, mask_BxTxS: Array | None = None) -> Array:
    """The weights with which `attend` sums values, to look at, float32 [B, K, T, S]."""
    B, T, K, _ = q_BxTxKxC.shape
    powers_BxGxMxS, total_BxGxMx1 = _softmax(_scores(q_BxTxKxC, k_BxSxGxC, mask_BxTxS, None), 3)
    return (powers_BxGxMxS / total_BxGxMx1).reshape(B, K, T, -1)


# Below, heads come before tokens, as in plain matrix products: of others XLA on a CPU transposes
# the largest arrays. For the same reason scores lie the other way round in the backward pass:
# products with them give the gradients of keys and values as they are, and the queries' transposed,
# which is smaller than the scores.


@jax.custom_vjp
def _attend(q: Array, k: Array, v: Array, mask: Array | None, bias: Array | None) -> Array:
    return _forward(q, k, v, mask, bias)[0]


def _forward(q: Array, k: Array, v: Array, mask: Array | None, bias: Array | None) -> Any:
    powers_BxGxMxS, total_BxGxMx1 = _softmax(_scores(q, k, mask, bias), 3)
    v_BxGxSxC = v.swapaxes(1, 2)
    summed_BxGxMxC = _product("bgms,bgsc->bgmc", powers_BxGxMxS.astype(v.dtype), v_BxGxSxC)
    out_BxGxMxC = (summed_BxGxMxC / total_BxGxMx1).astype(v.dtype)
    return _tokens_first(out_BxGxMxC, q.shape), (q, k, v, mask, bias)


def _backward(kept: tuple[Any, ...], g_BxTxKxC: Array) -> tuple[Any, ...]:
    q, k, v, mask, bias = kept
    G, scale = k.shape[2], q.shape[-1] ** -0.5
    q_BxGxMxC, g_BxGxMxC = _heads_first(q * scale, G), _heads_first(g_BxTxKxC, G)
    k_BxGxSxC, v_BxGxSxC = k.swapaxes(1, 2), v.swapaxes(1, 2)
    scores_BxGxSxM = _product("bgsc,bgmc->bgsm", k_BxGxSxC, q_BxGxMxC)
    added = _added(mask, bias, q.shape[2] // G)
    if added is not None:
        scores_BxGxSxM += added.swapaxes(2, 3)
    powers_BxGxSxM, total_BxGx1xM = _softmax(scores_BxGxSxM, 2)
    g_BxGxMxC = (g_BxGxMxC / total_BxGx1xM.swapaxes(2, 3)).astype(v.dtype)
    dv_BxGxSxC = _product("bgsm,bgmc->bgsc", powers_BxGxSxM.astype(v.dtype), g_BxGxMxC)
    weighted_BxGxSxM = powers_BxGxSxM * _product("bgsc,bgmc->bgsm", v_BxGxSxC, g_BxGxMxC)
    mean_BxGx1xM = weighted_BxGxSxM.sum(axis=2, keepdims=True) / total_BxGx1xM
    dscores_BxGxSxM = weighted_BxGxSxM - powers_BxGxSxM * mean_BxGx1xM
    typed_BxGxSxM = dscores_BxGxSxM.astype(q.dtype)
    dk_BxGxSxC = _product("bgsm,bgmc->bgsc", typed_BxGxSxM, q_BxGxMxC)
    dq_BxGxCxM = _product("bgsc,bgsm->bgcm", k_BxGxSxC, typed_BxGxSxM) * scale
    dbias = None if bias is None else dscores_BxGxSxM.swapaxes(2, 3).reshape(bias.shape)
    return (
        _tokens_first(dq_BxGxCxM.astype(q.dtype).swapaxes(2, 3), q.shape),
        dk_BxGxSxC.astype(k.dtype).swapaxes(1, 2),
        dv_BxGxSxC.astype(v.dtype).swapaxes(1, 2),
        None,
        dbias,
    )


_attend.defvjp(_forward, _backward)


def _scores(q: Array, k: Array, mask: Array | None, bias: Array | None) -> Array:
    """Scaled products of queries and keys with what is added to them, float32 [B, G, M, S]."""
    G, scale = k.shape[2], q.shape[-1] ** -0.5
    scores_BxGxMxS = _product("bgmc,bgsc->bgms", _heads_first(q * scale, G), k.swapaxes(1, 2))
    added = _added(mask, bias, q.shape[2] // G)
    return scores_BxGxMxS if added is None else scores_BxGxMxS + added


def _added(mask_BxTxS: Array | None, bias_BxKxTxS: Array | None, shared: int) -> Array | None:
    """The bias, the lowest number where a token is hidden: [B, 1 or G, M, S], None for neither.

    `shared` is the number of query heads that share a key head.
    """
    if mask_BxTxS is None:
        added = bias_BxKxTxS
    else:
        seen = 0.0 if bias_BxKxTxS is None else bias_BxKxTxS
        added = jnp.where(mask_BxTxS[:, None], seen, _LOWEST)
    if added is None or shared == 1:
        return added
    B, heads, T, S = added.shape
    if heads == 1:
        return jnp.tile(added, (1, 1, shared, 1))
    return added.reshape(B, heads // shared, shared * T, S)


def _softmax(scores: Array, axis: int) -> tuple[Array, Array]:
    """Powers of e, and their sums to divide them by; where all is hidden they are zero, and one."""
    highest = jnp.maximum(scores.max(axis=axis, keepdims=True), _LOWEST / 2)
    powers = jnp.exp(scores - highest)
    return powers, jnp.maximum(powers.sum(axis=axis, keepdims=True), 1.0)


def _heads_first(x_BxTxKxC: Array, groups: int) -> Array:
    """[B, G, M, C]."""
    B, _, _, C = x_BxTxKxC.shape
    return x_BxTxKxC.swapaxes(1, 2).reshape(B, groups, -1, C)


def _tokens_first(x_BxGxMxC: Array, shape: tuple[int, ...]) -> Array:
    """[B, T, K, C], this shape."""
    B, T, K, C = shape
    return x_BxGxMxC.reshape(B, K, T, C).swapaxes(1, 2)
