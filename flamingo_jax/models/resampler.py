"""Perceiver Resampler: any number of frames and grid positions in, R latents out.

Flamingo (arXiv:2204.14198), §2.1 and appendix A.1.1: learned latents attend to the concatenation
of the visual features and the latents themselves; learned time embeddings for the frames of a
video, no spatial ones. The ablations (§3.3, appendix C.3) put a Transformer or an MLP in its place.

Axes: B batch, N media, F frames, P grid positions, C feature channels, R latents, D width,
M media of a batch, S = F P features of a medium, Q querying rows.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from flamingo_jax.models.attention import attend, attention_weights
from flamingo_jax.models.axes import constrain
from flamingo_jax.models.layers import (
    Activation,
    FeedForward,
    Remat,
    flat_product,
    into_heads,
    out_of_heads,
    rematerialised,
    widen_dot,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class ResamplerConfig:
    """Shape of the resampler.

    Attributes:
      width: D; features are projected to it.
      num_layers: attention and feed-forward layers (6 in the paper).
      num_latents: R (64 in the paper).
      num_heads: attention heads.
      head_dim: width of a head.
      mlp_multiplier: hidden width of the feed-forward over D.
      max_frames: learned time embeddings; more frames are interpolated linearly. 0 for none.
      project: whether features are projected to D; without it they must have D channels.
      kind: the paper's `perceiver`; in its place a `transformer` over features and latents
        together, or an `mlp` on each feature, brought to R of them by linear interpolation; or
        `none`: the cross-attention sees all features.
      activation: of the feed-forwards; the paper's, or OpenFlamingo's exact GELU.
      norm_eps: epsilon of the norms.
      qk_norm: LayerNorm of each head's queries and keys.
    """

    width: int
    num_layers: int = 6
    num_latents: int = 64
    num_heads: int = 16
    head_dim: int = 128
    mlp_multiplier: int = 4
    max_frames: int = 8
    project: bool = True
    kind: Literal["perceiver", "transformer", "mlp", "none"] = "perceiver"
    activation: Activation = "squared_relu"
    norm_eps: float = 1e-6
    qk_norm: bool = False


class PerceiverAttention(nn.Module):
    """Rows [M, Q, D] attend to features [M, S, D] and to themselves (appendix A.1.1).

    Features None leaves plain self-attention. Sows its `weights`, [M, K, Q, S + Q], into the
    collection `intermediates` if that is asked for.
    """

    config: ResamplerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, rows_MxQxD: Array, features_MxSxD: Array | None) -> Array:
        cfg = self.config
        rows = nn.LayerNorm(cfg.norm_eps, self.dtype, name="latents_norm")(rows_MxQxD)
        query, key, value = (
            into_heads(cfg.num_heads, cfg.head_dim, self.dtype, name)
            for name in ("query", "key", "value")
        )
        q, k, v = query(rows), key(rows), value(rows)
        if features_MxSxD is not None:
            affine = Affine(features_MxSxD.shape[-1], name="features_norm")()
            norm = nn.LayerNorm(cfg.norm_eps, self.dtype, use_bias=False, use_scale=False)
            features = norm(features_MxSxD)
            k = jnp.concatenate([self._of_features(features, affine, key), k], axis=1)
            v = jnp.concatenate([self._of_features(features, affine, value), v], axis=1)
        if cfg.qk_norm:
            q = nn.LayerNorm(cfg.norm_eps, self.dtype, name="query_norm")(q)
            k = nn.LayerNorm(cfg.norm_eps, self.dtype, name="key_norm")(k)
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", attention_weights(q, k))
        return out_of_heads(cfg.width, self.dtype)(attend(q, k, v))

    def _of_features(
        self, features_MxSxD: Array, affine: tuple[Array, Array], projection: nn.DenseGeneral
    ) -> Array:
        """A projection of features whose norm lacks scale and bias, [M, S, K, C].

        Scale and bias go into the kernel. Their gradients then follow from the kernel's, without
        the gradient of the features, which is the costliest product here and which nothing else
        needs where the features are those of a frozen encoder.
        """
        (scale_D, bias_D), kernel_DxKxC = affine, projection.variables["params"]["kernel"]
        scaled_DxKxC = (scale_D[:, None, None] * kernel_DxKxC).astype(self.dtype)
        bias_KxC = flat_product(bias_D, kernel_DxKxC).astype(self.dtype)
        return flat_product(features_MxSxD, scaled_DxKxC) + bias_KxC


class Affine(nn.Module):
    """Scale and bias of a LayerNorm over `width` channels, named as its own are."""

    width: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        scale_D = self.param("scale", nn.initializers.ones, (self.width,))
        return scale_D, self.param("bias", nn.initializers.zeros, (self.width,))


class PerceiverResampler(nn.Module):
    """features_BxNxFxPxC -> media_BxNxRxD, R latents for each media whatever F and P are."""

    config: ResamplerConfig
    dtype: jnp.dtype = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, features_BxNxFxPxC: Array) -> Array:
        cfg = self.config
        B, N, F, P, _ = features_BxNxFxPxC.shape
        x = constrain(features_BxNxFxPxC.astype(self.dtype), "batch")
        if cfg.project:
            x = nn.Dense(cfg.width, dtype=self.dtype, name="project")(x)
        if cfg.max_frames:
            x += self._time_embedding(F)[:, None].astype(x.dtype)
        x_MxSxD = x.reshape(B * N, F * P, cfg.width)
        if cfg.kind == "none":
            return x_MxSxD.reshape(B, N, F * P, cfg.width)
        resample = {
            "perceiver": self._perceiver,
            "transformer": self._transformer,
            "mlp": self._mlp,
        }
        latents = resample[cfg.kind](x_MxSxD)
        latents = nn.LayerNorm(cfg.norm_eps, self.dtype, name="norm")(latents)
        return latents.reshape(B, N, cfg.num_latents, cfg.width)

    def _perceiver(self, x_MxSxD: Array) -> Array:
        latents = self._latents(x_MxSxD)
        for i in range(self.config.num_layers):
            latents += self._attention(i)(latents, x_MxSxD)
            latents += self._feed_forward(latents, i)
        return latents

    def _transformer(self, x_MxSxD: Array) -> Array:
        rows = jnp.concatenate([x_MxSxD, self._latents(x_MxSxD)], axis=1)
        for i in range(self.config.num_layers):
            rows += self._attention(i)(rows, None)
            rows += self._feed_forward(rows, i)
        return rows[:, -self.config.num_latents :]

    def _mlp(self, x_MxSxD: Array) -> Array:
        for i in range(self.config.num_layers):
            x_MxSxD += self._feed_forward(x_MxSxD, i)
        shape = (x_MxSxD.shape[0], self.config.num_latents, self.config.width)
        return jax.image.resize(x_MxSxD, shape, "linear")

    def _latents(self, x_MxSxD: Array) -> Array:
        """The learned latents of each medium, [M, R, D]."""
        shape = (self.config.num_latents, self.config.width)
        latents = self.param("latents", nn.initializers.normal(1.0), shape).astype(x_MxSxD.dtype)
        return jnp.broadcast_to(latents, (x_MxSxD.shape[0], *shape))

    def _attention(self, layer: int) -> Any:
        attention = rematerialised(PerceiverAttention, self.remat)
        return attention(self.config, self.dtype, name=f"attention_{layer}")

    def _feed_forward(self, x: Array, layer: int) -> Array:
        cfg = self.config
        hidden = cfg.mlp_multiplier * cfg.width
        feed_forward = rematerialised(FeedForward, self.remat)
        mlp = feed_forward(
            hidden, cfg.activation, False, self.dtype, widen_dot, name=f"mlp_{layer}"
        )
        return mlp(nn.LayerNorm(cfg.norm_eps, self.dtype, name=f"mlp_norm_{layer}")(x))

    def _time_embedding(self, frames: int) -> Array:
        """[F, D]; beyond `max_frames` the learned ones are interpolated (appendix B.1)."""
        shape = (self.config.max_frames, self.config.width)
        table = self.param("time_embedding", nn.initializers.normal(0.02), shape)
        if frames <= shape[0]:
            return table[:frames]
        return jax.image.resize(table, (frames, shape[1]), "linear")
