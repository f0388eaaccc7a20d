"""Turns to token sequences: text layout, loss mask, and which medium each token may see."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from flamingo_jax.data.tasks import Turn
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError

PROMPT = "Output:"
"""The words before each answer; Flamingo, arXiv:2204.14198, appendix B.1.6."""


@dataclasses.dataclass(frozen=True)
class TokenSequence:
    """One sequence, not padded.

    Attributes:
      tokens: ids, T of them.
      loss_mask: weight of predicting each token.
      media_index: 1-based medium that each token may see, 0 for none.
      media: uint8 [F, H, W, 3] each.
    """

    tokens: list[int]
    loss_mask: list[float]
    media_index: list[int]
    media: list[np.ndarray]


def encode_turns(
    turns: Sequence[Turn], tokenizer: Tokenizer, eoc_weight: float = 0.1, text_first: bool = False
) -> TokenSequence:
    """`<image>Output: answer<|endofchunk|>` for each turn, after the token that begins a sequence.

    Args:
      turns: media and answers.
      tokenizer: of the language model.
      eoc_weight: weight of the loss on `<|endofchunk|>`; answers have 1, all else 0.
      text_first: write each turn's text before its media and let it see the medium that comes
        next instead of the last one, as web pages do (p_next of arXiv:2204.14198, appendix A.3.2).
    """
    tokens = tokenizer.start()
    weights = [0.0] * len(tokens)
    for turn in turns:
        images = [tokenizer.image_id] * len(turn.media)
        prompt = tokenizer.encode(PROMPT)
        answer = tokenizer.encode(f" {turn.answer}")
        score = [1.0 if turn.scored else 0.0] * len(answer)
        if text_first:
            tokens += [*prompt, *answer, *images, tokenizer.eoc_id]
            weights += [0.0] * len(prompt) + score + [0.0] * len(images) + [eoc_weight]
        else:
            tokens += [*images, *prompt, *answer, tokenizer.eoc_id]
            weights += [0.0] * len(images + prompt) + score + [eoc_weight]
    media = [medium for turn in turns for medium in turn.media]
    index = (
        next_media(tokens, tokenizer.image_id)
        if text_first
        else last_media(tokens, tokenizer.image_id)
    )
    return TokenSequence(tokens, weights, index, media)


def last_media(tokens: Sequence[int], image_id: int) -> list[int]:
    """φ: 1-based index of the last medium at or before each token, 0 before the first."""
    return list(itertools.accumulate(int(token == image_id) for token in tokens))


def next_media(tokens: Sequence[int], image_id: int) -> list[int]:
    """φ of p_next: 1-based index of the first medium at or after each token, 0 after the last."""
    is_image = np.asarray(tokens) == image_id
    following = np.cumsum(is_image) + ~is_image
    return np.where(following > is_image.sum(), 0, following).tolist()


def pad(sequence: TokenSequence, length: int, media: int, pad_id: int, where: str) -> dict:
    """A sequence as arrays of fixed shape, by field of `Batch` without the batch axis.

    Raises:
      UserError: it has more tokens than `length` or more media than `media`.
    """
    tokens, found = len(sequence.tokens), len(sequence.media)
    if tokens > length:
        raise UserError(f"{where}: a sequence has {tokens} tokens: raise length from {length}.")
    if found > media:
        raise UserError(f"{where}: a sequence has {found} media: raise media from {media}.")
    rest = length - tokens
    images = sequence.media[0][None]  # where one is all there can be, it is not copied
    if media > 1:
        blank = [np.zeros_like(sequence.media[0])] * (media - found)
        images = np.stack([*sequence.media, *blank])
    return {
        "tokens_BxT": np.array(sequence.tokens + [pad_id] * rest, np.int32),
        "loss_mask_BxT": np.array(sequence.loss_mask + [0.0] * rest, np.float32),
        "images_BxNxFxHxWx3": images,
        "media_index_BxT": np.array(sequence.media_index + [0] * rest, np.int32),
    }
