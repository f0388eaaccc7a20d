"""The model with its layers laid out one after another: what inference runs.

Training scans over stacked layers, which compiles fast. Decoding does little but read weights, and
a scan first copies each layer's weights out of the stack: without it a token costs half the time.
The layers are the same modules, so both ways give the same logits.

Axes: B batch, T text tokens, S slots of the cache, A positions whose logits are wanted, N media,
R latents a medium, D width, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from flamingo_jax.models.decoder import Context, DecoderLayer, Vocabulary
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.xattn import GatedCrossAttentionDense

Array = jax.Array


@struct.dataclass
class Weights:
    """Variables of a FlamingoModel, one tree a layer.

    Attributes:
      vocabulary: token embedding, last norm and what else is at the ends of the language model.
      layers: the language layers in order, with those grafted on top.
      bridges: for each of them the cross-attention before it, or None.
      media: the projection of media to D; empty without one.
      resampler: the Perceiver Resampler.
      vision: the vision encoder; empty for a model that is given features.
    """

    vocabulary: Any
    layers: tuple[Any, ...]
    bridges: tuple[Any | None, ...]
    media: Any
    resampler: Any
    vision: Any


@struct.dataclass
class Cache:
    """Keys and values that later tokens attend to.

    Attributes:
      text: for each language layer, those of the S slots.
      media: for each bridge, those of all latents; None where there is no bridge.
    """

    text: tuple[Any, ...]
    media: tuple[Any | None, ...]


def unstack(config: FlamingoConfig, params: Any, frozen: Any) -> Weights:
    """The `params` and `frozen` collections of a FlamingoModel as `Weights`.

    Matrices are kept in the compute type: decoding reads each of them for every token.
    """
    language, bridges = (frozen if config.language == "frozen" else params), params["language"]
    language, grafting = language["language"], config.xattn.conditioning == "grafting"
    below, whole, rest = config.groups()
    every = config.xattn.every
    layers, before = [], [None] * below
    if below:
        layers += _layers(language["below"]["layers"], below)
    if whole:
        layers += _layers(language["groups"]["language"]["layers"], whole, every)
        for bridge in _layers(bridges["groups"]["xattn"], whole) if not grafting else ():
            before += [bridge] + [None] * (every - 1)
    if rest:
        layers += _layers(language["last_group"]["language"]["layers"], rest)
        if not grafting:
            before += [bridges["last_group"]["xattn"]] + [None] * (rest - 1)
    if grafting:
        grafts = _layers(bridges["grafts"], config.num_bridges)
        before = [None] * len(layers) + [graft["xattn"] for graft in grafts]
        layers += [graft["layer"] for graft in grafts]
    weights = Weights(
        vocabulary=language["vocabulary"],
        layers=tuple(layers),
        bridges=tuple(before),
        media=bridges.get("media", {}),
        resampler=params.get("resampler", {}),
        vision={},
    )
    dtype = jnp.dtype(config.dtype)
    typed = jax.tree.map(lambda x: jnp.asarray(x, dtype if x.ndim > 1 else x.dtype), weights)
    vision = jax.tree.map(jnp.asarray, frozen.get("vision", {}))
    return dataclasses.replace(typed, vision=vision)


def _layers(stacked: Any, *axes: int) -> list[Any]:
    """The trees stacked in the leading axes, which have these lengths, in order."""
    stacked = jax.tree.map(jnp.asarray, stacked)
    return [_layer(stacked, index) for index in np.ndindex(*axes)]


@jax.jit
def _layer(stacked: Any, index: tuple[Array | int, ...]) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def forward(
    config: FlamingoConfig,
    weights: Weights,
    tokens_BxT: Array,
    media_BxNxRxD: Array | None,
    mask_BxTxN: Array,
    context: Context,
    cache: Cache | None = None,
    at_BxA: Array | None = None,
    sown: list[Any] | None = None,
) -> tuple[Array, Cache]:
    """Next-token logits and the cache with this call's keys and values in it.

    Args:
      config: of the model.
      weights: from `unstack`.
      tokens_BxT: int32.
      media_BxNxRxD: latents; None reads the media's keys and values from `cache`.
      mask_BxTxN: bool, the media that a token sees.
      context: positions and visibility; without a `cache_index` no text is cached.
      cache: of the calls before, None for the first.
      at_BxA: int32 positions whose logits are wanted; None for all.
      sown: a list that each bridge's `intermediates` are added to; None for none.

    Returns:
      float32 [B, T, V] or [B, A, V], and the cache.
    """
    dtype = jnp.dtype(config.dtype)
    vocabulary = Vocabulary(config.decoder, dtype)
    ends = {"params": weights.vocabulary}
    x_BxTxD: Any = vocabulary.apply(ends, tokens_BxT, context.positions_BxT, method="embed")
    if weights.media and media_BxNxRxD is not None:
        media_BxNxRxD = media_BxNxRxD @ weights.media["kernel"]
    text, media = [], []
    for i, (bridge, layer) in enumerate(zip(weights.bridges, weights.layers, strict=True)):
        kept = None
        if bridge is not None:
            module = GatedCrossAttentionDense(config.xattn, dtype)
            before = cache.media[i] if cache else {}
            inputs = (x_BxTxD, media_BxNxRxD, mask_BxTxN)
            x_BxTxD, kept = _apply(module, bridge, before, *inputs, sown=sown)
        media.append(kept)
        module = DecoderLayer(config.decoder, dtype)
        before = cache.text[i] if cache else {}
        x_BxTxD, kept = _apply(module, layer, before, x_BxTxD, context)
        text.append(kept)
    if at_BxA is not None:
        x_BxTxD = jnp.take_along_axis(x_BxTxD, at_BxA[..., None], axis=1)
    logits: Any = vocabulary.apply(ends, x_BxTxD, method="logits")
    return logits, Cache(tuple(text), tuple(media))


def _apply(
    module: nn.Module, params: Any, cache: Any, *inputs: Any, sown: list[Any] | None = None
) -> tuple[Array, Any]:
    """One module's output and what it keeps in its cache."""
    wanted = ["cache"] if sown is None else ["cache", "intermediates"]
    out, changed = module.apply({"params": params, "cache": cache}, *inputs, mutable=wanted)
    if sown is not None:
        sown.append(changed["intermediates"])
    return out, changed.get("cache", {})
