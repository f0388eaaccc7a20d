"""Continuations of prompts: greedy, sampled, or by beam search.

The whole decoding loop is one program on the device, with no trip to the host a token; it stops
early when every row has ended.

Axes: B batch, M slots for new tokens, V vocabulary.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flamingo_jax.errors import UserError
from flamingo_jax.inference.beam import beam_search
from flamingo_jax.inference.cache import Prefilled, PromptBatch, decode_step, prefill, round_up
from flamingo_jax.inference.layers import Weights
from flamingo_jax.models.flamingo import FlamingoConfig

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How to choose the next tokens. The defaults are greedy decoding.

    Attributes:
      max_new_tokens: most tokens to generate, the end of the chunk included.
      num_beams: hypotheses kept by beam search; 1 for none.
      temperature: divides the logits before sampling; 0 takes the most likely token.
      top_k: sample from the k most likely tokens only; 0 for all.
      top_p: sample from the fewest tokens whose probabilities reach this sum (arXiv:1904.09751).
      length_penalty: beam search divides log-likelihoods by length to this power; 0 ranks by
        likelihood alone, 1 by the mean a token.
      seed: of sampling.

    Raises:
      UserError: a value is out of range, or two of them exclude each other.
    """

    max_new_tokens: int = 32
    num_beams: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    length_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "num_beams": (self.num_beams >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 or more"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "length_penalty": (self.length_penalty >= 0, "0 or more"),
        }
        for name, (good, allowed) in ranges.items():
            if not good:
                raise UserError(f"{name} must be {allowed}, not {getattr(self, name)}.")
        if self.num_beams > 1 and self.temperature > 0:
            raise UserError("Beam search takes no temperature: set num_beams=1 or temperature=0.")
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise UserError("top_k and top_p are for sampling: set a temperature above 0.")


@struct.dataclass
class Sampling:
    """What sampled tokens depend on besides the logits.

    Attributes:
      keys_B: random keys; each row has its own, so neighbours do not change its samples.
      temperature: float32 above 0.
      top_k: int32 from 1 to V.
      top_p: float32.
      truncated: False spares the sort that top_k and top_p need.
    """

    keys_B: Array
    temperature: Array
    top_k: Array
    top_p: Array
    truncated: bool = struct.field(pytree_node=False)


def generate(
    config: FlamingoConfig,
    weights: Weights,
    prompt: PromptBatch,
    options: GenerationConfig,
    stop: tuple[int, ...],
) -> list[list[int]]:
    """Continuations as token ids, without the token that ended them.

    Args:
      config: of the model.
      weights: its weights.
      prompt: the batch of prompts.
      options: how to choose tokens.
      stop: ids that end a continuation.
    """
    room = round_up(options.max_new_tokens)
    start = prefill(config, weights, prompt, room)
    limit = jnp.int32(options.max_new_tokens)
    if options.num_beams > 1:
        penalty = jnp.float32(options.length_penalty)
        out = beam_search(config, weights, start, limit, penalty, room, options.num_beams, stop)
    else:
        sampling = make_sampling(options, *start.logits_BxV.shape)
        out = _decode(config, weights, start, limit, sampling, room, stop)
    return [_until_stop(row[: options.max_new_tokens], stop) for row in np.asarray(out).tolist()]


def make_sampling(options: GenerationConfig, batch: int, vocab_size: int) -> Sampling | None:
    """The options' random choice for `batch` rows; None for greedy."""
    if options.temperature == 0:
        return None
    key = jax.random.key(options.seed)
    return Sampling(
        keys_B=jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch)),
        temperature=jnp.float32(options.temperature),
        top_k=jnp.int32(min(options.top_k or vocab_size, vocab_size)),
        top_p=jnp.float32(options.top_p),
        truncated=bool(options.top_k or options.top_p < 1),
    )


def choose(logits_BxV: Array, sampling: Sampling | None, number: Array) -> Array:
    """The next token, int32 [B]: the most likely (the lowest id of equals), or a sample.

    Args:
      logits_BxV: float32.
      sampling: None for greedy.
      number: int32 scalar, how many new tokens came before: a new random draw for each.
    """
    if sampling is None:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    logits_BxV = logits_BxV / sampling.temperature
    if sampling.truncated:
        logits_BxV = truncate(logits_BxV, sampling.top_k, sampling.top_p)
    draw = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, number), row))
    return draw(sampling.keys_B, logits_BxV).astype(jnp.int32)


def truncate(logits_BxV: Array, top_k: Array, top_p: Array) -> Array:
    """Logits with all but the `top_k` likeliest, and of these the `top_p` nucleus, at -inf."""
    ordered = -jnp.sort(-logits_BxV, axis=-1)
    kept = jnp.arange(logits_BxV.shape[-1]) < top_k
    probabilities = jax.nn.softmax(jnp.where(kept, ordered, -jnp.inf), axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    kept &= before < top_p
    lowest = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits_BxV >= lowest, logits_BxV, -jnp.inf)


@functools.partial(jax.jit, static_argnames=("config", "room", "stop"))
def _decode(
    config: FlamingoConfig,
    weights: Weights,
    start: Prefilled,
    limit: Array,
    sampling: Sampling | None,
    room: int,
    stop: tuple[int, ...],
) -> Array:
    """New tokens, int32 [B, M]; after a stop token, more of it."""
    ends = jnp.array(stop)

    def going_on(state: tuple) -> Array:
        number, token_B, *_ = state
        return (number < limit - 1) & ~jnp.isin(token_B, ends).all()

    def step(state: tuple) -> tuple:
        number, token_B, out_BxM, text = state
        logits_BxV, text = decode_step(config, weights, start, text, token_B, number)
        chosen_B = choose(logits_BxV, sampling, number + 1)
        token_B = jnp.where(jnp.isin(token_B, ends), token_B, chosen_B)
        return number + 1, token_B, out_BxM.at[:, number + 1].set(token_B), text

    first_B = choose(start.logits_BxV, sampling, jnp.int32(0))
    out_BxM = jnp.zeros((first_B.shape[0], room), jnp.int32).at[:, 0].set(first_B)
    state = (jnp.int32(0), first_B, out_BxM, start.cache.text)
    return jax.lax.while_loop(going_on, step, state)[2]


def _until_stop(row: list[int], stop: tuple[int, ...]) -> list[int]:
    ends = (place for place, token in enumerate(row) if token in stop)
    return row[: next(ends, len(row))]
