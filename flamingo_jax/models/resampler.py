"""Perceiver Resampler: any number of frames and grid positions in, R latents out.

Flamingo (arXiv:2204.14198), §2.1 and appendix A.1.1: learned latents attend to the concatenation
of the visual features and the latents themselves; learned time embeddings for the frames of a
video, no spatial ones.

Axes: B batch, N media, F frames, P grid positions, C feature channels, R latents, D width.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from flamingo_jax.models.decoder import attention_weights, mix

Array = jax.Array
Activation = Literal["squared_relu", "gelu"]


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
      activation: of the feed-forwards; the paper's, or OpenFlamingo's exact GELU.
      norm_eps: epsilon of the norms.
    """

    width: int
    num_layers: int = 6
    num_latents: int = 64
    num_heads: int = 16
    head_dim: int = 96
    mlp_multiplier: int = 4
    max_frames: int = 8
    project: bool = True
    activation: Activation = "squared_relu"
    norm_eps: float = 1e-6


def squared_relu(x: Array) -> Array:
    """max(x, 0)² (Primer, arXiv:2109.08668), the paper's choice for the new layers."""
    return jnp.square(nn.relu(x))


def exact_gelu(x: Array) -> Array:
    """x Φ(x) (arXiv:1606.08415)."""
    return nn.gelu(x, approximate=False)


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "squared_relu": squared_relu,
    "gelu": exact_gelu,
}


@jax.custom_vjp
def widen(x: Array, kernel_IxO: Array) -> Array:
    """x @ kernel for O > I, whose weight gradient leaves the wide cotangent as it lies.

    JAX asks for (g^T x)^T, and XLA on a CPU computes an activation's derivative anew while it
    transposes g, which takes longer than the multiply itself; x^T g transposes the narrow x.
    """
    return x @ kernel_IxO


def _widen_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel_IxO = kept
    rows = tuple(range(x.ndim - 1))
    return g @ kernel_IxO.T, jax.lax.dot_general(x, g, ((rows, rows), ((), ())))


widen.defvjp(lambda x, kernel_IxO: (widen(x, kernel_IxO), (x, kernel_IxO)), _widen_backward)


def _widen_dot(x: Array, kernel_IxO: Array, *_: Any, **__: Any) -> Array:
    """`widen` as the `dot_general` of a Dense layer."""
    return widen(x, kernel_IxO)


class FeedForward(nn.Module):
    """LayerNorm, Dense, activation, Dense, without biases in the Dense layers."""

    multiplier: int
    activation: Activation
    norm_eps: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        x = nn.LayerNorm(self.norm_eps, self.dtype, name="norm")(x)
        x = nn.Dense(
            self.multiplier * width,
            use_bias=False,
            dtype=self.dtype,
            dot_general=_widen_dot,
            name="up",
        )(x)
        x = ACTIVATIONS[self.activation](x)
        return nn.Dense(width, use_bias=False, dtype=self.dtype, name="down")(x)


class PerceiverAttention(nn.Module):
    """Latents [M, R, D] attend to features [M, S, D] and to themselves (appendix A.1.1).

    Sows its `weights`, [M, K, R, S + R], into the collection `intermediates` if that is asked for.
    """

    config: ResamplerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, latents_MxRxD: Array, features_MxSxD: Array) -> Array:
        cfg = self.config
        latents = nn.LayerNorm(cfg.norm_eps, self.dtype, name="latents_norm")(latents_MxRxD)
        features = nn.LayerNorm(cfg.norm_eps, self.dtype, name="features_norm")(features_MxSxD)
        both = jnp.concatenate([features, latents], axis=1)

        def project(x: Array, name: str) -> Array:
            shape = (cfg.num_heads, cfg.head_dim)
            return nn.DenseGeneral(shape, use_bias=False, dtype=self.dtype, name=name)(x)

        q, k, v = project(latents, "query"), project(both, "key"), project(both, "value")
        mask = jnp.ones((q.shape[0], q.shape[1], k.shape[1]), bool)
        weights = attention_weights(q, k, mask)
        self.sow("intermediates", "weights", weights)
        return nn.DenseGeneral(
            cfg.width, axis=(-2, -1), use_bias=False, dtype=self.dtype, name="out"
        )(mix(weights, v))


class PerceiverResampler(nn.Module):
    """features_BxNxFxPxC -> media_BxNxRxD, R latents for each media whatever F and P are."""

    config: ResamplerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features_BxNxFxPxC: Array) -> Array:
        cfg = self.config
        B, N, F, P, _ = features_BxNxFxPxC.shape
        x = features_BxNxFxPxC.astype(self.dtype)
        if cfg.project:
            x = nn.Dense(cfg.width, dtype=self.dtype, name="project")(x)
        if cfg.max_frames:
            x += self._time_embedding(F)[:, None].astype(x.dtype)
        x = x.reshape(B * N, F * P, cfg.width)
        latents = self.param("latents", nn.initializers.normal(1.0), (cfg.num_latents, cfg.width))
        latents = jnp.broadcast_to(latents.astype(x.dtype), (B * N, *latents.shape))
        for i in range(cfg.num_layers):
            latents += PerceiverAttention(cfg, self.dtype, name=f"attention_{i}")(latents, x)
            latents += FeedForward(
                cfg.mlp_multiplier, cfg.activation, cfg.norm_eps, self.dtype, name=f"mlp_{i}"
            )(latents)
        latents = nn.LayerNorm(cfg.norm_eps, self.dtype, name="norm")(latents)
        return latents.reshape(B, N, cfg.num_latents, cfg.width)

    def _time_embedding(self, frames: int) -> Array:
        """[F, D]; beyond `max_frames` the learned ones are interpolated (appendix B.1)."""
        shape = (self.config.max_frames, self.config.width)
        table = self.param("time_embedding", nn.initializers.normal(0.02), shape)
        if frames <= shape[0]:
            return table[:frames]
        return jax.image.resize(table, (frames, shape[1]), "linear")
