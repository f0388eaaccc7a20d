"""Where tokens look: cross-attention to the latents, followed down to the image grid.

Axes: B batch of one, L cross-attention layers, T text tokens, N media, F frames, P grid positions,
C feature channels, R latents a medium, D width, K heads.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flamingo_jax.inference.layers import Weights, forward
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel, causal_context
from flamingo_jax.models.xattn import media_mask

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Maps:
    """Cross-attention of one prompt.

    Attributes:
      tokens: text of each of the T tokens.
      layers: for each of L, the language layer that it comes before.
      weights_LxTxNxFxP: float32, mean over heads; sums to 1 over the media where the token sees
        one, and is 0 elsewhere.
    """

    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    weights_LxTxNxFxP: np.ndarray


@functools.partial(jax.jit, static_argnames="config")
def attention_maps(
    config: FlamingoConfig,
    weights: Weights,
    tokens_BxT: Array | np.ndarray,
    media_index_BxT: Array | np.ndarray,
    features_BxNxFxPxC: Array | np.ndarray,
) -> Array:
    """weights_LxTxNxFxP of one prompt: the latents' shares times where each latent looks."""
    _, N, F, P, _ = features_BxNxFxPxC.shape
    found: Any = FlamingoModel(config).apply(
        {"params": {"resampler": weights.resampler}},
        features_BxNxFxPxC,
        method="resample",
        mutable=["intermediates"],
    )
    media, changed = found
    sown: list[Any] = []
    forward(
        config,
        weights,
        jnp.asarray(tokens_BxT),
        media,
        media_mask(jnp.asarray(media_index_BxT), N, config.xattn.sees),
        causal_context(*tokens_BxT.shape),
        sown=sown,
    )
    to_latents = jnp.stack([layer["attention"]["weights"][0][0].mean(0) for layer in sown])
    to_latents_LxTxNxR = to_latents.reshape(*to_latents.shape[:2], N, -1)
    layers = changed["intermediates"]["resampler"]
    to_grid_NxRxS = _rollout(
        [layers[f"attention_{i}"]["weights"][0].mean(1) for i in range(config.resampler.num_layers)]
    )
    maps = jnp.einsum("LTNR,NRS->LTNS", to_latents_LxTxNxR, to_grid_NxRxS)
    return maps.reshape(*maps.shape[:3], F, P)


def _rollout(layers: list[Array]) -> Array:
    """Attention rollout (arXiv:2005.00928, eq. 1) of the resampler: latents to features.

    Args:
      layers: [N, R, S + R] each, attention of the latents to S features and to themselves.

    Returns:
      [N, R, S], each latent's share of the features; sums to 1 over S.
    """
    R = layers[0].shape[1]
    reached = jnp.zeros_like(layers[0][..., :-R])
    for weights in layers:
        to_features, to_latents = weights[..., :-R], weights[..., -R:]
        reached = 0.5 * reached + 0.5 * (to_features + to_latents @ reached)
    return reached / reached.sum(-1, keepdims=True)
