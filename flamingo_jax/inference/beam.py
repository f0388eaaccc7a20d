"""Beam search, one program on the device.

Alive hypotheses are ranked by log-likelihood; those that ended are kept aside, ranked by
log-likelihood over length to the power of the penalty. Equal scores go to the earlier beam and the
lower token id. Only the slots of generated tokens follow their hypothesis from beam to beam: the
prompt's, and the media's keys and values, are the same in all beams of a row.

Axes: B batch, W beams, M slots for new tokens, S slots of the cache, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from flamingo_jax.inference.cache import Prefilled, decode_step
from flamingo_jax.inference.layers import Weights
from flamingo_jax.models.flamingo import FlamingoConfig

Array = jax.Array
Decode = Callable[[Any, Array, Array], tuple[Array, Any]]
Follow = Callable[[Any, Array, Array], Any]


@struct.dataclass
class Beams:
    """Hypotheses of a batch.

    Attributes:
      tokens_BxWxM: int32, of those alive.
      score_BxW: float32 log-likelihood of those alive, best first; -inf for none.
      ended_BxWxM: int32, of those that ended.
      ended_score_BxW: float32 penalised log-likelihood, best first; -inf for none.
    """

    tokens_BxWxM: Array
    score_BxW: Array
    ended_BxWxM: Array
    ended_score_BxW: Array


@functools.partial(jax.jit, static_argnames=("config", "room", "width", "stop"))
def beam_search(
    config: FlamingoConfig,
    weights: Weights,
    start: Prefilled,
    limit: Array,
    penalty: Array,
    room: int,
    width: int,
    stop: tuple[int, ...],
) -> Array:
    """The best hypothesis of each row, int32 [B, M], zeros after its end.

    Args:
      config: of the model.
      weights: its weights.
      start: the prompts.
      limit: int32 scalar, most new tokens.
      penalty: float32 scalar, power of the length that log-likelihoods are divided by.
      room: M.
      width: W.
      stop: ids that end a hypothesis.
    """
    B, V = start.logits_BxV.shape
    rows = start.repeated(width)

    def decode(text: Any, tokens_BxWxM: Array, number: Array) -> tuple[Array, Any]:
        token_B = tokens_BxWxM[:, :, number].reshape(-1)
        logits, text = decode_step(config, weights, rows, text, token_B, number)
        return logits.reshape(B, width, V), text

    def follow(text: Any, parent_BxW: Array, number: Array) -> Any:
        return _follow(text, parent_BxW, start.slots)

    return search(
        start.logits_BxV,
        jnp.zeros((B,)),
        (decode, follow),
        rows.cache.text,
        limit=limit,
        penalty=penalty,
        room=room,
        width=width,
        stop=stop,
    )


def search(
    first_BxV: Array,
    score_B: Array,
    model: tuple[Decode, Follow],
    kept: Any,
    *,
    limit: Array,
    penalty: Array,
    room: int,
    width: int,
    stop: tuple[int, ...],
) -> Array:
    """Beam search with a model that is given as functions; to be called while one is traced.

    Args:
      first_BxV: float32 logits of the first token.
      score_B: float32 of the empty hypothesis: 0, or -inf for a row that nothing is asked of.
      model: `decode(kept, tokens_BxWxM, number)` gives the logits [B, W, V] after token `number` of
        the hypotheses, and `kept` with that token; `follow(kept, parent_BxW, number)` lets token
        `number` go on from the beams that are named.
      kept: what the model keeps, keys and values for instance, of all but the new tokens.
      limit: int32 scalar, most new tokens.
      penalty: float32 scalar, power of the length that log-likelihoods are divided by.
      room: M.
      width: W.
      stop: ids that end a hypothesis.

    Returns:
      As `beam_search`.
    """
    (decode, follow), (B, V) = model, first_BxV.shape
    nothing, ends = jnp.zeros((B, width, room), jnp.int32), jnp.array(stop)
    none = jnp.full((B, width), -jnp.inf)
    beams = Beams(nothing, none.at[:, 0].set(score_B), nothing, none)

    def going_on(state: tuple[Array, Beams, Any]) -> Array:
        number, beams, _ = state
        bound = beams.score_BxW[:, 0] / limit.astype(jnp.float32) ** penalty
        return (number < limit - 1) & (beams.ended_score_BxW[:, 0] < bound).any()

    def step(state: tuple[Array, Beams, Any]) -> tuple[Array, Beams, Any]:
        number, beams, kept = state
        logits_BxWxV, kept = decode(kept, beams.tokens_BxWxM, number)
        beams, parent_BxW = expand(beams, logits_BxWxV, number + 1, penalty, ends)
        return number + 1, beams, follow(kept, parent_BxW, number + 1)

    first_BxWxV = jnp.broadcast_to(first_BxV[:, None], (B, width, V))
    beams, _ = expand(beams, first_BxWxV, jnp.int32(0), penalty, ends)
    number, beams, _ = jax.lax.while_loop(going_on, step, (jnp.int32(0), beams, kept))
    length = (number + 1).astype(jnp.float32)
    alive_better = beams.score_BxW[:, 0] / length**penalty > beams.ended_score_BxW[:, 0]
    return jnp.where(alive_better[:, None], beams.tokens_BxWxM[:, 0], beams.ended_BxWxM[:, 0])


def expand(
    beams: Beams, logits_BxWxV: Array, number: Array, penalty: Array, stop: Array
) -> tuple[Beams, Array]:
    """All continuations by one token, the best W alive and the best W ended kept.

    Args:
      beams: hypotheses of `number` tokens.
      logits_BxWxV: float32, of their next token.
      number: int32 scalar.
      penalty: float32 scalar.
      stop: int32 ids that end a hypothesis.

    Returns:
      The new beams, and parent_BxW: the beam that each alive one came from.
    """
    B, W, V = logits_BxWxV.shape
    total = beams.score_BxW[..., None] + jax.nn.log_softmax(logits_BxWxV, axis=-1)
    # Each beam can end in as many ways as there are stop ids: W others are always among these.
    count = min(W * (1 + len(stop)), W * V)
    score_BxC, index_BxC = jax.lax.top_k(total.reshape(B, W * V), count)
    beam_BxC, token_BxC = index_BxC // V, (index_BxC % V).astype(jnp.int32)
    tokens = jnp.take_along_axis(beams.tokens_BxWxM, beam_BxC[..., None], axis=1)
    tokens = tokens.at[:, :, number].set(token_BxC)
    ends = jnp.isin(token_BxC, stop)

    length = (number + 1).astype(jnp.float32)
    ended = jnp.where(ends, score_BxC / length**penalty, -jnp.inf)
    ended = jnp.concatenate([beams.ended_score_BxW, ended], axis=1)
    ended_tokens = jnp.concatenate([beams.ended_BxWxM, tokens], axis=1)
    ended_score, kept = jax.lax.top_k(ended, W)
    ended_tokens = jnp.take_along_axis(ended_tokens, kept[..., None], axis=1)

    score, kept = jax.lax.top_k(jnp.where(ends, -jnp.inf, score_BxC), W)
    tokens = jnp.take_along_axis(tokens, kept[..., None], axis=1)
    parent_BxW = jnp.take_along_axis(beam_BxC, kept, axis=1)
    return Beams(tokens, score, ended_tokens, ended_score), parent_BxW


def _follow(text: Any, parent_BxW: Array, prompt_slots: int) -> Any:
    """Keys and values of generated tokens moved to the beams that now go on from them."""
    B, W = parent_BxW.shape
    rows = (jnp.arange(B)[:, None] * W + parent_BxW).reshape(-1)
    return jax.tree.map(lambda leaf: leaf.at[:, prompt_slots:].set(leaf[rows, prompt_slots:]), text)
