"""Prefill and the decoding step: a prompt's keys and values once, then one token at a time.

Prompts of a batch are padded on the right to T slots, and every row's new tokens start at slot T.
Positions and visibility follow each row's own length, so a row's result depends neither on its
neighbours nor on the padding.

Axes: B batch, T prompt slots, S slots of the cache, N media, R latents a medium, D width,
V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flamingo_jax.inference.layers import Cache, Weights, forward
from flamingo_jax.models.decoder import Context
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.xattn import media_mask

Array = jax.Array

BUCKET = 32
"""Lengths are rounded up to a multiple of this, so that few programs are compiled."""


def round_up(length: int) -> int:
    """The slots kept for `length` tokens."""
    return max(1, -(-length // BUCKET)) * BUCKET


@struct.dataclass
class PromptBatch:
    """Prompts as arrays.

    Attributes:
      tokens_BxT: int32, padded on the right.
      length_B: int32 number of tokens that are not padding.
      media_index_BxT: int32, 1-based medium each token sees, 0 for none.
      media_BxNxRxD: latents of at least one medium, which no token need see.
    """

    tokens_BxT: Array | np.ndarray
    length_B: Array | np.ndarray
    media_index_BxT: Array | np.ndarray
    media_BxNxRxD: Array


@struct.dataclass
class Prefilled:
    """A prompt's keys and values, and all else that its next tokens depend on.

    Attributes:
      logits_BxV: float32, of the token after the prompt.
      cache: of S slots, the first T of them written.
      length_B: int32 tokens of each prompt.
      media_mask_BxN: bool, the medium that new tokens see, the prompt's last (φ of §2.3).
      slots: T.
    """

    logits_BxV: Array
    cache: Cache
    length_B: Array
    media_mask_BxN: Array
    slots: int = struct.field(pytree_node=False)

    def repeated(self, times: int) -> "Prefilled":
        """Each row `times` times in a row."""
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0), self)


@functools.partial(jax.jit, static_argnames=("config", "room"))
def prefill(config: FlamingoConfig, weights: Weights, prompt: PromptBatch, room: int) -> Prefilled:
    """Runs the prompts and keeps their keys and values.

    Args:
      config: of the model.
      weights: its weights.
      prompt: the batch.
      room: slots to keep for new tokens.
    """
    B, T = prompt.tokens_BxT.shape
    length_B = jnp.asarray(prompt.length_B)
    positions = jnp.broadcast_to(jnp.arange(T), (B, T))
    slot_S = jnp.arange(T + room)
    # Rows of padding attend to themselves and before, which nothing reads.
    visible = jnp.broadcast_to(slot_S <= positions[..., None], (B, T, T + room))
    media_index = jnp.asarray(prompt.media_index_BxT)
    logits, cache = forward(
        config,
        weights,
        jnp.asarray(prompt.tokens_BxT),
        prompt.media_BxNxRxD,
        media_mask(media_index, prompt.media_BxNxRxD.shape[1], config.xattn.sees),
        Context(positions, visible, jnp.int32(0)),
        at_BxA=length_B[:, None] - 1,
    )
    last = jnp.take_along_axis(media_index, length_B[:, None] - 1, axis=1)
    mask = media_mask(last, prompt.media_BxNxRxD.shape[1], config.xattn.sees)
    return Prefilled(logits[:, 0], cache, length_B, mask[:, 0], T)


def decode_step(
    config: FlamingoConfig,
    weights: Weights,
    start: Prefilled,
    text: tuple,
    token_B: Array,
    number: Array,
) -> tuple[Array, tuple]:
    """Logits after one new token.

    Args:
      config: of the model.
      weights: its weights.
      start: the prompts.
      text: keys and values of the text up to this token.
      token_B: int32, the new token.
      number: int32 scalar, how many new tokens came before it.

    Returns:
      logits_BxV float32, and `text` with this token in it.
    """
    slots = text[0]["attention"]["cached_key"].shape[1]
    slot_S = jnp.arange(slots)
    of_prompt = slot_S < start.length_B[:, None]
    generated = (slot_S >= start.slots) & (slot_S <= start.slots + number)
    context = Context(
        positions_BxT=(start.length_B + number)[:, None],
        mask_BxTxS=(of_prompt | generated)[:, None],
        cache_index=start.slots + number,
    )
    logits, cache = forward(
        config,
        weights,
        token_B[:, None],
        None,
        start.media_mask_BxN[:, None],
        context,
        Cache(text, start.cache.media),
    )
    return logits[:, 0], cache.text
