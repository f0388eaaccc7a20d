"""Log-likelihoods of given continuations: what open-ended evaluation without sampling ranks.

All continuations of a prompt share one pass: they follow it in one sequence, each with the
positions it would have right after the prompt, and each sees the prompt and itself only.

Axes: B batch, T tokens of the sequence, A scored tokens, N media, R latents a medium, D width.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flamingo_jax.inference.cache import PromptBatch, round_up
from flamingo_jax.inference.layers import Weights, forward
from flamingo_jax.models.decoder import Context
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.xattn import media_mask

Array = jax.Array

_PROMPT = -1  # branch of the prompt's tokens
_PADDING = -2


@dataclasses.dataclass(frozen=True)
class Score:
    """Log-likelihood of one continuation.

    Attributes:
      tokens: its token ids.
      token_log_probs: log p of each after the prompt and those before it, in nats.
    """

    tokens: tuple[int, ...]
    token_log_probs: tuple[float, ...]

    @property
    def log_likelihood(self) -> float:
        """Sum over the tokens, in nats."""
        return sum(self.token_log_probs)

    @property
    def mean(self) -> float:
        """Mean over the tokens, in nats."""
        return self.log_likelihood / len(self.tokens)


@struct.dataclass
class _Tree:
    """Prompts and continuations packed into sequences.

    Attributes:
      tokens_BxT: int32.
      positions_BxT: int32.
      branch_BxT: int32 number of the continuation, or one of the two constants above.
      media_index_BxT: int32.
      at_BxA: int32 places from which the scored tokens are predicted.
      targets_BxA: int32 scored tokens.
    """

    tokens_BxT: np.ndarray
    positions_BxT: np.ndarray
    branch_BxT: np.ndarray
    media_index_BxT: np.ndarray
    at_BxA: np.ndarray
    targets_BxA: np.ndarray


def score(
    config: FlamingoConfig,
    weights: Weights,
    prompt: PromptBatch,
    continuations: Sequence[Sequence[Sequence[int]]],
) -> list[list[Score]]:
    """Scores each row's own continuations, given as token ids, none of them empty."""
    tree = _pack(prompt, continuations)
    log_probs = np.asarray(_log_probs(config, weights, tree, prompt.media_BxNxRxD))
    scores = []
    for row, candidates in zip(log_probs.tolist(), continuations, strict=True):
        values = iter(row)
        scores.append([Score(tuple(ids), tuple(next(values) for _ in ids)) for ids in candidates])
    return scores


def _pack(prompt: PromptBatch, continuations: Sequence[Sequence[Sequence[int]]]) -> _Tree:
    tokens = np.asarray(prompt.tokens_BxT)
    lengths = np.asarray(prompt.length_B)
    added = [sum(map(len, candidates)) for candidates in continuations]
    slots = round_up(max(int(n) + extra for n, extra in zip(lengths, added, strict=True)))
    shape, scored = (len(tokens), slots), (len(tokens), round_up(max(added)))
    tree = _Tree(
        tokens_BxT=np.zeros(shape, np.int32),
        positions_BxT=np.zeros(shape, np.int32),
        branch_BxT=np.full(shape, _PADDING, np.int32),
        media_index_BxT=np.zeros(shape, np.int32),
        at_BxA=np.zeros(scored, np.int32),
        targets_BxA=np.zeros(scored, np.int32),
    )
    for b, (length, candidates) in enumerate(zip(lengths, continuations, strict=True)):
        place, count = int(length), 0
        tree.tokens_BxT[b, :place] = tokens[b, :place]
        tree.positions_BxT[b, :place] = np.arange(place)
        tree.branch_BxT[b, :place] = _PROMPT
        tree.media_index_BxT[b, :place] = prompt.media_index_BxT[b, :place]
        for branch, ids in enumerate(candidates):
            here = slice(place, place + len(ids))
            tree.tokens_BxT[b, here] = ids
            tree.positions_BxT[b, here] = length + np.arange(len(ids))
            tree.branch_BxT[b, here] = branch
            tree.media_index_BxT[b, here] = prompt.media_index_BxT[b, length - 1]
            tree.at_BxA[b, count : count + len(ids)] = [
                length - 1,
                *range(place, place + len(ids) - 1),
            ]
            tree.targets_BxA[b, count : count + len(ids)] = ids
            place, count = place + len(ids), count + len(ids)
    return tree


@functools.partial(jax.jit, static_argnames="config")
def _log_probs(config: FlamingoConfig, weights: Weights, tree: _Tree, media: Array) -> Array:
    """Log p of the scored tokens, float32 [B, A]."""
    T = tree.tokens_BxT.shape[1]
    branch_BxT = jnp.asarray(tree.branch_BxT)
    of_prompt = branch_BxT[:, None, :] == _PROMPT
    own = branch_BxT[:, None, :] == branch_BxT[:, :, None]
    before = jnp.tri(T, dtype=bool)
    logits, _ = forward(
        config,
        weights,
        jnp.asarray(tree.tokens_BxT),
        media,
        media_mask(jnp.asarray(tree.media_index_BxT), media.shape[1], config.xattn.sees),
        Context(jnp.asarray(tree.positions_BxT), before & (of_prompt | own)),
        at_BxA=jnp.asarray(tree.at_BxA),
    )
    targets = jnp.asarray(tree.targets_BxA)[..., None]
    picked = jnp.take_along_axis(logits, targets, axis=-1)[..., 0]
    return picked - jax.nn.logsumexp(logits, axis=-1)
