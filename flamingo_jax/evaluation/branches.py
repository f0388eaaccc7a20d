"""Answers to many queries after one prompt: programs that read the shared part once.

A trunk is the part of a prompt that queries share, such as its supports: its keys and values are
computed once. Branches are what follows it, packed into one sequence as a tree (`tree`); every
branch sees the trunk and its own ancestors. Beam search goes on from the tips of the branches: all
hypotheses of all queries are one sequence too, and a new token's keys and values stay where they
were written. A hypothesis that goes on from another beam remembers by which beam each of its tokens
was written, so that nothing is moved.

Where no queries share anything, each has a trunk of its own: the leading axis counts trunks.

Axes: G trunks, T tokens of a trunk, U nodes of its branches, Q queries of a trunk, W beams, M slots
for new tokens, S slots of the cache, N media, R latents a medium, D width, A nodes whose logits are
wanted, E scored tokens, V vocabulary. B is G * Q.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flamingo_jax.inference.beam import search
from flamingo_jax.inference.layers import Cache, Weights, forward
from flamingo_jax.models.decoder import Context
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.xattn import media_mask

Array = jax.Array
HostOrDevice = jax.Array | np.ndarray


@struct.dataclass
class Trunk:
    """Keys and values of what branches share.

    Attributes:
      text: for each language layer, those of T slots.
      length_G: int32 tokens that are not padding; 0 for none at all.
    """

    text: tuple[Any, ...]
    length_G: Array


@struct.dataclass
class Branches:
    """What follows each trunk.

    Attributes:
      tokens_GxU: int32.
      positions_GxU: int32, counted from the trunk's first token.
      mask_GxUxU: bool, the nodes that a node attends to.
      seen_GxUxN: bool, the media that a node sees.
      at_GxA: int32 nodes whose logits are wanted.
      media_GxNxRxD: latents.
    """

    tokens_GxU: HostOrDevice
    positions_GxU: HostOrDevice
    mask_GxUxU: HostOrDevice
    seen_GxUxN: HostOrDevice
    at_GxA: HostOrDevice
    media_GxNxRxD: HostOrDevice


@functools.partial(jax.jit, static_argnames="config")
def grow(
    config: FlamingoConfig,
    weights: Weights,
    tokens_GxT: HostOrDevice,
    length_G: HostOrDevice,
    media_index_GxT: HostOrDevice,
    media_GxNxRxD: HostOrDevice,
) -> Trunk:
    """Runs trunks, padded on the right, and keeps their keys and values."""
    G, T = tokens_GxT.shape
    positions = jnp.broadcast_to(jnp.arange(T), (G, T))
    context = Context(positions, positions[:, :, None] >= positions[:, None], jnp.int32(0))
    seen = media_mask(jnp.asarray(media_index_GxT), media_GxNxRxD.shape[1], config.xattn.sees)
    _, cache = forward(
        config,
        weights,
        jnp.asarray(tokens_GxT),
        jnp.asarray(media_GxNxRxD),
        seen,
        context,
        at_BxA=jnp.zeros((G, 1), jnp.int32),
    )
    return Trunk(cache.text, jnp.asarray(length_G))


@functools.partial(jax.jit, static_argnames="config")
def score_branches(
    config: FlamingoConfig,
    weights: Weights,
    trunk: Trunk,
    branches: Branches,
    target_at_GxE: HostOrDevice,
    target_GxE: HostOrDevice,
) -> Array:
    """Log-probabilities of scored tokens, nats, float32 [G, E].

    Args:
      config: of the model.
      weights: its weights.
      trunk: what branches share.
      branches: the tree of prompts and candidates.
      target_at_GxE: int32 index below A of each scored token's logits.
      target_GxE: int32 scored tokens.
    """
    logits_GxAxV, _ = _extend(config, weights, trunk, branches, 0)
    total_GxA = jax.nn.logsumexp(logits_GxAxV, axis=-1)
    row = jnp.arange(logits_GxAxV.shape[0])[:, None]
    return logits_GxAxV[row, target_at_GxE, target_GxE] - total_GxA[row, target_at_GxE]


@functools.partial(jax.jit, static_argnames=("config", "room", "width", "stop"))
def search_branches(
    config: FlamingoConfig,
    weights: Weights,
    trunk: Trunk,
    branches: Branches,
    asked_GxQ: HostOrDevice,
    *,
    limit: HostOrDevice,
    room: int,
    width: int,
    stop: tuple[int, ...],
) -> Array:
    """The likeliest continuation of each branch that beam search finds, int32 [G, Q, M].

    Args:
      config: of the model.
      weights: its weights.
      trunk: what branches share.
      branches: the tree of prompts, `at_GxA` with A = Q the last node of each.
      asked_GxQ: bool, False where there is no query.
      limit: int32 scalar, most new tokens.
      room: M.
      width: W.
      stop: ids that end a continuation.

    Returns:
      Tokens up to the one that ended them; zeros after it.
    """
    G, Q = branches.at_GxA.shape
    B, W = G * Q, width
    logits_GxQxV, cache = _extend(config, weights, trunk, branches, room * Q * W)
    V = logits_GxQxV.shape[-1]
    step = functools.partial(_decode, config, weights, trunk, branches, cache.media)

    def decode(kept: tuple, tokens_BxWxM: Array, number: Array) -> tuple[Array, tuple]:
        lineage_BxWxM, text = kept
        logits, text = step(text, tokens_BxWxM, lineage_BxWxM, number)
        return logits.reshape(B, W, V), (lineage_BxWxM, text)

    def follow(kept: tuple, parent_BxW: Array, number: Array) -> tuple:
        lineage_BxWxM, text = kept
        lineage_BxWxM = jnp.take_along_axis(lineage_BxWxM, parent_BxW[..., None], axis=1)
        return lineage_BxWxM.at[:, :, number].set(jnp.arange(W)), text

    lineage_BxWxM = jnp.zeros((B, W, room), jnp.int32).at[:, :, 0].set(jnp.arange(W))
    best_BxM = search(
        logits_GxQxV.reshape(B, V),
        jnp.where(jnp.asarray(asked_GxQ).reshape(B), 0.0, -jnp.inf),
        (decode, follow),
        (lineage_BxWxM, cache.text),
        limit=jnp.asarray(limit),
        penalty=jnp.float32(0.0),
        room=room,
        width=width,
        stop=stop,
    )
    return best_BxM.reshape(G, Q, room)


def _extend(
    config: FlamingoConfig, weights: Weights, trunk: Trunk, branches: Branches, room: int
) -> tuple[Array, Cache]:
    """Logits [G, A, V] of branches, and a cache of trunk, branches and `room` free slots."""
    U = branches.tokens_GxU.shape[1]
    T = jax.tree.leaves(trunk.text)[0].shape[1]
    text = jax.tree.map(
        lambda leaf: jnp.pad(leaf, ((0, 0), (0, U + room), (0, 0), (0, 0))), trunk.text
    )
    of_trunk = jnp.arange(T) < trunk.length_G[:, None, None]
    of_trunk = jnp.broadcast_to(of_trunk, (of_trunk.shape[0], U, T))
    mask = jnp.concatenate([of_trunk, jnp.asarray(branches.mask_GxUxU)], axis=-1)
    mask = jnp.pad(mask, ((0, 0), (0, 0), (0, room)))
    return forward(
        config,
        weights,
        jnp.asarray(branches.tokens_GxU),
        jnp.asarray(branches.media_GxNxRxD),
        jnp.asarray(branches.seen_GxUxN),
        Context(jnp.asarray(branches.positions_GxU), mask, jnp.int32(T)),
        Cache(text, ({},) * len(weights.layers)),
        jnp.asarray(branches.at_GxA),
    )


def _decode(
    config: FlamingoConfig,
    weights: Weights,
    trunk: Trunk,
    branches: Branches,
    media: tuple[Any, ...],
    text: tuple[Any, ...],
    tokens_BxWxM: Array,
    lineage_BxWxM: Array,
    number: Array,
) -> tuple[Array, tuple[Any, ...]]:
    """Logits [G, Q * W, V] after the hypotheses' tokens `number`, and `text` with these in it.

    lineage_BxWxM tells for each token of a hypothesis the beam that wrote it.
    """
    G, Q = branches.at_GxA.shape
    W, M = lineage_BxWxM.shape[1:]
    U = branches.tokens_GxU.shape[1]
    T = jax.tree.leaves(trunk.text)[0].shape[1]

    def of_tips(values: HostOrDevice) -> Array:
        """Rows of the branches' last nodes, once for each beam."""
        at = branches.at_GxA.reshape(G, Q, *(1,) * (values.ndim - 2))
        return jnp.repeat(jnp.take_along_axis(jnp.asarray(values), at, axis=1), W, axis=1)

    of_trunk = jnp.broadcast_to(jnp.arange(T) < trunk.length_G[:, None, None], (G, Q * W, T))
    written = (lineage_BxWxM[..., None] == jnp.arange(W)) & (jnp.arange(M) <= number)[:, None]
    own = jnp.eye(Q, dtype=bool)[None, :, None, None, :, None]
    written = (written.reshape(G, Q, W, M, 1, W) & own).reshape(G, Q * W, M * Q * W)
    context = Context(
        positions_BxT=of_tips(branches.positions_GxU) + 1 + number,
        mask_BxTxS=jnp.concatenate([of_trunk, of_tips(branches.mask_GxUxU), written], axis=-1),
        cache_index=T + U + number * Q * W,
    )
    logits, cache = forward(
        config,
        weights,
        tokens_BxWxM[:, :, number].reshape(G, Q * W),
        None,
        of_tips(branches.seen_GxUxN),
        context,
        Cache(text, media),
    )
    return logits, cache.text
