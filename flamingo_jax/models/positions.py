"""Positions of tokens, as functions: rotations of queries and keys, and biases of their products.

Axes: B batch, T querying tokens, S attended tokens, C head width, K query heads.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def rotate(x_BxTxKxC: Array, positions_BxT: Array, base: float, share: float = 1.0) -> Array:
    """Rotary position embedding on half-split channels (arXiv:2104.09864, §3.4.2).

    Of each head the first `share` of the channels is rotated (GPT-NeoX, arXiv:2204.06745, §2.1).
    """
    rotated = int(x_BxTxKxC.shape[-1] * share)
    half = rotated // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions_BxT[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angle).astype(x_BxTxKxC.dtype), jnp.sin(angle).astype(x_BxTxKxC.dtype)
    first, second, rest = jnp.split(x_BxTxKxC, (half, rotated), axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def distances(mask_BxTxS: Array) -> Array:
    """How many of the tokens that a token sees come after each one, int32 [B, T, S].

    Counted among the visible ones, so it holds for cached, padded and branching sequences alike.
    """
    seen = jnp.cumsum(mask_BxTxS, axis=-1, dtype=jnp.int32)
    return seen[..., -1:] - seen


def alibi(num_heads: int, mask_BxTxS: Array) -> Array:
    """ALiBi (arXiv:2108.12409, §3): -slope of the head times the distance -> float32 [B, K, T, S].

    Slopes are 2^(-8 i / n), n the next power of two from K; where K is less, of the n every second
    one comes first, as MPT has it.
    """
    n = 1 << (num_heads - 1).bit_length()
    slopes = 2.0 ** (-8.0 / n * jnp.arange(1, n + 1))
    if n != num_heads:
        slopes = jnp.concatenate([slopes[1::2], slopes[::2]])[:num_heads]
    return -slopes[:, None, None] * distances(mask_BxTxS)[:, None].astype(jnp.float32)


def sinusoids(count: int, width: int) -> Array:
    """[sin, cos] of 0 .. count - 1 at width / 2 wavelengths (arXiv:1706.03762, §3.5), float32."""
    frequencies = 10_000.0 ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angle = jnp.arange(count, dtype=jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
