"""Examples made of drawings: episodes, pairs and clips."""

import numpy as np

from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.sequences import encode_turns, pad
from flamingo_jax.data.tasks import NAME_LANGUAGES, Episode, Pool, Turn, make_episode
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.data.video import make_clip
from flamingo_jax.errors import UserError

_DRAWS = 100  # of one example, before it is clear that none fits


def make_example(
    config: DatasetConfig, pool: Pool, tokenizer: Tokenizer, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One padded sequence, by field of `Batch` without the batch axis.

    Long names cost supports; where not even one turn fits, another example is drawn.

    Raises:
      UserError: none of many examples fits; the message says what to raise.
    """
    tokens = scored = 0
    for _ in range(_DRAWS):
        turns = _turns(config, pool, rng)
        text_first = bool(rng.random() < config.p_next)
        for first in range(len(turns)):
            sequence = encode_turns(turns[first:], tokenizer, config.eoc_weight, text_first)
            tokens = len(sequence.tokens)
            scored = sum(weight > 0 for weight in sequence.loss_mask)
            if tokens <= config.length and scored <= config.max_answer_tokens:
                where = f"Data set {config.name}"
                return pad(sequence, config.length, config.media, tokenizer.pad_id, where)
    raise UserError(
        f"Data set {config.name}: a sequence of one turn has {tokens} tokens, {scored} of "
        f"them scored: raise length from {config.length} or max_answer_tokens from "
        f"{config.max_answer_tokens}."
    )


def _turns(config: DatasetConfig, pool: Pool, rng: np.random.Generator) -> tuple[Turn, ...]:
    if config.kind == "episodes":
        return _episode(config, pool, rng).turns
    drawing = pool.any(rng)
    if config.kind == "video":
        clip, text = make_clip(drawing, pool.any(rng), config.frames, rng)
        return (Turn((clip,), text, True, (drawing,)),)
    return (Turn((drawing.image[None],), _description(drawing, rng), True, (drawing,)),)


def _episode(config: DatasetConfig, pool: Pool, rng: np.random.Generator) -> Episode:
    shares = np.array(list(config.families.values()))
    family = list(config.families)[int(rng.choice(len(shares), p=shares / shares.sum()))]
    turns = config.media // 2 if family == "same_different" else config.media
    return make_episode(family, pool, rng, turns)


def _description(drawing: Drawing, rng: np.random.Generator) -> str:
    """A name in one of the languages, or a short description in English."""
    name = drawing.names["en"]
    forms = [f"{drawing.category}: {name}", f"a drawing of {name}"]
    if drawing.colour:
        forms.append(f"{name}, {drawing.colour}")
    forms += [drawing.names[la] for la in NAME_LANGUAGES if la in drawing.names]
    return forms[int(rng.integers(len(forms)))]
