"""Gated cross-attention dense layer: the bridge from images into the frozen language model.

Flamingo (arXiv:2204.14198), §2.2, figure 4:

    x = x + tanh(alpha_xattn) * cross_attention(x, media)
    x = x + tanh(alpha_dense) * feed_forward(x)

With both gates at zero the layer is the identity, so the frozen language model starts intact. The
ablations (§3.3) leave the gates out, or the feed-forward too, or put the layers on top.

Axes: B batch, T text tokens, N media, R latents a medium, D width of the language model.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from flamingo_jax.models.attention import attend, attention_weights
from flamingo_jax.models.axes import constrain
from flamingo_jax.models.layers import (
    Activation,
    FeedForward,
    Norm,
    into_heads,
    make_norm,
    out_of_heads,
    widen_dot,
)

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
      mlp_dim: that hidden width itself; None for the multiple.
      conditioning: the paper's `gated_xattn_dense`; `vanilla_xattn`, cross-attention without gates
        and feed-forward (arXiv:1706.03762, §3.2.3); or `grafting`, as many new layers of gated
        cross-attention and self-attention on top of the whole language model (arXiv:2201.12723).
      gating: whether tanh gates scale what is added; else it is added as it is.
      vector_gates: a gate for each channel of D instead of one for all.
      sees: a token sees the `last` medium before it, or `all` of those before it.
      project_media: media are first projected to D, once for all layers.
      alpha_init: value of `alpha_xattn` at the start; 0 in the paper.
      alpha_dense_init: value of `alpha_dense` at the start; 0 in the paper.
      relative: scale both outputs by the size of the hidden state that they are added to, see
        `size`; False in the paper. A pretrained model's hidden state grows a hundredfold from its
        first layer to its last, so that outputs of one size drown the text or are drowned by it.
      activation: of the feed-forward; the paper's, or OpenFlamingo's exact GELU.
      norm: of text before both parts.
      norm_eps: epsilon of the norms.
      qk_norm: RMSNorm of each head's queries and keys.
    """

    num_heads: int
    head_dim: int
    first: int = 0
    every: int = 1
    mlp_multiplier: int = 4
    mlp_dim: int | None = None
    conditioning: Literal["gated_xattn_dense", "vanilla_xattn", "grafting"] = "gated_xattn_dense"
    gating: bool = True
    vector_gates: bool = False
    sees: Literal["last", "all"] = "last"
    project_media: bool = False
    alpha_init: float = 0.0
    alpha_dense_init: float = 0.0
    relative: bool = False
    activation: Activation = "squared_relu"
    norm: Norm = "layer"
    norm_eps: float = 1e-6
    qk_norm: bool = False

    @property
    def gated(self) -> bool:
        """Whether the layers have gates."""
        return self.gating and self.conditioning != "vanilla_xattn"


def media_mask(media_index_BxT: Array, num_media: int, sees: str = "last") -> Array:
    """[B, T, N] bool: token t sees medium φ(t) only, and none where φ(t) = 0 (§2.3).

    With `sees` "all", it sees media 1 to φ(t).
    """
    number_N = jnp.arange(1, num_media + 1)
    seen = media_index_BxT[..., None]
    return seen == number_N if sees == "last" else seen >= number_N


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
        cfg, x_BxTxD = self.config, constrain(x_BxTxD, "batch", "length", "hidden")
        attended = MaskedCrossAttention(cfg, self.dtype, name="attention")(
            x_BxTxD, media_BxNxRxD, mask_BxTxN
        )
        size_BxTx1 = size(x_BxTxD) if cfg.relative else 1.0
        x_BxTxD += self._gate("alpha_xattn", cfg.alpha_init, x_BxTxD) * size_BxTx1 * attended
        if cfg.conditioning == "vanilla_xattn":
            return x_BxTxD
        hidden = cfg.mlp_dim or cfg.mlp_multiplier * x_BxTxD.shape[-1]
        dense = FeedForward(hidden, cfg.activation, False, self.dtype, widen_dot, name="mlp")(
            make_norm(cfg.norm, cfg.norm_eps, self.dtype, "mlp_norm")(x_BxTxD)
        )
        gate = self._gate("alpha_dense", cfg.alpha_dense_init, x_BxTxD)
        return x_BxTxD + gate * size_BxTx1 * dense

    def _gate(self, name: str, start: float, x_BxTxD: Array) -> Array | float:
        if not self.config.gated:
            return 1.0
        shape = x_BxTxD.shape[-1:] if self.config.vector_gates else ()
        alpha = self.param(name, nn.initializers.constant(start), shape)
        return jnp.tanh(alpha).astype(self.dtype)


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
        cfg = self.config
        x = make_norm(cfg.norm, cfg.norm_eps, self.dtype, "norm")(x_BxTxD)
        key, value = self._keys_and_values(media_BxNxRxD)
        latents = key.shape[1] // mask_BxTxN.shape[-1]
        mask = jnp.repeat(mask_BxTxN, latents, axis=-1)
        query = self._norm(self._project(x, "query"), "query_norm")
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", attention_weights(query, key, mask))
        out = out_of_heads(x.shape[-1], self.dtype)
        return out(attend(query, key, value, mask))

    def _keys_and_values(self, media_BxNxRxD: Array | None) -> tuple[Array, Array]:
        """[B, N * R, K, C] each."""
        if media_BxNxRxD is None:
            return self.get_variable("cache", "key"), self.get_variable("cache", "value")
        B, N, R, width = media_BxNxRxD.shape
        media = media_BxNxRxD.reshape(B, N * R, width)
        key = self._norm(self._project(media, "key"), "key_norm")
        value = self._project(media, "value")
        if self.is_mutable_collection("cache") and not self.is_initializing():
            self.put_variable("cache", "key", key)
            self.put_variable("cache", "value", value)
        return key, value

    def _project(self, inputs: Array, name: str) -> Array:
        cfg = self.config
        return into_heads(cfg.num_heads, cfg.head_dim, self.dtype, name)(inputs)

    def _norm(self, x: Array, name: str) -> Array:
        if not self.config.qk_norm:
            return x
        return nn.RMSNorm(epsilon=self.config.norm_eps, dtype=self.dtype, name=name)(x)
