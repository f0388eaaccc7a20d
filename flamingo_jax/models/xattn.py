"""Gated cross-attention dense layer: the bridge from images into the frozen language model.

Flamingo (arXiv:2204.14198), §2.2, figure 4:

    x = x + tanh(alpha_xattn) * cross_attention(x, media)
    x = x + tanh(alpha_dense) * feed_forward(x)

With both gates at zero the layer is the identity, so the frozen language model starts intact.

Axes: B batch, T text tokens, N media, R latents a medium, D width of the language model.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from flamingo_jax.models.decoder import attention_weights, mix
from flamingo_jax.models.resampler import Activation, FeedForward

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class CrossAttentionConfig:
    """Shape, places and gates of the gated cross-attention layers.

    Attributes:
      first: index of the first language layer that gets one before it (0 in the paper).
      every: one before each `every`-th language layer from there on.
      num_heads: attention heads.
      head_dim: width of a head.
      mlp_multiplier: hidden width of the feed-forward over D.
      alpha_init: value of `alpha_xattn` at the start; 0 in the paper.
      alpha_dense_init: value of `alpha_dense` at the start; 0 in the paper.
      relative: scale both outputs by the size of the hidden state that they are added to, see
        `size`; False in the paper. A pretrained model's hidden state grows a hundredfold from its
        first layer to its last, so that outputs of one size drown the text or are drowned by it.
      activation: of the feed-forward; the paper's, or OpenFlamingo's exact GELU.
      norm_eps: epsilon of the norms.
    """

    num_heads: int
    head_dim: int
    first: int = 0
    every: int = 1
    mlp_multiplier: int = 4
    alpha_init: float = 0.0
    alpha_dense_init: float = 0.0
    relative: bool = False
    activation: Activation = "squared_relu"
    norm_eps: float = 1e-6


def media_mask(media_index_BxT: Array, num_media: int) -> Array:
    """[B, T, N] bool: token t sees medium φ(t) only, and none where φ(t) = 0 (§2.3)."""
    return media_index_BxT[..., None] == jnp.arange(1, num_media + 1)


def size(x_BxTxD: Array) -> Array:
    """Mean magnitude over D, [B, T, 1]; no gradient flows through it.

    Not the root mean square, which a few channels of a language model dominate.
    """
    return jax.lax.stop_gradient(jnp.mean(jnp.abs(x_BxTxD), axis=-1, keepdims=True))


class GatedCrossAttentionDense(nn.Module):
    """Text [B, T, D] attends to media [B, N, R, D'] where mask_BxTxN allows -> [B, T, D].

    Media None stands for those of an earlier call, see `MaskedCrossAttention`.
    """

    config: CrossAttentionConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BxTxD: Array, media_BxNxRxD: Array | None, mask_BxTxN: Array) -> Array:
        cfg = self.config
        gate = lambda name, start: jnp.tanh(  # noqa: E731
            self.param(name, nn.initializers.constant(start), ())
        ).astype(self.dtype)
        attended = MaskedCrossAttention(cfg, self.dtype, name="attention")(
            x_BxTxD, media_BxNxRxD, mask_BxTxN
        )
        size_BxTx1 = size(x_BxTxD) if cfg.relative else 1.0
        x_BxTxD += gate("alpha_xattn", cfg.alpha_init) * size_BxTx1 * attended
        dense = FeedForward(
            cfg.mlp_multiplier, cfg.activation, cfg.norm_eps, self.dtype, name="mlp"
        )(x_BxTxD)
        return x_BxTxD + gate("alpha_dense", cfg.alpha_dense_init) * size_BxTx1 * dense


class MaskedCrossAttention(nn.Module):
    """Cross-attention of text tokens to the latents of the media that each may see.

    Applied with `cache` mutable it keeps the media's keys and values there; applied with media
    None it reads them back, so that decoding computes them once a prompt, not once a token. Sows
    its `weights`, [B, K, T, N * R], into the collection `intermediates` if that is asked for.
    """

    config: CrossAttentionConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BxTxD: Array, media_BxNxRxD: Array | None, mask_BxTxN: Array) -> Array:
        x = nn.LayerNorm(self.config.norm_eps, self.dtype, name="norm")(x_BxTxD)
        key, value = self._keys_and_values(media_BxNxRxD)
        latents = key.shape[1] // mask_BxTxN.shape[-1]
        mask = jnp.repeat(mask_BxTxN, latents, axis=-1)
        weights = attention_weights(self._project(x, "query"), key, mask)
        self.sow("intermediates", "weights", weights)
        return nn.DenseGeneral(
            x.shape[-1], axis=(-2, -1), use_bias=False, dtype=self.dtype, name="out"
        )(mix(weights, value))

    def _keys_and_values(self, media_BxNxRxD: Array | None) -> tuple[Array, Array]:
        """[B, N * R, K, C] each."""
        if media_BxNxRxD is None:
            return self.get_variable("cache", "key"), self.get_variable("cache", "value")
        B, N, R, width = media_BxNxRxD.shape
        media = media_BxNxRxD.reshape(B, N * R, width)
        key, value = self._project(media, "key"), self._project(media, "value")
        if self.is_mutable_collection("cache") and not self.is_initializing():
            self.put_variable("cache", "key", key)
            self.put_variable("cache", "value", value)
        return key, value

    def _project(self, inputs: Array, name: str) -> Array:
        shape = (self.config.num_heads, self.config.head_dim)
        return nn.DenseGeneral(shape, use_bias=False, dtype=self.dtype, name=name)(inputs)
