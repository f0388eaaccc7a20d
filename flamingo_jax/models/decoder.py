"""The language model's block: a pre-norm decoder layer with grouped-query attention.

One block serves two families, told apart by plain fields of its config. Llama (SmolLM2,
arXiv:2502.02737; Llama, arXiv:2302.13971): RMSNorm (arXiv:1910.07467), rotary positions
(arXiv:2104.09864), grouped-query attention (arXiv:2305.13245) and SwiGLU (arXiv:2002.05202). MPT
(MosaicML, 2023): LayerNorm without biases, ALiBi (arXiv:2108.12409) and GELU.

Axes: B batch, T text tokens, S cached or attended tokens, D width, K heads, G key-value heads,
C head width, V vocabulary.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder-only language model.

    Attributes:
      vocab_size: rows of the token embedding.
      width: D.
      num_layers: decoder layers.
      num_heads: K query heads.
      num_kv_heads: G key-value heads; K must be a multiple of it.
      head_dim: C.
      mlp_dim: hidden width of the feed-forward.
      rope_base: wavelength base of the rotary positions.
      norm_eps: epsilon of the norms.
      norm: RMSNorm, or LayerNorm without biases.
      positions: rotary embedding of queries and keys, or ALiBi's bias on their products.
      mlp: gated by SiLU, or a plain one with exact GELU.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    norm: Literal["rms", "layer"] = "rms"
    positions: Literal["rotary", "alibi"] = "rotary"
    mlp: Literal["swiglu", "gelu"] = "swiglu"

    @classmethod
    def smollm2_135m(cls) -> "DecoderConfig":
        """SmolLM2-135M (arXiv:2502.02737, table of model shapes)."""
        return cls(49_152, 576, 30, 9, 3, 64, 1536, rope_base=100_000.0)


@dataclasses.dataclass(frozen=True)
class Context:
    """What every decoder layer of one call shares.

    Attributes:
      positions_BxT: int32 positions for the rotary embedding.
      mask_BxTxS: bool, True where token t may attend to token s.
      cache_index: None without a cache, else the int32 slot at which this call's keys are written.
    """

    positions_BxT: Array
    mask_BxTxS: Array
    cache_index: Array | None = None


jax.tree_util.register_dataclass(
    Context, data_fields=["positions_BxT", "mask_BxTxS", "cache_index"], meta_fields=[]
)


def rotate(x_BxTxKxC: Array, positions_BxT: Array, base: float) -> Array:
    """Rotary position embedding on half-split channels (arXiv:2104.09864, §3.4.2)."""
    half = x_BxTxKxC.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions_BxT[..., None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angle).astype(x_BxTxKxC.dtype), jnp.sin(angle).astype(x_BxTxKxC.dtype)
    first, second = jnp.split(x_BxTxKxC, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def alibi(num_heads: int, mask_BxTxS: Array) -> Array:
    """ALiBi (arXiv:2108.12409, §3): -slope of the head times the distance -> float32 [B, K, T, S].

    Distances are counted among the tokens that a token sees, so they hold for cached, padded and
    branching sequences alike, and from the last of these: softmax does not change when all of a
    row's products do. Slopes are 2^(-8 i / n), n the next power of two from K; where K is less, of
    the n every second one comes first, as MPT has it.
    """
    n = 1 << (num_heads - 1).bit_length()
    slopes = 2.0 ** (-8.0 / n * jnp.arange(1, n + 1))
    if n != num_heads:
        slopes = jnp.concatenate([slopes[1::2], slopes[::2]])[:num_heads]
    seen = jnp.cumsum(mask_BxTxS, axis=-1, dtype=jnp.int32)
    behind_BxTxS = (seen - seen[..., -1:]).astype(jnp.float32)
    return slopes[:, None, None] * behind_BxTxS[:, None]


def attention_weights(
    q_BxTxKxC: Array, k_BxSxGxC: Array, mask_BxTxS: Array, bias_BxKxTxS: Array | None = None
) -> Array:
    """Masked softmax of scaled products, K query heads sharing G key heads -> float32 [B, K, T, S].

    Rows that may see nothing are zero, not uniform: a token before the first image must get
    nothing from the images (Flamingo, arXiv:2204.14198, §2.3).
    """
    B, T, K, C = q_BxTxKxC.shape
    G, S = k_BxSxGxC.shape[2], k_BxSxGxC.shape[1]
    # Heads before tokens, as plain multiplies: XLA on a CPU otherwise transposes the products.
    q_BxGxHTxC = q_BxTxKxC.swapaxes(1, 2).reshape(B, G, K // G * T, C) * C**-0.5
    k_BxGxCxS = k_BxSxGxC.transpose(0, 2, 3, 1)
    scores = jnp.matmul(q_BxGxHTxC, k_BxGxCxS, preferred_element_type=jnp.float32)
    scores = scores.reshape(B, K, T, S)
    if bias_BxKxTxS is not None:
        scores += bias_BxKxTxS
    visible = mask_BxTxS[:, None]
    lowest = jnp.finfo(scores.dtype).min
    weights = jax.nn.softmax(jnp.where(visible, scores, lowest), axis=-1)
    return jnp.where(visible, weights, 0.0)


def mix(weights_BxKxTxS: Array, v_BxSxGxC: Array) -> Array:
    """Values summed with the weights of `attention_weights` -> [B, T, K, C]."""
    B, K, T, S = weights_BxKxTxS.shape
    G, C = v_BxSxGxC.shape[2:]
    weights_BxGxHTxS = weights_BxKxTxS.reshape(B, G, K // G * T, S).astype(v_BxSxGxC.dtype)
    mixed = jnp.matmul(weights_BxGxHTxS, v_BxSxGxC.swapaxes(1, 2))
    return mixed.reshape(B, K, T, C).swapaxes(1, 2)


class Attention(nn.Module):
    """Causal self-attention with an optional key-value cache."""

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BxTxD: Array, context: Context) -> Array:
        cfg = self.config

        def project(heads: int, name: str) -> Array:
            dense = nn.DenseGeneral(
                (heads, cfg.head_dim), use_bias=False, dtype=self.dtype, name=name
            )
            return dense(x_BxTxD)

        q, k = project(cfg.num_heads, "query"), project(cfg.num_kv_heads, "key")
        v = project(cfg.num_kv_heads, "value")
        bias = None
        if cfg.positions == "rotary":
            q = rotate(q, context.positions_BxT, cfg.rope_base)
            k = rotate(k, context.positions_BxT, cfg.rope_base)
        else:
            bias = alibi(cfg.num_heads, context.mask_BxTxS)
        if context.cache_index is not None:
            k, v = self._cached(k, v, context.cache_index, context.mask_BxTxS.shape[-1])
        out = mix(attention_weights(q, k, context.mask_BxTxS, bias), v)
        return nn.DenseGeneral(
            cfg.width, axis=(-2, -1), use_bias=False, dtype=self.dtype, name="out"
        )(out)

    def _cached(self, k: Array, v: Array, index: Array, size: int) -> tuple[Array, Array]:
        """Writes this call's keys and values at slot `index`; returns all `size` of them."""
        B, _, G, C = k.shape
        shape = (B, size, G, C)
        start = (0, index, 0, 0)
        cached = []
        for name, new in (("key", k), ("value", v)):
            slot = self.variable("cache", f"cached_{name}", jnp.zeros, shape, new.dtype)
            slot.value = jax.lax.dynamic_update_slice(slot.value, new, start)
            cached.append(slot.value)
        return cached[0], cached[1]


class FeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)) (SwiGLU, arXiv:2002.05202, eq. 6), or down(gelu(up(x)))."""

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        cfg = self.config
        dense = lambda width, name: nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)  # noqa: E731
        up = dense(cfg.mlp_dim, "up")(x)
        if cfg.mlp == "swiglu":
            hidden = nn.silu(dense(cfg.mlp_dim, "gate")(x)) * up
        else:
            hidden = nn.gelu(up, approximate=False)
        return dense(x.shape[-1], "down")(hidden)


class ScaleLayerNorm(nn.LayerNorm):
    """LayerNorm with a scale and no bias."""

    use_bias: bool = False


NORMS: dict[str, Any] = {"rms": nn.RMSNorm, "layer": ScaleLayerNorm}
"""The modules that `DecoderConfig.norm` names."""


class DecoderLayer(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)). [B, T, D] -> [B, T, D]."""

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BxTxD: Array, context: Context) -> Array:
        cfg = self.config

        def norm(name: str) -> Any:
            return NORMS[cfg.norm](epsilon=cfg.norm_eps, dtype=self.dtype, name=name)

        x_BxTxD += Attention(cfg, self.dtype, name="attention")(
            norm("attention_norm")(x_BxTxD), context
        )
        x_BxTxD += FeedForward(cfg, self.dtype, name="mlp")(norm("mlp_norm")(x_BxTxD))
        return x_BxTxD
